"""Statements of how an image was made: what they say, and of which images they are refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kobuild import cli
from kobuild.explain.provenance import BUILD_TYPE, LOCAL_BUILDER, MEDIA_TYPE, PREDICATE_TYPE, find_builder
from kobuild.image.mutate import gather
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
from tests.support.archives import Entry, make_tar_gz
from tests.support.images import AMD64, ARM64, random_image
from tests.support.registry import DockerRegistry
from tests.support.upstream import Upstream

GO = {f"linux/{arch}": make_tar_gz([Entry("go/bin/go", arch.encode() * 9000)]) for arch in ("amd64", "arm64")}
ACTIONS = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.test",
    "GITHUB_REPOSITORY": "team/ci",
    "GITHUB_WORKFLOW_REF": "team/ci/.github/workflows/image.yml@refs/heads/main",
    "GITHUB_RUN_ID": "42",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_SHA": "c" * 40,
    "GITHUB_REF": "refs/heads/main",
}


@pytest.fixture
def project(
    tmp_path: Path, registry: DockerRegistry, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A project whose image was just pushed from here."""
    folder = tmp_path / "project"
    folder.mkdir()
    name = tmp_path.name.replace("_", "-").lower()
    base = Reference.parse(f"{registry.host}/{name}/base:1")
    client.push(gather([random_image(1, platform=AMD64), random_image(2, platform=ARM64)]), [base])
    (folder / "files").mkdir()
    (folder / "files" / "a").write_text("a")
    (folder / "kobuild.toml").write_text(f"""
[image]
base = "{base}"
target = "{registry.host}/{name}/ci:1"
platforms = ["linux/amd64", "linux/arm64"]
[tools.go]
source = "go"
root = "/usr/local"
[tools.files]
source = "path:files"
root = "/opt"
""")
    with Upstream() as upstream:
        for key, value in upstream.environ.items():
            monkeypatch.setenv(key, value)
        upstream.add_go_release("1.27.3", GO)
        assert cli.main(["push", "-q", "-C", str(folder)]) == 0
        yield folder


def target_of(folder: Path) -> Reference:
    line = next(line for line in (folder / "kobuild.toml").read_text().splitlines() if line.startswith("target"))
    return Reference.parse(line.split('"')[1])


def stated(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    capsys.readouterr()
    assert cli.main(["provenance", "-q", "-C", str(folder), str(target_of(folder)), *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_a_statement_says(
    project: Path, client: RegistryClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = stated(project, capsys)
    reference = target_of(project)
    digest = client.get_manifest(reference).digest
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert value["predicateType"] == PREDICATE_TYPE
    assert value["subject"] == [{"name": reference.repository.name, "digest": {"sha256": digest.hex}}]
    definition = value["predicate"]["buildDefinition"]
    assert definition["buildType"] == BUILD_TYPE
    sums = {key: definition["externalParameters"][key]["digest"]["sha256"] for key in ("settings", "lock")}
    files = {"settings": "kobuild.toml", "lock": "kobuild.lock"}
    assert sums == {key: hashlib.sha256((project / name).read_bytes()).hexdigest() for key, name in files.items()}
    assert definition["externalParameters"]["platforms"] == ["linux/amd64", "linux/arm64"]
    assert definition["internalParameters"] == {}
    found = {(item["name"], item["annotations"].get("platform")): item for item in definition["resolvedDependencies"]}
    assert found["base", None]["uri"].startswith(f"docker://{reference.registry}/")
    go = found["go1.27.3.linux-arm64.tar.gz", "linux/arm64"]
    assert go["digest"] == {"sha256": hashlib.sha256(GO["linux/arm64"]).hexdigest()}
    assert go["annotations"]["vouchedBy"] == "publisher"
    assert list(found["files/", "linux/amd64"]["digest"]) == ["kobuildTreeSha256"]
    assert value["predicate"]["runDetails"]["builder"]["id"] == LOCAL_BUILDER
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/ci")
    assert stated(project, capsys, "--builder", "https://b.test/1")["predicate"]["runDetails"]["builder"]["id"] == (
        "https://b.test/1"
    )


def test_a_workflow_names_itself() -> None:
    builder = find_builder(ACTIONS)
    assert builder.id == "https://github.test/team/ci/.github/workflows/image.yml@refs/heads/main"
    assert builder.invocation == "https://github.test/team/ci/actions/runs/42/attempts/2"
    assert builder.source == {
        "uri": "git+https://github.test/team/ci@refs/heads/main",
        "digest": {"gitCommit": "c" * 40},
    }
    assert find_builder({}).id == LOCAL_BUILDER
    assert find_builder({**ACTIONS, "GITHUB_ACTIONS": ""}).id == LOCAL_BUILDER


def test_attached_to_index_and_images(
    project: Path, client: RegistryClient, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = target_of(project)
    attached = stated(project, capsys, "--attach", "--json")["attached"]
    assert len(attached) == 3
    assert stated(project, capsys, "--attach", "--json")["attached"] == attached
    referrers = client.referrers(reference.repository)
    index = client.get_manifest(reference)
    (found,) = referrers.find(index.digest, MEDIA_TYPE)
    assert found.annotations["in-toto.io/predicate-type"] == PREDICATE_TYPE
    assert f"{reference.repository}@{found.digest}" == attached[-1]["artifact"]
    manifest = client.get_manifest(reference.with_digest(found.digest))
    assert isinstance(manifest, Manifest)
    with client.open_blob(reference.repository, manifest.layers[0]) as file:
        statement = json.loads(file.read())
    assert statement["subject"][0]["digest"]["sha256"] == index.digest.hex


def test_what_was_not_made_here_is_not_attested(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["provenance", "-q", "-C", str(project), str(target_of(project))]
    shutil.rmtree(tmp_path / "cache")
    assert cli.main(command) == 1
    assert "this machine's cache has none made from the locked file" in capsys.readouterr().err


def test_an_image_of_other_settings_is_not_attested(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (project / "kobuild.toml").read_text()
    (project / "kobuild.toml").write_text(text.replace("[tools.go]", 'user = "7"\n[tools.go]'))
    assert cli.main(["provenance", "-q", "-C", str(project), str(target_of(project))]) == 1
    assert "these differ: User" in capsys.readouterr().err


def test_of_a_layout_it_is_written_to_a_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", "-q", "-C", str(project)]) == 0
    capsys.readouterr()
    assert cli.main(["provenance", "-q", "-C", str(project), "oci:dist/image", "-o", "out.json"]) == 0
    assert json.loads((project / "out.json").read_bytes())["subject"][0]["name"] == "project"
    assert cli.main(["provenance", "-q", "-C", str(project), "oci:dist/image", "--attach"]) == 2
    assert "name the image by its reference" in capsys.readouterr().err
