"""`kobuild init`: what a folder tells, and the files that are made of it."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import tomli
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kobuild.errors import SettingsError
from kobuild.scaffold.detect import find_base, find_platforms, find_target, local_target, target_of
from kobuild.scaffold.files import NOXFILE, WORKFLOW, Start
from kobuild.settings.parse import parse_text
from kobuild.settings.schema import load_schema
from tests.support.commandline import ROOT, Kobuild

EXAMPLE = ROOT / "examples" / "workflows" / "build.yml"


def start(settings: str = "kobuild.toml", target: str = "ghcr.io/a/b:latest") -> Start:
    return Start(settings, "debian:stable-slim", [target], ("linux/amd64",))


@pytest.mark.parametrize(
    ("remote", "target"),
    [
        ("https://github.com/Owner/Name", "ghcr.io/owner/name:latest"),
        ("https://user:token@github.com/owner/name.git/", "ghcr.io/owner/name:latest"),
        ("git@github.com:owner/name.git", "ghcr.io/owner/name:latest"),
        ("ssh://git@github.com:22/owner/name.git", "ghcr.io/owner/name:latest"),
        ("https://gitlab.com/group/sub/name.git", "registry.gitlab.com/group/sub/name:latest"),
        ("https://git.example.com/owner/name.git", None),
        ("https://github.com/owner/na me", None),
        ('https://github.com/owner/"$(id)"', None),
        ("/srv/git/name.git", None),
        ("", None),
    ],
)
def test_a_remote_tells_the_target(remote: str, target: str | None) -> None:
    assert target_of(remote) == target


def test_a_folder_without_git_tells_no_target(tmp_path: Path) -> None:
    assert find_target(tmp_path) is None
    assert local_target(tmp_path / "My App_2") == "localhost:5000/my-app-2:latest"
    assert local_target(tmp_path / "…") == "localhost:5000/image:latest"


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("FROM debian:12\nRUN x\n", "debian:12"),
        (
            "from --platform=$BUILDPLATFORM golang:1 as build\nFROM gcr.io/distroless/static\n",
            "gcr.io/distroless/static",
        ),
        ("FROM alpine:3 AS base\nFROM base AS last\nFROM last\n", "alpine:3"),
        ("ARG X=1\nFROM debian:$X\n", None),
        ("FROM scratch\n", "scratch"),
        ("# nothing\n", None),
    ],
)
def test_a_dockerfile_tells_the_base(tmp_path: Path, text: str, base: str | None) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    assert find_base(tmp_path) == base


def test_the_machine_tells_the_platforms() -> None:
    assert find_platforms("x86_64") == ("linux/amd64",)
    assert find_platforms("arm64") == find_platforms("aarch64") == ("linux/amd64", "linux/arm64")
    assert find_platforms("riscv64") == ("linux/amd64",)


def test_the_settings_are_valid_and_the_commented_tool_is_too() -> None:
    text = start().files()["kobuild.toml"]
    assert [tool.name for tool in parse_text(text.encode(), Path("kobuild.toml")).tools] == ["go"]
    jsonschema.Draft7Validator(load_schema()).validate(tomli.loads(text))
    head, mark, tail = text.partition("# [tools.ko]")
    all_of_it = head + "\n".join(line.removeprefix("# ") for line in (mark + tail).splitlines())
    assert [tool.name for tool in parse_text(all_of_it.encode(), Path("kobuild.toml")).tools] == ["go", "ko"]


def test_the_workflow_is_the_example_so_that_what_holds_for_one_holds_for_both() -> None:
    assert start().files()[WORKFLOW] == EXAMPLE.read_text(encoding="utf-8")


def test_another_registry_and_another_file_are_in_the_workflow_and_the_noxfile() -> None:
    files = start("images/ci.toml", "registry.example.com:5000/a/b").files()
    jobs = yaml.safe_load(files[WORKFLOW])["jobs"]
    pushed = jobs["push"]["steps"][1]["with"]
    assert pushed == {
        "command": "push",
        "file": "images/ci.toml",
        "registry": "registry.example.com:5000",
        "username": "${{ secrets.REGISTRY_USERNAME }}",
        "password": "${{ secrets.REGISTRY_PASSWORD }}",
        "locked": True,
    }
    assert jobs["push"]["permissions"] == {"contents": "read"}
    assert [step["with"]["file"] for step in jobs["check"]["steps"][1:]] == ["images/ci.toml"] * 2
    assert 'noxsessions.register(file="images/ci.toml")' in files[NOXFILE]


@settings(deadline=None)
@given(st.text())
def test_no_value_writes_more_than_its_own_key(text: str) -> None:
    try:
        files = Start("kobuild.toml", text, ["localhost:5000/a"], ("linux/amd64",)).files()
    except SettingsError:
        return
    document = tomli.loads(files["kobuild.toml"])
    assert document["image"]["base"] == text
    assert set(document) == {"image", "tools"}


@pytest.fixture
def kobuild(tmp_path: Path) -> Kobuild:
    (tmp_path / "project").mkdir()
    return Kobuild(tmp_path / "project", tmp_path / "cache")


def test_what_is_there_is_kept_unless_it_is_forced(kobuild: Kobuild) -> None:
    (kobuild.folder / "noxfile.py").write_text("# mine\n")
    first = kobuild.ok("init", "--base", "scratch", "--target", "ghcr.io/a/b")
    assert first.out.split() == ["kobuild.toml", WORKFLOW]
    assert "kept noxfile.py, which was there already: add `from kobuild import noxsessions`" in first.err
    assert "`nox -s build` builds the image" in first.err
    assert (kobuild.folder / "noxfile.py").read_text() == "# mine\n"
    settings = (kobuild.folder / "kobuild.toml").read_text()
    again = kobuild.ok("init", "--base", "debian:12", "--json")
    assert (again.json["written"], len(again.json["kept"])) == ([], 3)
    assert "nothing to do" in again.err
    assert (kobuild.folder / "kobuild.toml").read_text() == settings
    forced = kobuild.ok("init", "--base", "debian:12", "--platform", "linux/arm64", "--force", "--quiet")
    assert forced.err == ""
    assert len(forced.out.split()) == 3
    assert tomli.loads((kobuild.folder / "kobuild.toml").read_text())["image"] | {"env": 0, "path": 0} == {
        "base": "debian:12",
        "target": f"localhost:5000/{kobuild.folder.name}:latest",
        "platforms": ["linux/arm64"],
        "workdir": "/workspace",
        "env": 0,
        "path": 0,
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--base", 'x"\ny = 1'), "image.base: not an image reference"),
        (("--platform", "amd64"), "image.platforms[0]: not a platform"),
        (("--target", "a b"), "not an image reference: 'a b'"),
        (("--file", "../kobuild.toml"), "expected a path in the project"),
        (("--file", "${{ github.token }}"), "expected a path in the project"),
        (("--directory", "nowhere"), "--directory nowhere: not a folder"),
    ],
)
def test_what_cannot_be_meant_is_told_and_nothing_is_written(
    kobuild: Kobuild, arguments: tuple[str, str], words: str
) -> None:
    done = kobuild.run("init", *arguments)
    assert done.code == 2
    assert words in done.err
    assert list(kobuild.folder.iterdir()) == []


def test_no_target_on_this_machine_goes_unnoticed(kobuild: Kobuild) -> None:
    assert "set `target` before `nox -s push`" in kobuild.ok("init").err
    login = kobuild.ok("init", "--force", "--target", "quay.io/a/b").err
    assert "the secrets REGISTRY_USERNAME and REGISTRY_PASSWORD" in login
