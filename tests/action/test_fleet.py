"""The documented fleet, from its own workflow file: what has changed is pushed by digest, and joined under its tags."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from kobuild import cli
from kobuild.oci.reference import Reference
from kobuild.registry import AnonymousKeychain, RegistryClient
from kobuild.transport import Transport
from tests.action.conftest import ROOT, place_in, python
from tests.support.checkouts import write
from tests.support.registry import DockerRegistry
from tests.support.runner import Runner
from tests.support.workflow import Workflow

KEY = "a key that nobody could guess"


def settings(host: str, name: str, platforms: str) -> str:
    return (
        f'[image]\nbase = "scratch"\ntarget = "{host}/team/{name}:latest"\nplatforms = {platforms}\n\n'
        '[tools.shared]\nsource = "path:../shared.txt"\nroot = "/opt"\n\n'
        f'[tools.own]\nsource = "path:{name}-{{arch}}.txt"\nroot = "/srv"\n'
    )


@pytest.fixture
def checkout(tmp_path: Path, registry: DockerRegistry) -> Path:
    """Two images whose names begin alike, of three platforms together, with their locks."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    platforms = {"go": '["linux/amd64", "linux/arm64"]', "go-tools": '["linux/amd64"]'}
    for name, listed in platforms.items():
        write(folder, {f"images/{name}.toml": settings(registry.host, name, listed)})
        write(folder, {f"images/{name}-{arch}.txt": f"{name} {arch}" for arch in ("amd64", "arm64")})
    write(folder, {"shared.txt": "shared"})
    for name in platforms:
        assert cli.main(["resolve", "-q", "-f", str(folder / "images" / f"{name}.toml")]) == 0
    return folder


def run_workflow(folder: Path, checkout: Path, host: str, environment: Path) -> Workflow:
    """Run the example as a push to main does, the registry's name being all that is changed in it."""

    def new_runner(place: Path) -> Runner:
        (place / "temp").mkdir(parents=True)
        place_in(place / "temp").symlink_to(environment)
        shutil.copytree(checkout, place / "workspace", symlinks=True)
        return Runner(ROOT, place / "workspace", place / "temp", given=python())

    text = (ROOT / "examples" / "workflows" / "fleet.yml").read_text().replace("ghcr.io/", f"{host}/")
    contexts = {
        "github": {"repository": "team/images"},
        "secrets": {"KOBUILD_LAYER_CACHE_KEY": KEY},
    }
    workflow = Workflow(yaml.safe_load(text), folder, new_runner, contexts)
    workflow.run()
    return workflow


def test_the_documented_flow(
    tmp_path: Path,
    checkout: Path,
    registry: DockerRegistry,
    environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("KOBUILD_CACHE_DIR")
    first = run_workflow(tmp_path / "first", checkout, registry.host, environment)

    jobs = [(job, part.get("name"), part.get("platform")) for job, part, _ in first.ran]
    assert jobs == [
        ("plan", None, None),
        *[("push", "go-tools", "linux/amd64"), ("push", "go", "linux/amd64"), ("push", "go", "linux/arm64")],
        *[("index", "go-tools", None), ("index", "go", None)],
    ]
    pushed = [ran.outputs for job, _, ran in first.ran if job == "push"]
    assert all(output["image"] == f"{output['name']}@{output['digest']}" and not output["tags"] for output in pushed)
    layers = [
        layer for output in pushed for item in json.loads(output["result"])["platforms"] for layer in item["layers"]
    ]
    assert [layer["shared"] for layer in layers if layer["tool"] == "shared"] == [False, True, True]
    logs = "".join(ran.log for *_, ran in first.ran)
    assert KEY not in logs.replace(f"::add-mask::{KEY}", "")
    transport = Transport()
    client = RegistryClient(transport, AnonymousKeychain())
    for (_, part, ran), target in zip(first.ran[-2:], ("go-tools", "go"), strict=True):
        assert part["name"] == target
        assert ran.outputs["tags"] == f"{registry.host}/team/{target}:latest"
        head = client.head_manifest(Reference.parse(ran.outputs["tags"]))
        assert head is not None
        assert str(head.digest) == ran.outputs["digest"]
        capsys.readouterr()
        words = ["-q", "--json", "-f", str(checkout / "images" / f"{target}.toml"), "--tag", "whole"]
        assert cli.main(["push", *words]) == 0
        assert json.loads(capsys.readouterr().out)["digest"] == ran.outputs["digest"]
    transport.close()

    quiet = run_workflow(tmp_path / "quiet", checkout, registry.host, environment)
    assert [job for job, *_ in quiet.ran] == ["plan"]
    assert quiet.outputs["plan"]["changed"] == "false"
