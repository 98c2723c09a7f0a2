"""Mirrors of the settings in whole builds: what an air-gapped site does."""

from __future__ import annotations

import json

from tests.support.commandline import Kobuild
from tests.support.registry import DockerRegistry, skopeo

PUBLIC = "registry.kobuild.test/library/base:1"
"""Nobody answers there."""


def write_settings(kobuild: Kobuild, registry: DockerRegistry, mirrors: str) -> str:
    target = f"{registry.host}/team/ci:1"
    (kobuild.folder / "hello").write_bytes(b"\x7fELF hello")
    kobuild.settings(f"""
[image]
base = "{PUBLIC}"
target = "{target}"
{mirrors}
[tools.hello]
source = "path:hello"
root = "/srv"
""")
    return target


def publish(kobuild: Kobuild, registry: DockerRegistry) -> None:
    """Push a base to where the mirror has it."""
    place = f"{registry.host}/mirror/library/base:1"
    (kobuild.folder / "base").write_bytes(b"\x7fELF base")
    table = '[tools.base]\nsource = "path:base"\nroot = "/opt"\n'
    kobuild.settings(f'[image]\nbase = "scratch"\ntarget = "{place}"\n{table}')
    kobuild.ok("push")
    (kobuild.folder / "kobuild.lock").unlink()


def test_a_base_comes_from_the_mirror_and_is_named_as_it_was(kobuild: Kobuild, registry: DockerRegistry) -> None:
    publish(kobuild, registry)
    mirrors = f'[sources]\nmirrors-only = true\n[sources.mirrors]\n"registry.kobuild.test" = ["{registry.host}/mirror"]'
    target = write_settings(kobuild, registry, mirrors)
    kobuild.ok("push")
    raw = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{target}"))
    assert len(raw["layers"]) == 2
    assert raw["annotations"]["org.opencontainers.image.base.name"] == PUBLIC
    assert f'name = "{PUBLIC}"' in (kobuild.folder / "kobuild.lock").read_text(), "the lock fits with and without"
    kobuild.ok("verify", target, "--rebuild")
    kobuild.ok("resolve", "--upgrade", "--check")


def test_without_the_mirror_the_place_that_was_asked_is_named(kobuild: Kobuild, registry: DockerRegistry) -> None:
    kobuild.environ["HTTPS_PROXY"] = "http://127.0.0.1:1"  # no name is looked up outside
    mirrors = f'[sources]\nmirrors-only = true\n[sources.mirrors]\n"registry.kobuild.test" = ["{registry.host}/other"]'
    write_settings(kobuild, registry, mirrors)
    done = kobuild.run("push")
    assert done.code == 1
    assert f"{registry.host}/other/library/base" in done.err
