"""A registry, a local Sigstore, and a project whose image was pushed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kobuild.registry import RegistryClient
from tests.support.localsigstore import LocalSigstore
from tests.support.pushedproject import PushedProject, push_project
from tests.support.registry import DockerRegistry, run_registry

_CLEARED = ("SIGSTORE_ID_TOKEN", "COSIGN_PASSWORD", "KOBUILD_TRUSTED_ROOT", "GITHUB_WORKFLOW_REF")
_AMBIENT = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "GITLAB_CI", "CIRCLECI", "BUILDKITE")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No identity of the machine's own."""
    for name in (*_CLEARED, *_AMBIENT):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path_factory.mktemp("policy")) as server:
        yield server


@pytest.fixture(scope="session")
def sigstore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSigstore]:
    with closing(LocalSigstore(tmp_path_factory.mktemp("sigstore"))) as local:
        yield local


@pytest.fixture
def project(
    tmp_path: Path, registry: DockerRegistry, client: RegistryClient, capsys: pytest.CaptureFixture[str]
) -> PushedProject:
    return push_project(tmp_path, registry, client, capsys)


@pytest.fixture
def trusted(tmp_path: Path, sigstore: LocalSigstore, monkeypatch: pytest.MonkeyPatch) -> LocalSigstore:
    """The local Sigstore, as the one that this process trusts; a job on GitHub has a token there."""
    sigstore.refuses.clear()
    sigstore.claims.clear()
    sigstore.server.log.clear()
    monkeypatch.setenv("KOBUILD_TRUSTED_ROOT", str(sigstore.trust_config(tmp_path / "trust.json")))
    return sigstore


@pytest.fixture
def job(trusted: LocalSigstore, monkeypatch: pytest.MonkeyPatch) -> LocalSigstore:
    """This process is a job on GitHub that may have a token."""
    for name, value in trusted.actions.items():
        monkeypatch.setenv(name, value)
    return trusted
