"""What a person sees of a run in a GitHub workflow: groups, annotations at lines of the settings, the job's summary."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kobuild import github
from kobuild.errors import Fault, KobuildError, NewsFound, SettingsError
from kobuild.report import group, reporting
from tests.support.commandline import Kobuild
from tests.support.registry import run_registry
from tests.support.workflowlog import parse_command

GITHUB = {"GITHUB_ACTIONS": "true"}


def test_a_command_escapes_as_the_toolkit_does() -> None:
    text = github.command("error", "50%\r\nmore: a,b", file="a:b,c%.toml", line="3", title="")
    assert text == "::error file=a%3Ab%2Cc%25.toml,line=3::50%25%0D%0Amore: a,b"


@given(st.text(), st.text())
def test_a_command_is_one_line_that_reads_back(message: str, file: str) -> None:
    text = github.command("warning", message, file=file, title="t")
    assert "\n" not in text
    assert "\r" not in text
    name, properties, read = parse_command(text)
    assert (name, read) == ("warning", message)
    assert properties == ({"file": file, "title": "t"} if file else {"title": "t"})


@given(st.text(alphabet=":#[]\r\n \tasetouputnv%=", max_size=40))
def test_no_text_from_outside_is_a_command(text: str) -> None:
    for line in re.split(r"[\r\n]", github.harmless(text)):
        assert not line.lstrip().startswith("::")
        assert "##[" not in line


def test_each_fault_stands_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "repo" / "images" / "kobuild.toml"
    faults = (Fault(str(file), 3, "image.bas", "unknown key", "did you mean base?"), Fault(str(file), None, "", "x"))
    environ = {"GITHUB_WORKSPACE": str(tmp_path / "repo")}
    first, second, hint = github.error_commands(SettingsError(faults, hint="look"), None, environ)
    name, properties, message = parse_command(first)
    assert (name, properties["file"], properties["line"]) == ("error", "images/kobuild.toml", "3")
    assert message == f"{file}:3: image.bas: unknown key (did you mean base?)"
    assert "line" not in parse_command(second)[1]
    assert parse_command(hint) == ("notice", {"title": "kobuild"}, "hint: look")


def test_an_error_about_a_tool_stands_at_the_tool(tmp_path: Path) -> None:
    file = tmp_path / "kobuild.toml"
    file.write_text('[image]\nbase = "x"\n\n[tools.go]\nsource = "go"\n\n[tools.ko]\nsource = "github:a/b"\n')
    error = KobuildError("tools.ko: no release fits", hint="choose another")
    (line,) = github.error_commands(error, file, {})
    assert parse_command(line)[1]["line"] == "7"
    assert parse_command(line)[2] == "tools.ko: no release fits\nhint: choose another"
    (line,) = github.error_commands(KobuildError("base: not found"), file, {})
    assert parse_command(line)[1]["line"] == "2"
    (line,) = github.error_commands(KobuildError("the disk is full"), file, {})
    assert "file" not in parse_command(line)[1]


def test_news_are_no_error() -> None:
    (line,) = github.error_commands(NewsFound(("go: 1 → 2",)), None, {})
    assert parse_command(line)[0] == "notice"


def test_warnings_are_annotations_and_lines_are_no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    stream = io.StringIO()
    with reporting(quiet=False, stream=stream) as reporter:
        reporter.notice("::set-output name=digest::forged")
        reporter.warning("trouble\n::error::x")
    lines = stream.getvalue().splitlines()
    assert lines[0] == ": :set-output name=digest::forged"
    assert parse_command(lines[1]) == ("warning", {"title": "kobuild"}, "trouble\n::error::x")
    assert len(lines) == 2


def test_groups_end_even_when_the_work_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(KobuildError), group("Push"):
        raise KobuildError("no")
    assert capsys.readouterr().err == "::group::Push\n::endgroup::\n"
    monkeypatch.delenv("GITHUB_ACTIONS")
    with group("Push"):
        pass
    assert capsys.readouterr().err == ""


def test_a_summary_that_is_too_long_or_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    environ = {**GITHUB, github.SUMMARY_VARIABLE: str(tmp_path / "summary")}
    assert github.append_summary("one", environ)
    assert github.append_summary("two", environ)
    assert (tmp_path / "summary").read_text() == "one\n\ntwo\n\n"
    assert not github.append_summary("x" * 1_000_000, environ)
    assert not github.append_summary("x", {**environ, github.SUMMARY_VARIABLE: str(tmp_path / "no" / "summary")})
    assert not github.append_summary("x", {github.SUMMARY_VARIABLE: str(tmp_path / "summary")})


SETTINGS = """
[image]
base = "scratch"
target = "{host}/team/app:latest"

[tools.hello]
source = "path:hello.txt"
root = "/srv"
"""


def test_a_push_tells_what_has_changed_since(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    summary = tmp_path / "summary"
    kobuild = Kobuild(project, tmp_path / "cache", {**GITHUB, github.SUMMARY_VARIABLE: str(summary)})
    with run_registry(tmp_path / "registry") as registry:
        kobuild.settings(SETTINGS.format(host=registry.host))
        (project / "hello.txt").write_text("hello\n")
        first = kobuild.ok("push", "--json")
        assert first.json["changed"] is True
        assert "There was no image here before." in summary.read_text()
        assert first.err.count("::group::") == first.err.count("::endgroup::") == 3
        again = kobuild.ok("push", "--json")
        assert again.json["changed"] is False
        assert "Nothing has changed" in summary.read_text()
        (project / "hello.txt").write_text("goodbye\n")
        summary.write_text("")
        kobuild.ok("resolve")
        second = kobuild.ok("push", "--json")
        text = summary.read_text()
    digest = second.json["digest"]
    assert "### kobuild.lock" in text
    assert f"docker pull {registry.host}/team/app@{digest}" in text
    assert f"| digest | `{digest}` |" in text
    assert "What has changed" in text
    assert re.search(r"^\| added \| hello \|", text, re.MULTILINE)


def test_a_bad_settings_file_is_annotated(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / "image"
    folder.mkdir(parents=True)
    kobuild = Kobuild(tmp_path / "repo", tmp_path / "cache", {**GITHUB, "GITHUB_WORKSPACE": str(tmp_path / "repo")})
    (folder / "kobuild.toml").write_text('[image]\nbase = "scratch"\nplatfrms = 1\n')
    done = kobuild.run("build", "-C", "image")
    assert done.code == 2
    assert done.out == ""
    name, properties, _ = parse_command(done.err.strip())
    assert (name, properties["file"], properties["line"]) == ("error", "image/kobuild.toml", "3")


def test_what_changes_in_the_lock_is_a_table(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    kobuild = Kobuild(project, tmp_path / "cache")
    kobuild.settings(SETTINGS.format(host="localhost:1"))
    (project / "hello.txt").write_text("hello\n")
    done = kobuild.ok("resolve", "--markdown")
    assert done.out.startswith("### kobuild\\.lock\n") or done.out.startswith("### kobuild.lock\n")
    assert "| hello |  | `unversioned` |" in done.out
