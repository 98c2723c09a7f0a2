"""A real registry and a client for it; a room that needs others has its own under the same names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kobuild.registry import AnonymousKeychain, RegistryClient
from kobuild.transport import Transport
from tests.support.registry import DockerRegistry, run_registry


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """Without a login, for all tests of a module."""
    with run_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def client() -> Iterator[RegistryClient]:
    """A client that logs in nowhere."""
    transport = Transport()
    yield RegistryClient(transport, AnonymousKeychain())
    transport.close()
