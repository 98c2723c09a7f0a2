"""What a command imports before it has anything to do: a push with nothing new must not wait for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

MAKING = ("kobuild.decompress", "kobuild.layers.engine", "kobuild.layers.tarreader", "kobuild.layers.toc", "isal")
WRITING = ("kobuild.store.dockerarchive", "kobuild.store.ociarchive", "kobuild.store.layoutwriter")
ELSEWHERE = ("kobuild.layercache", "kobuild.fleet", "kobuild.explain", "kobuild.signatures.keyless", "rich", "nox")
LIBRARIES = ("tarfile", "platformdirs")


@pytest.mark.parametrize("command", ["push", "build", "matrix"])
def test_only_what_every_run_needs_is_imported_first(command: str) -> None:
    code = f"import sys, kobuild.commands.{command}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found = set(done.stdout.split())
    needless = {*MAKING, *WRITING, *ELSEWHERE, *LIBRARIES} - ({"kobuild.fleet"} if command == "matrix" else set())
    assert found & needless == set()
