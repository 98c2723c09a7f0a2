from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.registry import DockerRegistry, run_registry


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path_factory.mktemp("explain")) as server:
        yield server


@pytest.fixture
def registry(docker_registry: DockerRegistry) -> DockerRegistry:
    """A real registry, its log started anew."""
    docker_registry.forget()
    return docker_registry
