"""What end-to-end tests share: the command line as a person runs it, and the world around it on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commandline import Kobuild
from tests.support.registry import DockerRegistry, run_registry
from tests.support.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def kobuild(tmp_path: Path) -> Kobuild:
    project = tmp_path / "project"
    project.mkdir()
    return Kobuild(project, cache=tmp_path / "cache")
