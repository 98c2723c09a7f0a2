"""verify --run: each tool's test runs inside the image, with a real engine wherever one can show it here."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.commandline import Kobuild
from tests.support.images import layout_of
from tests.support.programs import require_program
from tests.support.registry import run_registry
from tests.support.scripteddocker import ScriptedDocker
from tests.support.smallroot import shell_image

SETTINGS = """
[image]
base = "oci:base"
platforms = ["linux/amd64"]
{image}
[tools.hello]
source = "path:files"
root = "/usr/local/bin"
{test}
"""
SCRIPT = '#!/bin/sh\necho "hello $1, I am $(id -u) in $(pwd)"\nexit ${2:-0}\n'


class Project(Kobuild):
    """A project with one tool that is a script."""

    def with_test(self, command: str | None, image: str = "") -> None:
        """Write the settings; neither lock nor image depend on a tool's test."""
        test = f"test = {json.dumps(command)}" if command is not None else ""
        self.settings(SETTINGS.format(test=test, image=image))

    def verify(self, *arguments: str, engine: str = "buildah") -> Any:
        done = self.run("verify", "--run", "--engine", engine, "--json", "-q", *arguments)
        return {"code": done.code, "err": done.err, **(json.loads(done.out) if done.out else {})}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with its lock and its image, made once."""
    folder = tmp_path_factory.mktemp("built")
    layout_of(folder / "base", shell_image())
    (folder / "files").mkdir()
    (folder / "files" / "hello").write_text(SCRIPT)
    (folder / "files" / "hello").chmod(0o755)
    project = Project(folder, cache=tmp_path_factory.mktemp("cache"))
    project.with_test(None)
    project.ok("resolve", "-q")
    project.ok("build", "-q")
    return folder


@pytest.fixture
def project(tmp_path: Path, built: Path) -> Project:
    shutil.copytree(built, tmp_path / "project")
    return Project(tmp_path / "project", cache=tmp_path / "cache")


def held_by(engine: str) -> str:
    """What an engine still has, of images and of working containers."""
    listings = [["images", "--quiet", "--all"], ["containers" if engine == "buildah" else "ps", "--all", "--quiet"]]
    done = [subprocess.run([engine, *words], capture_output=True, text=True, check=True) for words in listings]
    return "".join(item.stdout for item in done)


def test_a_test_runs_in_the_image_wherever_it_lies(project: Project, tmp_path: Path) -> None:
    require_program("buildah")
    project.with_test("hello 'dear world'", 'user = "mira"\nworkdir = "/tmp"')
    with run_registry(tmp_path / "registry") as registry:
        reference = f"{registry.host}/a/b:c"
        project.ok("build", "-q")
        project.ok("build", "-q", "-o", "oci-archive:image.tar")
        project.ok("build", "-q", "-o", "docker-archive:docker.tar")
        project.ok("push", "-q", "--target", reference)
        for place in ("oci:dist/image", "oci-archive:image.tar", "docker-archive:docker.tar", reference):
            done = project.verify(place)
            assert done["code"] == 0, done
            (ran,) = done["runs"]["tests"]
            assert ran["output"] == "hello dear world, I am 1000 in /tmp"
            assert (ran["ok"], ran["exit_code"], ran["engine"]) == (True, 0, "buildah")
            assert done["runs"]["skipped"] == []
    assert held_by("buildah") == ""


@pytest.mark.parametrize(
    ("test", "seconds", "expected"),
    [
        ("hello you 7", "60", "found exit code 7 after"),
        ("nosuch --version", "60", "found exit code 127 after"),
        ("/etc", "60", "found exit code 126 after"),
        ("sleep 300", "1", "found no end after 1 s: it said nothing; give the tool a quicker `test`"),
    ],
)
def test_a_test_that_fails_is_a_finding(project: Project, test: str, seconds: str, expected: str) -> None:
    require_program("buildah")
    project.with_test(test)
    done = project.verify("--timeout", seconds)
    assert done["code"] == 3
    assert not done["ok"]
    (finding,) = done["findings"]
    assert finding["place"] == "test of tool hello on linux/amd64, with buildah"
    assert finding["expected"] == f"exit code 0 of `{test}`"
    assert expected in done["err"]
    if test.startswith("hello"):
        assert "hello you, I am 0 in /; see what the tool says" in done["err"]
    elif expected.startswith("found exit code 12"):
        assert "whether the base has the libraries" in done["err"]
    assert held_by("buildah") == ""


def test_what_a_test_leaves_in_the_background_is_not_waited_for(project: Project) -> None:
    require_program("buildah")
    project.with_test("sh -c 'sleep 31.7 & echo started'")
    done = project.verify("--timeout", "20")
    assert done["code"] == 0, done
    assert done["runs"]["tests"][0]["seconds"] < 10
    assert "sleep 31.7" not in running()


def test_a_flood_of_output_is_kept_to_its_end(project: Project) -> None:
    require_program("buildah")
    # buildah itself may lose what is said in the last moment, on a busy machine once in thirty times.
    project.with_test("sh -c 'i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo line $i; done; sleep 1; exit 1'")
    done = project.verify()
    assert done["code"] == 3
    assert len(done["runs"]["tests"][0]["output"]) <= 1 << 16
    assert done["findings"][0]["actual"].endswith("line 29998 | line 29999 | line 30000")


def test_an_engine_that_cannot_is_passed_over(project: Project, docker: ScriptedDocker) -> None:
    """podman is real: where it starts no container buildah does, and where it does all is well too."""
    require_program("podman")
    require_program("buildah")
    docker.does(info="echo 'is the daemon running?'; exit 1")
    project.with_test("hello you")
    done = project.run("verify", "--run", "--json")
    assert done.code == 0, done.err
    assert "warning: docker does not work here: is the daemon running?; trying podman" in done.err
    (ran,) = done.json["runs"]["tests"]
    assert ran["output"] == "hello you, I am 0 in /"
    assert ran["engine"] in ("podman", "buildah")
    assert ran["engine"] == "podman" or "podman cannot start a container here" in done.err
    assert held_by("podman") == ""


def test_docker_is_asked_with_everything_that_matters(project: Project, docker: ScriptedDocker) -> None:
    docker.does(run="echo from docker", load=f'cp "$3" {docker.folder}/loaded.tar')
    project.with_test("hello 'a b' c")
    done = project.verify(engine="docker")
    assert done["code"] == 0, done
    assert done["runs"]["tests"][0]["output"] == "from docker"
    asked = {words[0]: words for words in docker.asked}
    image = asked["rmi"][1]
    assert image.startswith("localhost/kobuild-verify:")
    line = " ".join(asked["run"])
    assert "--rm --name localhost-kobuild-verify-" in line
    assert f"--pull never --network none --platform linux/amd64 --entrypoint hello {image} a b c" in line
    kobuild = Kobuild(project.folder, project.cache)
    inside = kobuild.ok("inspect", "-q", "--json", f"docker-archive:{docker.folder}/loaded.tar:{image}").json
    assert inside["images"][0]["image_id"] == done["platforms"][0]["image_id"]


def test_a_container_that_does_not_end_is_taken_down(project: Project, docker: ScriptedDocker) -> None:
    docker.does(run="exec sleep 60")
    project.with_test("hello")
    done = project.verify("--timeout", "1", engine="docker")
    assert done["code"] == 3
    assert done["runs"]["tests"][0]["exit_code"] is None
    assert next(words[:2] for words in docker.asked if words[0] == "rm") == ["rm", "--force"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"info": "exit 1"}, "docker does not work here: it said nothing"),
        ({"load": "echo no space left; exit 1"}, "load the image into docker: exit code 1: no space left"),
        ({"run": "echo 'docker: Error response from daemon: x'; exit 125"}, "docker cannot start a container here"),
        ({"run": "echo 'Error: crun: mount: Operation not permitted: OCI'; exit 126"}, "cannot start a container here"),
    ],
)
def test_no_engine_that_works_is_an_error_and_no_finding(
    project: Project, docker: ScriptedDocker, script: dict[str, str], expected: str
) -> None:
    docker.does(**script)
    project.with_test("hello")
    done = project.verify(engine="docker")
    assert done["code"] == 1
    assert expected in done["err"]
    assert "hint: choose another with --engine" in done["err"]


def test_a_missing_engine_is_named(project: Project, tmp_path: Path) -> None:
    project.with_test("hello")
    (tmp_path / "empty").mkdir()
    project.environ["PATH"] = str(tmp_path / "empty")
    done = project.run("verify", "--run")
    assert done.code == 1
    assert "run the tools' tests: there is no container engine on PATH" in done.err
    assert "hint: install docker, podman or buildah" in done.err
    assert "there is no podman on PATH" in project.run("verify", "--run", "--engine", "podman").err


def test_what_cannot_be_run_is_said(project: Project, docker: ScriptedDocker) -> None:
    project.with_test(None)
    done = project.verify(engine="docker")
    assert (done["code"], docker.asked) == (2, [])
    assert "no tool of the settings has a test" in done["err"]
    project.with_test("hello", "")
    text = (project.folder / "kobuild.toml").read_text().replace('"linux/amd64"', '"freebsd/riscv64"')
    (project.folder / "kobuild.toml").write_text(text.replace("oci:base", "scratch"))
    project.ok("resolve", "-q")
    project.ok("build", "-q")
    done = project.verify(engine="docker")
    assert (done["code"], docker.asked) == (2, [])
    assert "this machine runs no program for freebsd/riscv64" in done["err"]


def test_an_image_that_differs_is_not_run(project: Project, docker: ScriptedDocker) -> None:
    project.with_test("hello")
    project.with_test("hello", 'workdir = "/other"')
    done = project.run("verify", "--run", "--engine", "docker")
    assert (done.code, docker.asked) == (3, [])
    assert "the tools' tests are not run in an image that differs" in done.err


def test_an_interrupt_takes_the_container_down(project: Project) -> None:
    require_program("buildah")
    project.with_test("sleep 41.5")
    process = project.start("verify", "--run", "--engine", "buildah")
    assert process.stderr is not None
    try:
        wait_until_running("/bin/sleep 41.5", process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in said
    assert "sleep 41.5" not in running()
    assert held_by("buildah") == ""


def running() -> str:
    """The programs of this machine that run, with their arguments."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def wait_until_running(words: str, starter: subprocess.Popen[str]) -> None:
    """Return once a program with these words runs by itself, not as an argument of others."""
    for _ in range(600):
        if any(line.strip() == words for line in running().splitlines()):
            return
        if starter.poll() is not None:
            pytest.fail(f"it ended by itself: {starter.communicate()}")
        time.sleep(0.05)
    pytest.fail(f"{words} has not begun to run")
