"""Platforms pushed one by one and joined are the very image that one push of all makes; anything else is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kobuild import cli
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
from tests.support.images import AMD64, ARM64, make_image, make_layer, make_tar
from tests.support.registry import DockerRegistry, run_registry

BOTH = ("linux/amd64", "linux/arm64")


def base(platform: Platform, family: Family = Family.OCI) -> Image:
    layer = make_layer(make_tar({"etc/version": f"{platform}".encode() * 500}), family=family)
    return make_image([layer], platform=platform, family=family, config={"Env": ["PATH=/bin"]})


class Project:
    """Settings whose one tool differs by platform, and the commands on them."""

    def __init__(
        self, folder: Path, registry: DockerRegistry, client: RegistryClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder, self.registry, self.client, self._capsys = folder, registry, client, capsys
        self.room = f"{registry.host}/{folder.name.replace('_', '-').lower()}"
        for arch in ("amd64", "arm64"):
            (folder / f"tool-{arch}").write_text(f"#!{arch}\n" * 99)
        self.publish(base(AMD64), base(ARM64))
        self.write()

    def publish(self, *images: Image) -> None:
        self.client.push(gather(images), [Reference.parse(f"{self.room}/base:1")])

    def write(self, more: str = "", platforms: tuple[str, ...] = BOTH) -> None:
        (self.folder / "kobuild.toml").write_text(
            f'[image]\nbase = "{self.room}/base:1"\n'
            f'target = ["{self.room}/app:1", "{self.room}/copy:1"]\nplatforms = {json.dumps(platforms)}\n'
            f'annotations = {{ note = "of ours" }}\n{more}\n'
            '[tools.tool]\nsource = "path:tool-{arch}"\nroot = "/opt"\n'
        )

    def run(self, *words: str, code: int = 0) -> str:
        self._capsys.readouterr()
        cache = f"--cache-dir={self.folder / 'caches' / words[-1].replace('/', '-')[-40:]}"
        assert cli.main([words[0], "-f", str(self.folder / "kobuild.toml"), cache, *words[1:]]) == code
        out, err = self._capsys.readouterr()
        return err if code else out.strip()

    def run_usage(self, *words: str) -> str:
        """What argparse says, which exits itself."""
        with pytest.raises(SystemExit):
            cli.main([*words])
        return self._capsys.readouterr().err

    def push_each(self, *words: str) -> list[str]:
        """Each platform by digest, with a cache of its own."""
        return [self.run("push", "--by-digest", "-q", *words, "--platform", platform) for platform in BOTH]

    def head(self, name: str) -> Digest | None:
        found = self.client.head_manifest(Reference.parse(f"{self.room}/{name}"))
        return found.digest if found is not None else None


@pytest.fixture
def project(
    tmp_path: Path, docker_registry: DockerRegistry, client: RegistryClient, capsys: pytest.CaptureFixture[str]
) -> Project:
    made = Project(tmp_path, docker_registry, client, capsys)
    made.run("resolve")
    return made


@pytest.mark.parametrize(
    "more",
    [
        "",
        'compression = "zstd"\npath = ["/opt"]\nworkdir = "/srv"\nlabels = { a = "b" }',
        'compression = "estargz"\nbase-annotations = "keep"',
    ],
)
def test_the_index_is_that_of_one_push(project: Project, more: str) -> None:
    project.write(more)
    names = project.push_each()
    assert project.head("app:1") is None
    joined = project.run("index", "-q", *names).splitlines()
    digest = joined[0].rpartition("@")[2]
    assert joined == [f"{project.room}/{name}:1@{digest}" for name in ("app", "copy")]
    again = json.loads(project.run("push", "-q", "--json", "--tag", "whole"))
    assert again["digest"] == digest == str(project.head("app:1")) == str(project.head("copy:1"))
    project.run("verify", f"{project.room}/copy:1")


def test_the_time_that_is_set_for_the_pushes_is_not_needed_for_the_index(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234567890")
    names, whole = project.push_each(), project.run("push", "-q", "--tag", "1")
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert project.run("index", "-q", *names) == whole


def test_bases_of_both_families_are_made_alike_though_each_runner_makes_one(project: Project) -> None:
    project.publish(base(AMD64, Family.DOCKER), base(ARM64))
    project.run("resolve", "--upgrade")
    joined = project.run("index", "-q", *project.push_each())
    whole = project.run("push", "-q")
    assert joined == whole
    project.publish(base(AMD64, Family.DOCKER), base(ARM64, Family.DOCKER))
    project.run("resolve", "--upgrade")
    assert project.run("index", "-q", *project.push_each()) == project.run("push", "-q")


def test_platforms_of_the_base_that_are_kept_are_joined_too(project: Project) -> None:
    other = base(Platform("linux", "s390x"))
    project.publish(base(AMD64), base(ARM64), other)
    project.write('other-platforms = "keep"', BOTH[:1])
    project.run("resolve", "--upgrade")
    name = project.run("push", "--by-digest", "-q", "--json")
    pushed = json.loads(name)
    assert pushed["images"] == [f"{project.room}/app@{pushed['digest']}"]
    assert project.head(f"app@{pushed['digest']}") is not None
    joined = json.loads(project.run("index", "-q", "--json", *pushed["images"]))
    assert joined["digest"] != pushed["digest"]
    assert json.loads(project.run("push", "-q", "--json"))["digest"] == joined["digest"]


def test_one_platform_has_no_index(project: Project) -> None:
    project.write(platforms=BOTH[:1])
    name = project.run("push", "--by-digest", "-q")
    joined = project.run("index", "-q", name)
    assert joined.splitlines()[0] == f"{project.room}/app:1@{name.rpartition('@')[2]}"
    assert joined == project.run("push", "-q")


def test_several_platforms_by_digest_are_told_one_a_line(project: Project) -> None:
    names = project.run("push", "--by-digest", "-q").splitlines()
    assert len(names) == 2
    assert names == project.push_each()
    assert project.head("app:1") is None
    assert project.run("index", "-q", *reversed(names)) == project.run("push", "-q")


def test_what_lies_in_another_repository_is_mounted_and_in_another_registry_copied(
    project: Project, tmp_path: Path
) -> None:
    names = project.push_each()
    project.registry.forget()
    project.run("index", "-q", "--target", f"{project.room}/elsewhere:2", *names)
    sent = [target for method, target, status in project.registry.requests() if method == "PUT" and "/blobs/" in target]
    assert len(sent) == 2  # the two configs, which are in memory anyway
    with run_registry(tmp_path / "other") as other:
        joined = project.run("index", "-q", "--target", f"{other.host}/far/app:2", *names)
        assert joined.startswith(f"{other.host}/far/app:2@sha256:")
        project.run("verify", f"{other.host}/far/app:2")


def test_a_tag_that_is_to_stay_stays(project: Project) -> None:
    names = project.push_each()
    before = project.run("index", "-q", "--keep-tags", *names)
    assert project.run("index", "-q", "--keep-tags", *names) == before
    project.write('labels = { a = "b" }')
    error = project.run("index", "--keep-tags", *project.push_each(), code=1)
    assert "is not to be moved" in error
    assert project.head("app:1") == Digest.parse(before.splitlines()[0].rpartition("@")[2])


def test_the_result_for_machines(project: Project) -> None:
    names = project.push_each()
    value: dict[str, Any] = json.loads(project.run("index", "--json", "-q", *names))
    assert value["changed"] is True
    assert [item["platform"] for item in value["platforms"]] == list(BOTH)
    assert [layer["tool"] for item in value["platforms"] for layer in item["layers"]] == ["tool", "tool"]
    assert json.loads(project.run("index", "--json", "-q", *names)) == {**value, "changed": False}


def test_missing_double_and_foreign_platforms_are_told_together(project: Project) -> None:
    first, second = project.push_each()
    error = project.run("index", first, first, code=2)
    assert "nothing is for linux/arm64" in error
    (project.folder / "tool-amd64").write_text("another")
    other = project.run("push", "--by-digest", "-q", "--platform", "linux/amd64")
    error = project.run("index", first, other, code=2)
    assert f"{first} and {other} are both for linux/amd64" in error
    assert "nothing is for linux/arm64" in error
    project.write(platforms=BOTH[:1])
    error = project.run("index", first, second, code=2)
    assert f"{second} is for linux/arm64, which the settings do not name" in error
    assert project.head("app:1") is None


def test_an_image_of_other_settings_is_refused(project: Project) -> None:
    names = project.push_each()
    project.write('workdir = "/moved"')
    error = project.run("index", *names, code=1)
    assert "is not what the lock and the settings make" in error
    assert "WorkingDir" in error
    assert project.head("app:1") is None


def test_what_is_no_image_by_digest_is_refused(project: Project) -> None:
    whole = project.run("push", "-q").splitlines()[0]
    assert "is an index itself" in project.run("index", whole, code=2)
    assert "names no digest" in project.run("index", f"{project.room}/app:1", code=2)
    assert "0" * 64 in project.run("index", f"{project.room}/app@sha256:{'0' * 64}", code=1)
    assert "not allowed with argument" in project.run_usage("push", "--by-digest", "--tag", "x")
    (project.folder / "kobuild.lock").unlink()
    assert "kobuild.lock is missing" in project.run("index", whole, code=2)
