"""Every test starts from the same environment: no credentials, no proxies, a cache of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.loads import Loads

_CLEARED = (
    "DOCKER_CONFIG",
    "DOCKER_AUTH_CONFIG",
    "KOBUILD_REGISTRY",
    "KOBUILD_REGISTRY_USERNAME",
    "KOBUILD_REGISTRY_PASSWORD",
    "REGISTRY_AUTH_FILE",
    "XDG_RUNTIME_DIR",
    "SOURCE_DATE_EPOCH",
    "GITHUB_TOKEN",
    "KOBUILD_GITHUB_TOKEN",
    "GITHUB_API_URL",
    "GITHUB_SERVER_URL",
    "KOBUILD_GO_URL",
    "KOBUILD_TRUSTED_ROOT",
    "GITHUB_ACTIONS",
    "GITHUB_OUTPUT",
    "GITHUB_STEP_SUMMARY",
    "NO_COLOR",
    "FORCE_COLOR",
)

# A shell's background jobs ignore the interrupt, and so would every program that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the person's own environment would bring in, and give each test its own cache."""
    for name in _CLEARED:
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KOBUILD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))


@pytest.fixture(scope="session")
def loads(tmp_path_factory: pytest.TempPathFactory) -> Loads:
    """Large real inputs, made once a run however many workers there are."""
    kept = os.environ.get("KOBUILD_TEST_LOADS")
    root = tmp_path_factory.getbasetemp()
    shared = root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root
    return Loads(Path(kept) if kept else shared / "loads")
