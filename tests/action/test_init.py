"""A new project: `kobuild init`, and then `nox -s build` with what it has written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.action.conftest import write_project
from tests.action.test_workflows import check, check_schema
from tests.support.archives import Entry, make_tar_gz
from tests.support.commandline import Kobuild
from tests.support.programs import require_program
from tests.support.registry import DockerRegistry
from tests.support.upstream import Upstream

GO = make_tar_gz([Entry("go/bin/go", b"#!/bin/sh\n", mode=0o755), Entry("go/VERSION", b"go1.27.3\n")])


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        server.add_go_release("1.27.3", {"linux/amd64": GO, "linux/arm64": GO})
        yield server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty git repository with a remote."""
    folder = tmp_path / "project"
    git = require_program("git")
    subprocess.run([git, "init", "--quiet", str(folder)], check=True)
    remote = "https://github.com/Example/App.git"
    subprocess.run([git, "-C", str(folder), "remote", "add", "origin", remote], check=True)
    return folder


def nox(
    environment: Path, project: Path, variables: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """nox as a person has it, in an environment where kobuild is installed beside it."""
    command = [str(environment / "venv" / "bin" / "nox"), *arguments]
    return subprocess.run(
        command, cwd=project, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


def test_in_an_empty_repository_init_is_all_that_nox_needs(
    project: Path, environment: Path, upstream: Upstream, registry: DockerRegistry, tmp_path: Path
) -> None:
    Kobuild(project, tmp_path / "cache").ok("init", "--base", "scratch", "--target", f"{registry.host}/team/app:latest")
    # Whatever lies in the folder is data: none of these may be taken for the module of that name.
    for name in ("requests", "json", "packaging"):
        (project / f"{name}.py").write_text("raise SystemExit('taken from the project')\n")
    variables = upstream.environ

    built = nox(environment, project, variables, "-s", "build")
    assert built.returncode == 0, built.stderr
    assert built.stdout.startswith("oci:dist/image@sha256:")
    assert (project / "kobuild.lock").is_file()
    default = nox(environment, project, variables)
    assert default.returncode == 0, default.stderr
    assert "* build: success" in default.stderr
    assert "* verify: success" in default.stderr
    pushed = nox(environment, project, variables, "-s", "push", "--", "--locked", "--tag", "v1")
    assert pushed.stdout.startswith(f"{registry.host}/team/app:v1@sha256:"), pushed.stderr
    refused = nox(environment, project, variables, "-s", "verify", "--", "oci:nowhere")
    assert refused.returncode == 1


NOXFILE = """
import nox

from kobuild import noxsessions

noxsessions.register(["build", "verify"], file="images/app.toml", prefix="image-")


@nox.session(venv_backend="none")
def build(session: nox.Session) -> None:
    noxsessions.run(session, "inspect", "--json", *session.posargs)
"""


def test_sessions_stand_beside_those_of_a_project(environment: Path, project: Path) -> None:
    write_project(project / "images", name="app.toml")
    (project / "noxfile.py").write_text(NOXFILE)
    variables = {"NOX_SCRIPT_MODE": "none"}
    listed = nox(environment, project, variables, "--list").stdout
    assert "- image-build [kobuild] -> Build the image into dist/image." in listed
    assert "* build" in listed, "plain nox runs the project's own sessions alone"
    done = nox(environment, project, variables, "-s", "image-build", "image-verify")
    assert done.returncode == 0, done.stderr
    tree = nox(environment, project, variables, "-s", "build", "--", "oci:dist/image")
    assert '"digest"' in tree.stdout, tree.stderr
    (project / "noxfile.py").write_text("from kobuild import noxsessions\n\nnoxsessions.register(['bulid'])\n")
    wrong = nox(environment, project, variables, "--list")
    assert wrong.returncode != 0
    assert "KeyError: 'bulid'" in wrong.stderr


def test_the_remote_tells_the_target_and_the_workflow_is_sound(project: Path, tmp_path: Path) -> None:
    told = Kobuild(project, tmp_path / "cache").ok("init")
    assert "pushes it to ghcr.io/example/app:latest" in told.err
    workflow = project / ".github" / "workflows" / "image.yml"
    assert check_schema("vendor.github-workflows", workflow) == 0
    check("zizmor", "--offline", "--no-progress", workflow)
    Kobuild(project, tmp_path / "cache").ok("init", "--force", "--target", "quay.io/a/b", "--file", "images/a b.toml")
    assert check_schema("vendor.github-workflows", workflow) == 0
    check("zizmor", "--offline", "--no-progress", workflow)
