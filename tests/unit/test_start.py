"""What a command imports before it has anything to do: a push with nothing new must not wait for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MAKING = ("kobuild.decompress", "kobuild.layers.engine", "kobuild.layers.tarreader", "kobuild.layers.toc", "isal")
WRITING = ("kobuild.store.dockerarchive", "kobuild.store.ociarchive", "kobuild.store.layoutwriter")
ELSEWHERE = ("kobuild.layercache", "kobuild.fleet", "kobuild.explain", "kobuild.signatures.keyless", "rich", "nox")
LIBRARIES = ("tarfile", "platformdirs", "requests", "urllib3", "ssl", "http.client", "email.utils")


@pytest.mark.parametrize("command", ["push", "build", "matrix"])
def test_only_what_every_run_needs_is_imported_first(command: str) -> None:
    code = f"import sys, kobuild.commands.{command}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found = set(done.stdout.split())
    needless = {*MAKING, *WRITING, *ELSEWHERE, *LIBRARIES} - ({"kobuild.fleet"} if command == "matrix" else set())
    assert found & needless == set()


@pytest.mark.parametrize(("watch", "said"), [("sys.setprofile(lambda *_: None)", "back with 0"), ("pass", "")])
def test_a_run_ends_at_once_unless_a_profiler_looks_on(tmp_path: Path, watch: str, said: str) -> None:
    code = f"import sys; {watch}; from kobuild.__main__ import main; code = main(); print('back with', code)"
    environ = {**os.environ, "KOBUILD_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, "cache", "--json"], env=environ, check=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    listed, _, last = done.stdout.rstrip("\n").rpartition("\n") if said else (done.stdout, "", "")
    assert str(tmp_path) in json.loads(listed).values()
    assert last == said
