"""What the workflows do beside the action: their shell steps, run as they stand, against real git repositories."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.action.conftest import ROOT
from tests.support.archives import Entry, make_tar_gz
from tests.support.expressions import as_text, condition, interpolate
from tests.support.programs import require_program
from tests.support.runner import Runner
from tests.support.upstream import Upstream

RELEASE = ROOT / ".github" / "workflows" / "release.yml"
BUMP = ROOT / "examples" / "workflows" / "bump.yml"
IDENTITY = {f"GIT_{who}_{what}": "t@example.test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def steps_of(workflow: Path, job: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = yaml.safe_load(workflow.read_text())["jobs"][job]["steps"]
    return steps


def run_step(
    step: Mapping[str, Any], contexts: Mapping[str, Any], folder: Path, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """A shell step as the runner runs it."""
    assert "${{" not in step["run"]
    given = {name: interpolate(as_text(value), contexts) for name, value in step.get("env", {}).items()}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={**os.environ, **environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )


class Git:
    """A clone and the bare repository that it was cloned from."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.clone = folder / "origin.git", folder / "clone"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.bare), folder=folder)
        self.git("clone", "--quiet", str(self.bare), str(self.clone), folder=folder)

    def git(self, *words: str, folder: Path | None = None) -> str:
        command = [require_program("git"), "-C", str(folder or self.clone), *words]
        environ = {**os.environ, **IDENTITY}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def release(self, tag: str, *, annotated: bool = False) -> str:
        commit = self.commit(tag)
        self.git("tag", *(["--annotate", "--message", tag] if annotated else []), tag)
        self.git("push", "--quiet", "origin", tag)
        return commit


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path)


def move_major(git: Git, tag: str) -> str:
    """Run the release's step; returns what it told."""
    (step,) = [step for step in steps_of(RELEASE, "move-major") if "run" in step]
    done = run_step(step, {"github": {"ref_name": tag}}, git.clone, IDENTITY)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tagged(git: Git, tag: str) -> str:
    return git.git("rev-parse", f"refs/tags/{tag}", folder=git.bare)


def test_a_release_moves_its_major_tag(git: Git) -> None:
    first = git.release("v1.2.3")
    move_major(git, "v1.2.3")
    assert tagged(git, "v1") == first
    second = git.release("v1.10.0", annotated=True)
    move_major(git, "v1.10.0")
    assert tagged(git, "v1") == second, "the commit itself, not the annotated tag"
    assert tagged(git, "v1.2.3") == first


def test_neither_an_older_line_nor_a_prerelease_moves_it(git: Git) -> None:
    newest = git.release("v1.10.0")
    move_major(git, "v1.10.0")
    for tag in ("v1.2.4", "v1.11.0rc1", "v1.11.0-rc.1"):
        git.release(tag)
        assert "v1 stays where it is" in move_major(git, tag)
    assert tagged(git, "v1") == newest
    other = git.release("v2.0.0")
    move_major(git, "v2.0.0")
    assert (tagged(git, "v1"), tagged(git, "v2")) == (newest, other)


GO = make_tar_gz([Entry("go/bin/go", b"#!/bin/sh\n", mode=0o755)])
GH = """#!/bin/sh
# Stands in for GitHub's own program: notes what it is asked.
[ "$1 $2" = "pr create" ] && [ -e "$NOTES/exists" ] && exit 1
while [ $# -gt 0 ]; do
  printf '%s\\n' "$1" >>"$NOTES/words"
  [ "$1" = --body-file ] && cp "$2" "$NOTES/body"
  shift
done
touch "$NOTES/exists"
"""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        server.add_go_release("1.27.2", {"linux/amd64": GO})
        yield server


@pytest.fixture
def gh(tmp_path: Path) -> dict[str, str]:
    """The environment in which the stand-in is GitHub's program."""
    notes = tmp_path / "notes"
    notes.mkdir()
    program = tmp_path / "bin" / "gh"
    program.parent.mkdir()
    program.write_text(GH)
    program.chmod(0o755)
    return {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "NOTES": str(notes)}


