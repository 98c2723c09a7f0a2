"""The same tool layers on a newer base: no layer is made or moved, and the image is the one that a build would give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kobuild import cli
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
from tests.support.archives import Entry, make_tar_gz
from tests.support.images import AMD64, ARM64, make_image, make_layer, make_tar
from tests.support.registry import DockerRegistry
from tests.support.upstream import Upstream

GO = {f"linux/{arch}": make_tar_gz([Entry("go/bin/go", arch.encode() * 9000)]) for arch in ("amd64", "arm64")}


def base(version: str, platform: Platform, *, created: str = "2026-05-01T00:00:00Z") -> Image:
    layers = [make_layer(make_tar({"etc/version": f"{version} {platform}".encode() * 500}))]
    if version != "1":
        layers.append(make_layer(make_tar({"etc/more": version.encode() * 500})))
    config = {"Env": [f"PATH=/usr/bin:/v{version}", f"V={version}"], "Cmd": ["sh"]}
    return make_image(layers, platform=platform, config=config, members={"created": created})


class Project:
    """Settings whose base and target are repositories of one registry, built and pushed once."""

    def __init__(self, folder: Path, registry: DockerRegistry, client: RegistryClient, more: str = "") -> None:
        self.folder, self.registry, self.client = folder, registry, client
        self.base = Reference.parse(f"{registry.host}/{folder.name.replace('_', '-').lower()}/base:1")
        self.target = Reference.parse(f"{registry.host}/{folder.name.replace('_', '-').lower()}/ci:1")
        self.write(more)
        self.publish("1")
        self.run("push")

    def write(self, more: str = "") -> None:
        text = f"""
[image]
base = "{self.base}"
target = "{self.target}"
platforms = ["linux/amd64", "linux/arm64"]
path = ["/usr/local/go/bin"]
env = {{ A = "b" }}
annotations = {{ note = "kept" }}
{more}
[tools.go]
source = "go"
root = "/usr/local"
"""
        (self.folder / "kobuild.toml").write_text(text)

    def publish(self, version: str) -> None:
        """Let the base's tag point at a version."""
        self.client.push(gather([base(version, AMD64), base(version, ARM64)]), [self.base])

    def run(self, *words: str, code: int = 0) -> None:
        assert cli.main([words[0], "-q", "-C", str(self.folder), *words[1:]]) == code

    def pushed(self) -> Digest:
        return self.client.get_manifest(self.target).digest

    def images(self) -> list[Manifest]:
        index = self.client.get_manifest(self.target)
        assert isinstance(index, Index)
        found = [self.client.get_manifest(self.target.with_digest(entry.digest)) for entry in index.manifests]
        return [item for item in found if isinstance(item, Manifest)]

    @property
    def lock(self) -> bytes:
        return (self.folder / "kobuild.lock").read_bytes()


@pytest.fixture
def project(
    tmp_path: Path, docker_registry: DockerRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    with Upstream() as upstream:
        for name, value in upstream.environ.items():
            monkeypatch.setenv(name, value)
        upstream.add_go_release("1.27.3", GO)
        yield Project(tmp_path, docker_registry, client)


def test_it_is_what_a_build_on_the_new_base_gives(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    old_tools = [manifest.layers[-1] for manifest in project.images()]
    project.publish("2")
    project.registry.forget()
    capsys.readouterr()
    project.run("rebase")
    assert capsys.readouterr().out == f"{project.target}@{project.pushed()}\n"
    assert [manifest.layers[-1] for manifest in project.images()] == old_tools
    assert [len(manifest.layers) for manifest in project.images()] == [3, 3]
    rebased, lock = project.pushed(), project.lock
    uploads = [target for method, target, _ in project.registry.requests() if method in ("PUT", "PATCH")]
    assert len([target for target in uploads if "/blobs/uploads/" in target]) <= 4  # two configs
    reads = [target for method, target, _ in project.registry.requests() if method == "GET" and "/blobs/" in target]
    layers = {str(layer.digest) for manifest in project.images() for layer in manifest.layers}
    assert not [target for target in reads if target.rpartition("/")[2] in layers]
    project.run("resolve", "--upgrade")
    assert project.lock == lock
    project.run("push")
    assert project.pushed() == rebased
    project.run("verify", str(project.target))


def test_a_base_that_has_not_moved_costs_nothing(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before, lock = project.pushed(), project.lock
    capsys.readouterr()
    project.run("rebase")
    assert capsys.readouterr().out == ""
    project.run("rebase", "--json")
    assert json.loads(capsys.readouterr().out) == {"moved": False, "images": []}
    assert (project.pushed(), project.lock) == (before, lock)


def test_check_tells_and_changes_nothing(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before, lock = project.pushed(), project.lock
    project.publish("2")
    capsys.readouterr()
    project.run("rebase", "--check", "--json", code=4)
    assert json.loads(capsys.readouterr().out)["moved"]
    assert (project.pushed(), project.lock) == (before, lock)


def test_another_tag_leaves_the_old_image_alone(project: Project) -> None:
    before = project.pushed()
    project.publish("2")
    project.run("rebase", "--tag", "next", str(project.target))
    assert project.pushed() == before
    assert project.client.head_manifest(project.target.with_tag("next")) is not None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ('workdir = "/elsewhere"', "these differ: WorkingDir"),
        ('labels = { a = "b" }', "these differ: Labels"),
        ('user = "1000"', "these differ: User"),
    ],
)
def test_an_image_of_other_settings_is_refused(
    project: Project, change: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, lock = project.pushed(), project.lock
    project.publish("2")
    project.write(change)
    project.run("rebase", code=1)
    error = capsys.readouterr().err
    assert text in error
    assert "build the image from this lock" in error
    assert (project.pushed(), project.lock) == (before, lock)


def test_an_image_on_another_base_is_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.publish("2")
    strangers = gather([base("3", AMD64), base("3", ARM64)])
    project.client.push(strangers, [project.target])
    project.run("rebase", code=1)
    assert "its lowest layers are not those of the locked base" in capsys.readouterr().err
    project.client.push(gather([base("1", AMD64), base("1", ARM64)]), [project.target])
    project.run("rebase", code=1)
    assert "it has 0 layers on its base, and the settings have 1 tools" in capsys.readouterr().err


def test_scratch_has_no_base(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    text = (project.folder / "kobuild.toml").read_text().replace(f'base = "{project.base}"', 'base = "scratch"')
    (project.folder / "kobuild.toml").write_text(text)
    project.run("rebase", code=2)
    assert "built from scratch" in capsys.readouterr().err


@pytest.mark.parametrize("families", [(Family.OCI, Family.DOCKER), (Family.DOCKER, Family.OCI)])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_base_of_the_other_family_gives_what_a_build_gives(
    families: tuple[Family, Family], compression: str, project: Project
) -> None:
    def publish(family: Family, version: str) -> None:
        images = [
            make_image(
                [make_layer(make_tar({"etc/version": version.encode() * 500}), family=family)],
                platform=platform,
                family=family,
                members={"created": "2026-05-01T00:00:00Z"},
            )
            for platform in (AMD64, ARM64)
        ]
        project.client.push(gather(images), [project.base])

    project.write(f'compression = "{compression}"')
    publish(families[0], "1")
    project.run("resolve", "--upgrade", "base")
    project.run("push")
    publish(families[1], "2")
    project.run("rebase")
    rebased = project.pushed()
    project.run("push")
    assert project.pushed() == rebased
    project.run("verify", str(project.target))
