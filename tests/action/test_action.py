"""The action, run as a runner runs it: the shell step of `action.yml` itself, with the runner's variables."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / "action.yml"


@pytest.fixture(scope="module")
def helper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("action_helper", ROOT / ".github" / "action_helper.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_inputs_become_arguments_of_one_command(helper: ModuleType) -> None:
    environ = {
        "KOBUILD_ACTION_COMMAND": "push",
        "KOBUILD_ACTION_FILE": "images/ci.toml",
        "KOBUILD_ACTION_TAGS": "v1\n\n latest \n",
        "KOBUILD_ACTION_TARGET": "ghcr.io/a/b:x",
        "KOBUILD_ACTION_PLATFORMS": "linux/amd64\nlinux/arm64",
        "KOBUILD_ACTION_LOCKED": "true",
    }
    assert helper.arguments(environ) == [
        "push",
        "--json",
        "--directory=.",
        "--file=images/ci.toml",
        "--locked",
        "--platform=linux/amd64",
        "--platform=linux/arm64",
        "--target=ghcr.io/a/b:x",
        "--tag=v1",
        "--tag=latest",
    ]


@pytest.mark.parametrize("text", ["rm -rf /", "$(id)", "build; id", "--help", "\n::set-output name=x::y"])
def test_a_command_that_is_none_is_refused(helper: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match="expected one of resolve, build, push, verify"):
        helper.arguments({"KOBUILD_ACTION_COMMAND": text})


@pytest.mark.parametrize("text", ["$(touch pwned)", "`id`", '"; id; "', "--upgrade", "a b"])
def test_hostile_inputs_stay_one_argument(helper: ModuleType, text: str) -> None:
    arguments = helper.arguments({"KOBUILD_ACTION_COMMAND": "push", "KOBUILD_ACTION_TAGS": text})
    assert arguments[-1] == f"--tag={text}"


def test_outputs_cannot_be_forged_by_a_value(helper: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "output"
    helper.write_outputs(file, {"image": "x\nEOF\ndigest=forged", "digest": "sha256:1"})
    blocks = re.findall(r"^(\w+)<<(kobuild-[0-9a-f]{32})\n(.*?)\n\2$", file.read_text(), re.MULTILINE | re.DOTALL)
    assert [(name, value) for name, _, value in blocks] == [
        ("image", "x\nEOF\ndigest=forged"),
        ("digest", "sha256:1"),
    ]


def test_every_input_reaches_the_step_through_the_environment_alone() -> None:
    text = ACTION.read_text()
    inputs = re.findall(r"^  ([a-z-]+):$", text.split("inputs:\n")[1].split("outputs:\n")[0], re.MULTILINE)
    assert inputs
    environment, script = text.split("      env:\n")[1].split("      run: |\n")
    assert "${{" not in script
    for name in inputs:
        assert f"${{{{ inputs.{name} }}}}" in environment


def test_the_step_of_action_yml_builds_an_image_and_gives_its_outputs(tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("hello\n")
    (tmp_path / "kobuild.toml").write_text(
        '[image]\nbase = "scratch"\n\n[tools.hello]\nsource = "path:hello.txt"\nroot = "/srv"\n'
    )
    script = ACTION.read_text().split("      run: |\n")[1]
    outputs = tmp_path / "outputs"
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RUNNER_TEMP": str(tmp_path / "runner"),
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_WORKSPACE": str(tmp_path),
        "GITHUB_OUTPUT": str(outputs),
        "KOBUILD_ACTION_COMMAND": "build",
    }
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict(re.findall(r"^(\w+)<<kobuild-\w+\n(.*)$", outputs.read_text(), re.MULTILINE))
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", found["digest"])
    assert found["image"] == f"oci:dist/image@{found['digest']}"
    assert (tmp_path / "dist" / "image" / "index.json").is_file()