def bump(git: Git, runner: Runner, gh: Mapping[str, str]) -> list[str]:
    """Run the whole workflow in a fresh checkout; returns the ids and names of the steps that ran."""
    git.git("switch", "--quiet", "--discard-changes", "main")
    runner.workspace = git.clone
    contexts: dict[str, Any] = {"steps": {}, "github": {"token": "t"}}
    ran: list[str] = []
    for step in steps_of(BUMP, "bump"):
        if not condition(step.get("if", "true"), contexts) or str(step.get("uses", "")).startswith("actions/checkout@"):
            continue
        ran.append(step.get("id") or step["name"])
        if "uses" in step:
            done = runner.run(**{name.replace("-", "_"): as_text(value) for name, value in step["with"].items()})
            assert done.code == 0, done.log
            contexts["steps"][step["id"]] = {"outputs": done.outputs}
        else:
            shell = run_step(step, contexts, git.clone, {**gh, "RUNNER_TEMP": str(runner.temporary)})
            assert shell.returncode == 0, shell.stderr
    return ran


def test_pins_are_moved_by_a_pull_request_with_a_table(
    git: Git, runner: Runner, upstream: Upstream, gh: dict[str, str]
) -> None:
    require_program("jq")
    runner.environ = upstream.environ
    settings = '[image]\nbase = "scratch"\n\n[tools.go]\nsource = "go"\nversion = ">=1.27,<2"\nroot = "/usr/local"\n'
    (git.clone / "kobuild.toml").write_text(settings)
    runner.workspace = git.clone
    assert runner.run(command="resolve").code == 0
    (git.clone / "notes.txt").write_text("not the pins'\n")
    git.commit("first")
    assert bump(git, runner, gh) == ["news"]

    upstream.add_go_release("1.27.3", {"linux/amd64": GO})
    (git.clone / "stray.txt").write_text("left by another step\n")
    assert bump(git, runner, gh) == ["news", "kobuild", "Open a pull request"]
    branch = "kobuild/move-pins"
    assert git.git("diff", "--name-only", "main", branch, folder=git.bare) == "kobuild.lock"
    assert 'version = "1.27.3"' in git.git("show", f"{branch}:kobuild.lock", folder=git.bare)
    notes = Path(gh["NOTES"])
    body = (notes / "body").read_text()
    assert "| go | `1.27.2` | `1.27.3` | [release](https://go.dev/doc/devel/release#go1.27.3) |" in body
    words = (notes / "words").read_text().splitlines()
    assert words[:4] == ["pr", "create", "--head", branch]

    upstream.add_go_release("1.27.4", {"linux/amd64": GO})
    git.git("switch", "--quiet", "main")
    git.git("branch", "--quiet", "--delete", "--force", branch)  # the next run has a checkout of its own
    assert bump(git, runner, gh)[-1] == "Open a pull request"
    assert 'version = "1.27.4"' in git.git("show", f"{branch}:kobuild.lock", folder=git.bare)
    assert "`1.27.2` | `1.27.4`" in (notes / "body").read_text()
    assert (notes / "words").read_text().splitlines()[len(words) :][:3] == ["pr", "edit", branch]


def test_nothing_but_the_lock_goes_with_a_result(git: Git, gh: dict[str, str], tmp_path: Path) -> None:
    """What a release is called reaches the pull request as text."""
    (step,) = [step for step in steps_of(BUMP, "bump") if "run" in step]
    git.commit("first")
    (git.clone / "kobuild.lock").write_text("moved\n")
    hostile = "$(touch pwned) `touch pwned` '\"; touch pwned\n| ::set-output name=x::y"
    contexts = {
        "steps": {"kobuild": {"outputs": {"result": json.dumps({"markdown": hostile})}}},
        "github": {"token": "t"},
    }
    done = run_step(step, contexts, git.clone, {**gh, "RUNNER_TEMP": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert (Path(gh["NOTES"]) / "body").read_text() == hostile + "\n"
    assert "::set-output" not in done.stdout + done.stderr
    assert not list(tmp_path.rglob("pwned"))
