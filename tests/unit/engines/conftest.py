"""What tests of engines share: storage of their own for buildah and podman, and a scripted docker."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scripteddocker import ScriptedDocker

STORAGE = """
[storage]
driver = "vfs"
runroot = "{run}"
graphroot = "{graph}"
"""


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Storage for containers under the test's own folder."""
    path = tmp_path / "storage.conf"
    with tempfile.TemporaryDirectory(prefix="kb-") as run_root:  # podman wants a short path for it
        path.write_text(STORAGE.format(run=run_root, graph=tmp_path / "graph"))
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(path))
        monkeypatch.delenv("DOCKER_CONFIG")  # containers' programs refuse a folder without the file
        monkeypatch.delenv("BUILDAH_ISOLATION", raising=False)
        yield path


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedDocker:
    scripted = ScriptedDocker(tmp_path / "docker-bin")
    scripted.does()
    monkeypatch.setenv("PATH", f"{scripted.folder}:{os.environ['PATH']}")
    return scripted
