"""The jobs of many images: what they are called, which of them have news since a revision, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kobuild import cli
from tests.support.checkouts import commit, git, write

ZEROS = "0" * 40
Matrix = Callable[..., dict[str, Any]]


def settings(*tools: str, platforms: str = '["linux/amd64"]', base: str = "scratch") -> str:
    tables = "".join(f'\n[tools.t{number}]\nsource = "path:{tool}"\n' for number, tool in enumerate(tools))
    return f'[image]\nbase = "{base}"\ntarget = "localhost:1/a/b"\nplatforms = {platforms}\n{tables}'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Three images in a repository: one of a folder, one of a file beside it, one of nothing."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    write(
        folder,
        {
            "images/go.toml": settings("../scripts", platforms='["linux/amd64", "linux/arm64"]'),
            "images/go.lock": "version = 1\n",
            "images/ko.toml": settings("tool-{arch}.txt"),
            "images/plain.toml": settings(),
            "images/tool-amd64.txt": "tool",
            "scripts/run": "#!/bin/sh\n",
            ".gitignore": "*.log\n",
            "README.md": "words",
        },
    )
    commit(folder)
    return folder


@pytest.fixture
def matrix(checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Matrix:
    """Runs the command in the checkout, and gives what it prints."""
    monkeypatch.chdir(checkout)

    def run(*words: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert cli.main(["matrix", *words]) == code
        out, err = capsys.readouterr()
        return dict(json.loads(out)) if code == 0 else {"err": err}

    return run


def names(found: Mapping[str, Any]) -> list[str]:
    return [item["name"] for item in found["images"]]


def test_each_image_and_platform_is_a_job(matrix: Matrix) -> None:
    found = matrix("images/*.toml")
    assert found["include"] == [
        {"name": "go", "file": "images/go.toml", "platform": "linux/amd64", "slug": "linux-amd64",
         "runner": "ubuntu-24.04"},
        {"name": "go", "file": "images/go.toml", "platform": "linux/arm64", "slug": "linux-arm64",
         "runner": "ubuntu-24.04-arm"},
        {"name": "ko", "file": "images/ko.toml", "platform": "linux/amd64", "slug": "linux-amd64",
         "runner": "ubuntu-24.04"},
        {"name": "plain", "file": "images/plain.toml", "platform": "linux/amd64", "slug": "linux-amd64",
         "runner": "ubuntu-24.04"},
    ]  # fmt: skip
    assert found["images"][1] == {"name": "ko", "file": "images/ko.toml"}
    other = matrix("images/go.toml", "--runner", "linux/aarch64=big-arm", "--runner=linux/amd64=self hosted")
    assert [job["runner"] for job in other["include"]] == ["self hosted", "big-arm"]


def test_without_patterns_it_is_the_settings_file(matrix: Matrix, checkout: Path) -> None:
    assert names(matrix("-f", "images/ko.toml")) == ["ko"]
    assert "fits no file" in matrix(code=2)["err"]
    assert names(matrix("-C", str(checkout / "images"), "ko.toml")) == ["ko"]


def test_only_what_a_change_reaches_is_made(matrix: Matrix, checkout: Path) -> None:
    assert names(matrix("images/*.toml", "--since", "HEAD")) == []
    assert matrix("images/*.toml", "--since", "HEAD", "--json") == {"include": [], "images": [], "changed": {}}
    for name, image in (
        ("README.md", []),
        ("images/go.lock", ["go"]),
        ("scripts/run", ["go"]),
        ("images/tool-amd64.txt", ["ko"]),
        ("images/plain.toml", ["plain"]),
    ):
        before = git(checkout, "rev-parse", "HEAD")
        (checkout / name).write_text((checkout / name).read_text() + "# more\n")
        assert names(matrix("images/*.toml", "--since", before)) == image, name  # not committed yet
        commit(checkout)
        assert names(matrix("images/*.toml", f"--since={before}")) == image, name
        assert names(matrix("images/*.toml", "--since", "HEAD")) == []


def test_modes_renames_and_deleted_files_are_changes(matrix: Matrix, checkout: Path) -> None:
    (checkout / "scripts" / "run").chmod(0o755)
    found = matrix("images/*.toml", "--since", "HEAD", "--json")
    assert found["changed"] == {"images/go.toml": "scripts/run"}
    commit(checkout)
    (checkout / "images" / "go.lock").unlink()
    assert names(matrix("images/*.toml", "--since", "HEAD")) == ["go"]
    commit(checkout)
    git(checkout, "mv", "images/tool-amd64.txt", "images/other.txt")
    assert names(matrix("images/*.toml", "--since", "HEAD")) == ["ko"]
    commit(checkout)
    (checkout / "images" / "plain.toml").unlink()
    assert names(matrix("images/*.toml", "--since", "HEAD")) == []


def test_what_git_does_not_keep_counts_as_changed(matrix: Matrix, checkout: Path) -> None:
    (checkout / "scripts" / "ignored.log").write_text("made by an earlier step")
    found = matrix("images/*.toml", "--since", "HEAD", "--json")
    assert found["changed"] == {"images/go.toml": "scripts/ignored.log not in git"}
    (checkout / "scripts" / "ignored.log").unlink()
    write(checkout, {"images/new.toml": settings("../../outside")})
    assert matrix("images/new.toml", "--since", "HEAD", "--json")["changed"] == {
        "images/new.toml": f"{checkout.parent / 'outside'} lies outside of the checkout"
    }


def test_links_lead_to_inputs(matrix: Matrix, checkout: Path) -> None:
    (checkout / "images" / "link").symlink_to("../scripts")
    write(checkout, {"images/linked.toml": settings("link"), "images/based.toml": settings(base="oci:../layout")})
    write(checkout, {"layout/index.json": "{}"})
    before = commit(checkout)
    write(checkout, {"scripts/more": "x", "layout/index.json": "{ }"})
    commit(checkout)
    assert names(matrix("images/*.toml", "--since", before)) == ["based", "go", "linked"]


def test_a_submodule_that_moved_is_a_change(matrix: Matrix, checkout: Path) -> None:
    inner = checkout.parent / "inner"
    inner.mkdir()
    git(inner, "init", "-q", "-b", "main")
    write(inner, {"part/tool": "1"})
    commit(inner)
    git(checkout, "submodule", "--quiet", "add", str(inner), "sub")
    write(checkout, {"images/sub.toml": settings("../sub/part")})
    before = commit(checkout)
    assert names(matrix("images/*.toml", "--since", before)) == []
    write(checkout, {"sub/part/tool": "2"})
    assert names(matrix("images/*.toml", "--since", before)) == ["sub"]


def test_the_first_push_and_a_commit_that_is_not_here_mean_everything(matrix: Matrix) -> None:
    for revision, why in ((ZEROS, "there was nothing before"), ("1" * 40, "fetch-depth: 0")):
        assert names(matrix("images/*.toml", "--since", revision)) == ["go", "ko", "plain"]
        found = matrix("images/*.toml", "--since", revision, "--json")
        assert why in found["changed"]["images/ko.toml"]
    assert names(matrix("images/*.toml", "--since", "")) == ["go", "ko", "plain"]


@pytest.mark.parametrize("revision", ["nosuch", "--output=pwned", "HEAD~99", ":/words", "-h"])
def test_a_revision_that_git_does_not_know_is_a_mistake(matrix: Matrix, checkout: Path, revision: str) -> None:
    assert "git knows no such revision" in matrix("images/*.toml", f"--since={revision}", code=2)["err"]
    assert not (checkout / "pwned").exists()


def test_without_git_since_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a/one.toml": settings()})
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert cli.main(["matrix", "-C", str(tmp_path), "a/*.toml", "--since", "HEAD"]) == 2
    assert "is in no git checkout" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["matrix", "-C", str(tmp_path), "a/*.toml", "--since", "HEAD"]) == 1
    assert "needs git on PATH" in capsys.readouterr().err


def test_names_are_those_of_the_files_below_the_pattern(matrix: Matrix, checkout: Path) -> None:
    write(
        checkout,
        {
            "more/a/kobuild.toml": settings(),
            "more/b/c/kobuild.toml": settings(),
            "more/b/d e.toml": settings(),
            "more/[x].toml": settings(),
        },
    )
    assert names(matrix("more/**/*.toml")) == ["x", "a", "b-c", "b-d-e"]
    assert names(matrix("more/[x].toml", "more/b/d e.toml")) == ["x", "d-e"]
    assert names(matrix("more/a/kobuild.toml", "more/b/c/kobuild.toml")) == ["a", "c"]  # as a shell expands it
    write(checkout, {"kobuild.toml": settings()})
    assert names(matrix()) == ["kobuild"]
    assert names(matrix(str(checkout / "kobuild.toml"))) == ["checkout"]
    assert names(matrix("more/*/kobuild.toml", "**/c/kobuild.toml", "./kobuild.*")) == ["kobuild", "a", "more-b-c"]
    assert names(matrix(str(checkout / "images" / "ko.toml"))) == ["ko"]


def test_names_that_collide_are_refused(matrix: Matrix, checkout: Path) -> None:
    write(checkout, {"other/Go.toml": settings(), "other/a b.toml": settings(), "other/a-b.toml": settings()})
    error = matrix("images/*.toml", "other/Go.toml", code=2)["err"]
    assert "images/go.toml and other/Go.toml would both be called" in error
    assert "would both be called a-b" in matrix("other/a*.toml", code=2)["err"]


def test_faults_of_all_files_are_told_at_once(matrix: Matrix, checkout: Path) -> None:
    write(checkout, {"images/bad.toml": "[image]\nbse = 1\n", "images/worse.toml": "x"})
    error = matrix("images/*.toml", code=2)["err"]
    assert "images/bad.toml:2: image.bse" in error
    assert "images/worse.toml:1: not TOML" in error


def test_more_jobs_than_github_takes_are_refused(matrix: Matrix, checkout: Path) -> None:
    two = settings(platforms='["linux/amd64", "linux/arm64"]')
    write(checkout, {f"many/{number:03}.toml": two for number in range(128)})
    assert len(matrix("many/*.toml")["include"]) == 256
    write(checkout, {"many/200.toml": settings()})
    assert "129 images make 257 jobs, and GitHub takes at most 256" in matrix("many/*.toml", code=2)["err"]
    commit(checkout)
    write(checkout, {"many/007.toml": f"{two}\n"})
    assert names(matrix("many/*.toml", "--since", "HEAD")) == ["007"]
