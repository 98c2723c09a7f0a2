"""A push sends a layer while it is made, where the target cannot have it."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.support.archives import Entry, make_tar_gz
from tests.support.commandline import Kobuild
from tests.support.registry import DockerRegistry
from tests.support.upstream import Upstream

SETTINGS = """
[image]
base   = "scratch"
target = "{host}/ahead:{tag}"

[tools.big]
source  = "github:a/big"
version = "{version}"
root    = "/opt"
"""


@pytest.fixture
def project(kobuild: Kobuild, upstream: Upstream) -> Kobuild:
    """One tool, whose layer is large enough for a head start, in two versions."""
    for version in ("1.0", "1.1"):
        archive = make_tar_gz([Entry("big/program", os.urandom(18_000_000), mode=0o755)])
        upstream.add_github_release("a/big", f"v{version}", {"big_linux_amd64.tar.gz": archive})
    kobuild.environ.update(upstream.environ)
    return kobuild


def push(project: Kobuild, registry: DockerRegistry, tag: str, version: str) -> list[str]:
    """Push from an empty cache; the methods of the requests that changed uploads, in order.

    Only a head start has a PATCH; how many depends on how far the layer is when a step is sent.
    """
    shutil.rmtree(project.cache, ignore_errors=True)
    project.settings(SETTINGS.format(host=registry.host, tag=tag, version=f"=={version}"))
    registry.forget()
    project.ok("resolve", "--upgrade")
    project.ok("push")
    project.ok("verify", f"{registry.host}/ahead:{tag}")
    assert registry.uploads("ahead") == []
    return [method for method, path, _ in registry.requests() if "/blobs/uploads/" in path and method != "GET"]


def test_a_layer_is_sent_while_it_is_made(project: Kobuild, registry: DockerRegistry) -> None:
    assert "PATCH" in push(project, registry, "1", "1.0")


def test_a_tag_of_another_version_gets_a_head_start(project: Kobuild, registry: DockerRegistry) -> None:
    push(project, registry, "1", "1.0")
    assert "PATCH" in push(project, registry, "1", "1.1")


@pytest.mark.parametrize("tag", ["1", "2"])
def test_what_the_repository_may_have_is_asked_for_first(tag: str, project: Kobuild, registry: DockerRegistry) -> None:
    push(project, registry, "1", "1.0")
    assert "PATCH" not in push(project, registry, tag, "1.0")
