"""The action, run as a runner runs it: the steps of `action.yml` itself, against a real registry."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.action.conftest import ROOT, write_project
from tests.support.registry import PASSWORD, USERNAME, DockerRegistry, run_registry
from tests.support.runner import Ran, Runner
from tests.support.signingkeys import make_key, public_pem

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
        assert json.loads(outputs["result"])["images"][0] == outputs["image"]
        assert f"docker pull {registry.host}/team/app@{outputs['digest']}" in ran.summary
        assert ("add-mask", {}, PASSWORD) in ran.commands
        assert PASSWORD not in ran.log.replace(f"::add-mask::{PASSWORD}", "")
        assert [name for name, _, _ in ran.commands if name not in ("add-mask", "group", "endgroup")] == []
        denied = runner.run(working_directory="my images", tags="v2")
    assert denied.code != 0
    assert any(name == "error" for name, _, _ in denied.commands)
    assert denied.outputs["digest"] == ""


def test_what_was_pushed_is_told_though_its_verification_fails(runner: Runner, registry: DockerRegistry) -> None:
    settings = write_project(runner.workspace, host=registry.host) / "kobuild.toml"
    settings.write_text(
        f'{settings.read_text()}\n[verify]\nrequire = ["provenance"]\nkey = """{public_pem(make_key())}"""\n'
    )
    ran = runner.run(command="all")
    assert ran.code != 0
    assert ran.outputs["image"].endswith(f"@{ran.outputs['digest']}")
    assert any(name == "error" for name, _, _ in ran.commands)


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


LINE = "$(touch pwned)`touch pwned`\"; touch pwned; \"' && touch pwned '${{ github.token }}%0A--help"
HOSTILE = f"{LINE}\n::set-output name=digest::forged\n::add-mask::e\n##[add-path]/evil\n{LINE}"
ALLOWED = ("error", "notice", "warning", "group", "endgroup", "add-mask")
#: Each input with the command that reads it; those in WELL go well whatever they hold, in one build of all of them.
REFUSED = {
    "command": "",
    "target": "push",
    "tags": "push",
    "platforms": "push",
    "output": "build",
    "locked": "push",
    "versions": "push",
    "upgrade": "resolve",
    "check": "resolve",
    "image": "verify",
    "by-digest": "push",
    "digests": "index",
    "since": "matrix",
    "pushed": "matrix",
    "runners": "matrix",
    "layer-cache": "push",
    "registry": "push",
    "cache": "push",
    "extras": "push",
}
WELL = ("file", "working-directory", "username", "password", "layer-cache-key", "github-token", "python")


def assert_all_stayed_data(ran: Ran, folder: Path, *, masked: str = "") -> None:
    """Nothing ran, nothing was taken for a command, and no output was forged."""
    assert not list(folder.rglob("pwned"))
    assert {name for name, _, _ in ran.commands} <= set(ALLOWED), ran.log
    assert all(text in masked.splitlines() for name, _, text in ran.commands if name == "add-mask"), ran.log
    assert ran.outputs["digest"] != "forged"
    assert set(ran.outputs) == set(yaml.safe_load(ACTION.read_text())["outputs"])


def test_every_input_is_tried(document: dict[str, Any]) -> None:
    assert {*REFUSED, *WELL} == set(document["inputs"])


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_inputs_stay_data(name: str, runner: Runner) -> None:
    write_project(runner.workspace, host="127.0.0.1:1")
    text = "\n".join(f"hello={line}" for line in HOSTILE.splitlines()) if name == "versions" else HOSTILE
    login = {"username": "me", "password": "s3cret"} if name == "registry" else {}
    inputs = {"command": REFUSED[name], **login, name.replace("-", "_"): text}
    ran = runner.run(**inputs)
    assert ran.code != 0
    assert ran.outputs["digest"] == ""
    assert_all_stayed_data(ran, runner.workspace.parent, masked=login.get("password", ""))


def test_every_input_is_data_in_a_real_run(runner: Runner) -> None:
    name = HOSTILE.replace("/", "-")
    write_project(runner.workspace / name, name=f"{name}.toml")
    out = f"{LINE.replace('/', '-')}-out"
    password = f"s3cret\n{LINE}"
    ran = runner.run(
        command="build",
        working_directory=name,
        file=f"{name}.toml",
        output=f"oci:{out}",
        registry="registry.example.com",
        username=HOSTILE,
        password=password,
        layer_cache_key=LINE,
        github_token=HOSTILE,
        python=HOSTILE,
    )
    assert ran.code == 0, ran.log
    assert Path(ran.outputs["layout"]) == runner.workspace / name / out
    assert (runner.workspace / name / out / "index.json").is_file()
    assert_all_stayed_data(ran, runner.workspace.parent, masked=password)


def test_nothing_in_the_workspace_is_taken_for_a_module(runner: Runner) -> None:
    """A pull request brings its own files: the action reads settings from them, and runs none."""
    write_project(runner.workspace)
    for name in ("json", "pip", "nox", "venv", "kobuild", "requests", "sitecustomize", "noxfile", "conftest"):
        (runner.workspace / f"{name}.py").write_text("open('pwned', 'w')")
    (runner.workspace / "pyproject.toml").write_text("[build-system]\nrequires = ['nothing']\n")
    ran = runner.run(command="build", output="oci:out")
    assert (runner.workspace / "out" / "index.json").is_file(), ran.log
    assert not [path for folder in (runner.workspace, runner.temporary, ROOT) for path in folder.rglob("pwned")]


def test_what_is_installed_fits_together(environment: Path) -> None:
    """The versions are installed as they are listed, with nothing resolved: so the list must be whole."""
    python = environment / "venv" / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
