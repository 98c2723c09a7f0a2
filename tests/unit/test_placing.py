"""A base whose links or directories differ: its rebased layers would lie elsewhere than a build puts them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kobuild import cli
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.layers.plan import LayerPlan
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Reference
from kobuild.placing import compare_fits, may_land
from kobuild.registry import RegistryClient
from tests.support import archives
from tests.support.archives import Entry, folder, make_tar_gz, symlink
from tests.support.images import make_image, make_layer
from tests.support.registry import DockerRegistry

Move = Callable[[], None]
MERGED = [folder("usr"), folder("usr/bin"), symlink("bin", "usr/bin"), folder("etc")]
APART = [folder("usr"), folder("usr/bin"), folder("bin"), folder("etc")]
TOOL = [Entry("bin/tool", b"#!/bin/sh\n" * 500, mode=0o755), Entry("etc/tool/conf", b"x")]


def base(entries: list[Entry], note: str) -> Image:
    layer = make_layer(archives.make_tar([*entries, Entry("version", note.encode())]))
    return make_image([layer], members={"created": "2026-05-01T00:00:00Z"})


class Project:
    """One local tool on a base in a registry, built and pushed once."""

    def __init__(
        self, folder: Path, registry: DockerRegistry, client: RegistryClient, entries: list[Entry], root: str = "/"
    ) -> None:
        self.folder, self.client = folder, client
        name = folder.name.replace("_", "-").lower()
        self.base = Reference.parse(f"{registry.host}/{name}/base:1")
        self.target = Reference.parse(f"{registry.host}/{name}/ci:1")
        (folder / "tool.tar.gz").write_bytes(make_tar_gz(entries))
        (folder / "kobuild.toml").write_text(
            f'[image]\nbase = "{self.base}"\ntarget = "{self.target}"\n'
            f'[tools.tool]\nsource = "path:tool.tar.gz"\nroot = "{root}"\n'
        )

    def publish(self, entries: list[Entry], note: str) -> None:
        self.client.push(gather([base(entries, note)]), [self.base])

    def run(self, *words: str, code: int = 0) -> None:
        assert cli.main([words[0], "-q", "-C", str(self.folder), *words[1:]]) == code

    def pushed(self) -> Digest:
        return self.client.get_manifest(self.target).digest


@pytest.fixture(params=["the cache knows the layer", "another machine's cache"])
def moving(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Move:
    """To be called between the push and the rebase."""

    def move() -> None:
        if request.param != "the cache knows the layer":
            monkeypatch.setenv("KOBUILD_CACHE_DIR", str(tmp_path / "other-cache"))

    return move


def test_a_base_with_the_same_links_takes_the_layer(
    tmp_path: Path, docker_registry: DockerRegistry, client: RegistryClient, moving: Move
) -> None:
    project = Project(tmp_path, docker_registry, client, TOOL)
    project.publish(MERGED, "1")
    project.run("push")
    moving()
    project.publish(MERGED, "2")
    project.run("rebase")
    rebased = project.pushed()
    project.run("push")
    assert project.pushed() == rebased


@pytest.mark.parametrize("merged_first", [True, False])
def test_a_base_without_the_link_is_refused_and_the_remedy_works(
    merged_first: bool,
    tmp_path: Path,
    docker_registry: DockerRegistry,
    client: RegistryClient,
    moving: Move,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = (MERGED, APART) if merged_first else (APART, MERGED)
    project = Project(tmp_path, docker_registry, client, TOOL)
    project.publish(first, "1")
    project.run("push")
    before, lock = project.pushed(), (tmp_path / "kobuild.lock").read_bytes()
    moving()
    project.publish(second, "2")
    for more in ([], ["--check"]):
        project.run("rebase", *more, code=1)
    error = capsys.readouterr().err
    places = ("/usr/bin", "/bin") if merged_first else ("/bin", "/usr/bin")
    assert "rebase for linux/amd64: the layer of tool does not fit the new base: " in error
    assert f"/bin is {places[0]} on the base that it was made for, and {places[1]} on the new one" in error
    assert "kobuild resolve --upgrade base" in error
    assert "kobuild build" in error
    assert (project.pushed(), (tmp_path / "kobuild.lock").read_bytes()) == (before, lock)
    project.run("resolve", "--upgrade", "base")
    project.run("push")
    project.run("verify", str(project.target))
    assert project.pushed() != before


def test_a_directory_that_the_new_base_has_is_not_replaced(
    tmp_path: Path, docker_registry: DockerRegistry, client: RegistryClient, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(tmp_path, docker_registry, client, [folder("tool", 0o700), Entry("tool/conf", b"x")], "/etc")
    project.publish(MERGED, "1")
    project.run("push")
    project.publish([*MERGED, folder("etc/tool")], "2")
    project.run("rebase", code=1)
    words = "the new one has the directory /etc/tool, and the base that it was made for has not"
    assert words in capsys.readouterr().err


def test_what_lies_where_no_base_is_met_costs_no_look_at_any_base(
    tmp_path: Path,
    docker_registry: DockerRegistry,
    client: RegistryClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = Project(tmp_path, docker_registry, client, TOOL, "/opt/tool")
    project.publish(MERGED, "1")
    project.run("push")
    monkeypatch.setenv("KOBUILD_CACHE_DIR", str(tmp_path / "other-cache"))
    (tmp_path / "tool.tar.gz").unlink()  # nor at the archive
    project.publish(APART, "2")
    docker_registry.forget()
    capsys.readouterr()
    project.run("rebase", "--json")
    assert json.loads(capsys.readouterr().out)["moved"]
    manifest = client.get_manifest(project.target)
    layers = {str(layer.digest) for layer in manifest.layers}  # type: ignore[union-attr]
    read = [target for method, target, _ in docker_registry.requests() if method == "GET" and "/blobs/" in target]
    assert not layers & {target.rpartition("/")[2] for target in read}


@pytest.mark.parametrize(
    ("root", "may"),
    [
        ("/", True),
        ("/usr", True),
        ("/etc/x", True),
        ("/bin", True),
        ("/var/run/x", True),
        ("/usr/local", True),
        ("/usr/local/man/x", True),
        ("/usr/local/bin", False),
        ("/usr/locale", True),
        ("/opt", False),
        ("/opt/bin", False),
        ("/srv/x", False),
    ],
)
def test_under_which_roots_a_layer_may_meet_its_base(root: str, may: bool) -> None:
    assert may_land(LayerPlan(root=root)) is may
    assert not may_land(LayerPlan(root=root, base_has_standard_dirs=False))


def plan(moved: Mapping[str, str] | None = None, *directories: str) -> LayerPlan:
    return LayerPlan(moved=tuple((moved or {}).items()), base_directories=directories)


def test_what_differs_is_named() -> None:
    assert compare_fits(plan({"bin": "usr/bin"}, "usr"), plan({"bin": "usr/bin"}, "usr")) is None
    assert compare_fits(plan({"bin": "a", "bin/x": "a/x"}), plan({"bin": "b", "bin/x": "b/x"})) == (
        "/bin is /a on the base that it was made for, and /b on the new one"
    )
    assert compare_fits(plan(None, "etc/a", "etc/b"), plan(None, "etc/b")) == (
        "the base that it was made for has the directory /etc/a, and the new one has not"
    )
