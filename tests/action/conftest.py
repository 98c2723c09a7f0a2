"""What the action's tests share: the helper as a module, and one environment for all runs, since pip makes it."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.registry import DockerRegistry, run_registry
from tests.support.runner import Runner

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    """A script of `.github` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".github" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def helper() -> ModuleType:
    return load("action_helper")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the action's own environments, made once however many workers there are."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root) / "kobuild-action"
    folder.mkdir(exist_ok=True)
    project = tmp_path_factory.mktemp("prepared")
    write_project(project)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "prepared").is_file():
            (project / "temp").mkdir()
            place_in(project / "temp").symlink_to(folder)
            ran = Runner(ROOT, project, project / "temp", given=python()).run(command="build")
            assert ran.code == 0, ran.log
            (folder / "prepared").touch()
    return folder


def place_in(temporary: Path) -> Path:
    """Where the action looks for its environment."""
    place: Path = load("action_helper").environment_folder({"RUNNER_TEMP": str(temporary)})
    return place


def python() -> dict[str, dict[str, str]]:
    """What setup-python would have given."""
    return {"actions/setup-python": {"python-path": sys.executable}}


def write_project(folder: Path, *, host: str = "localhost:1", name: str = "kobuild.toml") -> Path:
    """A project of one local file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hello.txt").write_text("hello\n")
    (folder / name).write_text(
        f'[image]\nbase = "scratch"\ntarget = "{host}/team/app:latest"\n\n'
        '[tools.hello]\nsource = "path:hello.txt"\nroot = "/srv"\n'
    )
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def runner(tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A job in an empty workspace."""
    monkeypatch.delenv("KOBUILD_CACHE_DIR")
    for name in ("workspace", "temp"):
        (tmp_path / name).mkdir()
    place_in(tmp_path / "temp").symlink_to(environment)
    return Runner(ROOT, tmp_path / "workspace", tmp_path / "temp", given=python())
