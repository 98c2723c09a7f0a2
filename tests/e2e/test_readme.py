"""The README's first command, on a fresh checkout and a new virtual environment, does the main job on real input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.engines import run
from tests.support.loads import GO_VERSION
from tests.support.programs import require_program

ROOT = Path(__file__).resolve().parents[2]


def console_commands(text: str) -> list[str]:
    """The commands of the README's console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def checkout(folder: Path) -> Path:
    """What a clone of this tree holds: everything that git knows or would take."""
    listed = run("git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        source = ROOT / name
        if source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return folder


def shell(command: str, folder: Path, environment: Path) -> str:
    """Run a command as a person would, with the environment activated."""
    variables = {
        **os.environ,
        "VIRTUAL_ENV": str(environment),
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    variables.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_are_two_commands_and_the_gate_runs_the_second() -> None:
    build, test = console_commands((ROOT / "README.md").read_text())[:2]
    assert build.endswith("nox -s build")
    assert test.endswith("nox")
    assert "the test command" in (ROOT / ".ci" / "run").read_text()


def test_the_first_command_builds_the_root_image_and_go_runs_in_it(tmp_path: Path) -> None:
    require_program("git")
    project = checkout(tmp_path / "checkout")
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", str(environment))
    command = console_commands((project / "README.md").read_text())[0]

    out = shell(command, project, environment)

    reference = out.strip().splitlines()[-1]
    assert re.fullmatch(r"oci:dist/image@sha256:[0-9a-f]{64}", reference)
    root = unpack(project / "dist" / "image", tmp_path)
    assert f"go version go{GO_VERSION}" in run(str(root / "usr" / "local" / "go" / "bin" / "go"), "version")
    # The second time the environment is reused, and nox adds at most about a second to the command itself.
    through_nox = [measure("nox -s build", project, environment, reference) for _ in range(2)]
    python = project / ".nox" / "kobuild" / "bin" / "python"
    alone = [measure(f"{python} -m kobuild build", project, environment, reference) for _ in range(2)]
    assert min(through_nox) - min(alone) < 1.5


def measure(command: str, folder: Path, environment: Path, reference: str) -> float:
    """Seconds that it takes to build the same image again."""
    start = time.monotonic()
    assert shell(command, folder, environment).strip().splitlines()[-1] == reference
    return time.monotonic() - start


def unpack(layout: Path, folder: Path) -> Path:
    """The image's files, as skopeo and tar bring them: no layer of it takes anything away."""
    require_program("skopeo")
    copied, root = folder / "copied", folder / "root"
    run("skopeo", "copy", "--quiet", f"oci:{layout}", f"dir:{copied}")
    root.mkdir()
    for layer in json.loads((copied / "manifest.json").read_bytes())["layers"]:
        run("tar", "-C", str(root), "--no-same-owner", "-xzf", str(copied / layer["digest"].removeprefix("sha256:")))
    return root


@pytest.mark.parametrize(
    "name", ["docs/settings.md", "docs/architecture.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"]
)
def test_what_the_readme_points_at_is_there(name: str) -> None:
    assert f"({name})" in (ROOT / "README.md").read_text()
    assert (ROOT / name).is_file()
