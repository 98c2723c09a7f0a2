"""The action, run as a runner runs it: the steps of `action.yml` itself, against a real registry."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.action.conftest import ROOT, write_project
from tests.support.registry import PASSWORD, USERNAME, DockerRegistry, run_registry
from tests.support.runner import Runner

ACTION = ROOT / "action.yml"

#: How the examples name this action: readers put in the release or commit that they chose.
OWN_RELEASE = "kobuild/kobuild@v1"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(ACTION.read_text())
    return read


def test_inputs_reach_the_shell_through_the_environment_alone(document: dict[str, Any]) -> None:
    steps = [step for step in document["runs"]["steps"] if "run" in step]
    assert steps
    assert not any("${{" in step["run"] for step in steps)
    *_, last = steps
    passed = {match for value in last["env"].values() for match in re.findall(r"inputs\.([a-z-]+)", str(value))}
    assert passed | {"cache", "python"} == set(document["inputs"])


def test_every_other_action_is_pinned_by_its_commit() -> None:
    files = [ACTION, *(ROOT / ".github" / "workflows").glob("*.yml"), *(ROOT / "examples" / "workflows").glob("*.yml")]
    for path in files:
        for used, rest in re.findall(r"^\s*(?:- )?uses: (\S+)(.*)$", path.read_text(), re.MULTILINE):
            if used not in ("./", OWN_RELEASE):
                assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used), f"{path.name}: {used}"
                assert re.match(r" # v[\d.]+\b", rest), f"{path.name}: {used} has no version beside it"


def test_a_build_gives_its_outputs(runner: Runner) -> None:
    write_project(runner.workspace)
    ran = runner.run(command="build")
    assert ran.code == 0, ran.log
    outputs = ran.outputs
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", outputs["digest"])
    assert outputs["image"] == f"oci:dist/image@{outputs['digest']}"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", outputs["image-id"])
    assert (outputs["changed"], json.loads(outputs["versions"])) == ("true", {"hello": ""})
    assert (Path(outputs["layout"]) / "index.json").is_file()
    assert json.loads(outputs["result"])["digest"] == outputs["digest"]
    assert "### oci:dist/image" in ran.summary
    setup, cache = ran.used
    assert setup.action.startswith("actions/setup-python@")
    assert setup.inputs == {"python-version": "3.13", "update-environment": "false"}
    assert cache.inputs["path"] == str(runner.temporary / "kobuild-cache")
    assert (runner.temporary / "kobuild-cache" / "blobs").is_dir()
    again = runner.run(command="build", cache="false", python="")
    assert again.outputs["digest"] == outputs["digest"]
    assert (again.outputs["changed"], again.used) == ("false", [])


def test_the_whole_flow_logs_in_pushes_and_verifies(runner: Runner, tmp_path: Path) -> None:
    with run_registry(tmp_path / "registry", htpasswd=True) as registry:
        write_project(runner.workspace / "my images", host=registry.host)
        ran = runner.run(
            command="all",
            working_directory="my images",
            tags="v1\nv1.2",
            output="oci:out",
            registry=registry.host,
            username=USERNAME,
            password=PASSWORD,
        )
        assert ran.code == 0, ran.log
        outputs = ran.outputs
        assert outputs["tags"].splitlines() == [f"{registry.host}/team/app:v1", f"{registry.host}/team/app:v1.2"]
        assert outputs["image"] == f"{registry.host}/team/app:v1@{outputs['digest']}"
        assert (outputs["name"], outputs["changed"]) == (f"{registry.host}/team/app", "true")
        assert outputs["layout"] == str(runner.workspace / "my images" / "out")
        assert f"docker pull {registry.host}/team/app@{outputs['digest']}" in ran.summary
        assert ("add-mask", {}, PASSWORD) in ran.commands
        assert PASSWORD not in ran.log.replace(f"::add-mask::{PASSWORD}", "")
        assert [name for name, _, _ in ran.commands if name not in ("add-mask", "group", "endgroup")] == []
        denied = runner.run(working_directory="my images", tags="v2")
    assert denied.code != 0
    assert any(name == "error" for name, _, _ in denied.commands)
    assert denied.outputs["digest"] == ""


def test_what_would_change_is_an_output_not_a_failure(runner: Runner) -> None:
    write_project(runner.workspace)
    news = runner.run(command="resolve", check="true")
    assert (news.code, news.outputs["changed"]) == (0, "true"), news.log
    assert not (runner.workspace / "kobuild.lock").exists()
    written = runner.run(command="resolve")
    assert (written.outputs["changed"], json.loads(written.outputs["versions"])) == ("true", {"hello": ""})
    assert "| hello |" in json.loads(written.outputs["result"])["markdown"]
    nothing = runner.run(command="resolve", check="true", upgrade="true")
    assert (nothing.code, nothing.outputs["changed"]) == (0, "false")


def test_faults_of_the_settings_are_annotated_at_their_lines(runner: Runner) -> None:
    folder = write_project(runner.workspace / "images")
    (folder / "kobuild.toml").write_text('[image]\nbase = "scratch"\n\nplatfrms = ["linux/amd64"]\n')
    ran = runner.run(command="build", file="kobuild.toml", working_directory="images")
    assert ran.code != 0
    (error,) = [command for command in ran.commands if command[0] == "error"]
    assert (error[1]["file"], error[1]["line"]) == ("images/kobuild.toml", "4")


def test_hostile_inputs_stay_data(runner: Runner, registry: DockerRegistry) -> None:
    write_project(runner.workspace, host=registry.host)
    text = "$(touch pwned)\n`touch pwned`\n\"; touch pwned; \"\n::set-output name=digest::forged\n' && touch pwned '"
    for inputs in ({"tags": text}, {"versions": "\n".join(f"hello={line}" for line in text.splitlines())}):
        ran = runner.run(command="push", since=text, image=text, **inputs)
        assert ran.code != 0
        assert ran.outputs["digest"] == ""
        assert not list(runner.workspace.rglob("pwned"))
        assert not [name for name, _, _ in ran.commands if name not in ("error", "group", "endgroup")]


def test_a_hostile_file_name_is_a_file_name(runner: Runner) -> None:
    name = "$(touch pwned) ';%0A.toml"
    write_project(runner.workspace, name=name)
    ran = runner.run(command="build", file=name, output="oci:$(id) out")
    assert ran.code == 0, ran.log
    assert (runner.workspace / "$(id) out" / "index.json").is_file()
    assert not list(runner.workspace.rglob("pwned"))
