from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from kobuild.registry import AnonymousKeychain, Keychain, RegistryClient
from kobuild.transport import Transport
from tests.support.certificates import Authority, make_authority
from tests.support.recorders import HeldClock
from tests.support.registry import DockerRegistry, TokenServer, run_registry, run_token_server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


@pytest.fixture(scope="session")
def htpasswd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path_factory.mktemp("htpasswd"), htpasswd=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path_factory.mktemp("tls"), tls=authority.issue("registry")) as registry:
        yield registry


@pytest.fixture(scope="session")
def token_server(authority: Authority) -> Iterator[TokenServer]:
    with run_token_server(authority) as tokens:
        yield tokens


@pytest.fixture(scope="session")
def token_registry(tmp_path_factory: pytest.TempPathFactory, token_server: TokenServer) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path_factory.mktemp("token"), token=token_server) as registry:
        yield registry


@pytest.fixture
def registry(plain_server: DockerRegistry) -> DockerRegistry:
    """The registry without a login, its log started anew."""
    plain_server.forget()
    return plain_server


@pytest.fixture
def name() -> str:
    """A repository's path that no other test uses."""
    return f"team/app{next(_numbers)}"


def make_client(keychain: Keychain | None = None, **options: object) -> RegistryClient:
    """A client of its own, that never waits."""
    transport = Transport(**{"clock": HeldClock(), "certs": (), **options})  # type: ignore[arg-type]
    return RegistryClient(transport, keychain or AnonymousKeychain())


@pytest.fixture
def client() -> RegistryClient:
    return make_client()
