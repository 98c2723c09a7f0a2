"""The file as a whole: what it becomes, and how its faults are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kobuild.errors import SettingsError
from kobuild.oci.mediatypes import Compression
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.settings.model import ImageSettings, Settings, SourceSpec, SourcesSettings, ToolSettings
from kobuild.settings.parse import MAX_SIZE_BYTES, parse_settings, parse_text
from tests.support.settings import faults_of, parse

WHOLE = """\
[image]
base        = "gcr.io/google.com/cloudsdktool/cloud-sdk:alpine"
target      = ["ghcr.io/example/ko:1", "ghcr.io/example/ko"]
platforms   = ["linux/amd64", "linux/aarch64"]
compression = "zstd:chunked"
workdir     = "/workspace/"
path        = ["/usr/local/go/bin", "/opt//x"]
env         = { CGO_ENABLED = "0", GOFLAGS = "-trimpath" }
entrypoint  = ["/bin/sh", "-c", "/bin/sh"]
cmd         = []
user        = "1000:1000"
expose      = [8080, "53/UDP"]
volumes     = ["/data"]
stop-signal = "SIGRTMIN+3"
prioritized = ["/usr/local/go/bin/go"]

[image.labels]
"com.example.a" = "1"
[image.annotations]
"com.example.b" = ""

[tools.go]
source  = "go"
version = "~=1.27.0"
root    = "/usr/local"

[tools."k.o"]
source  = "github:ko-build/ko"
version = "latest"
root    = "/usr/local/./bin"
only    = ["ko", "doc/"]
strip   = 1
mode    = "0755"
asset   = "ko_{version}_{os}_{arch}.tar.gz"
rename  = "ko"
test    = "ko version"

[sources]
go = "http://127.0.0.1:8080/dl/"
github-api = "https://github.example.com/api/v3"
"""


def test_every_key_lands_in_its_place() -> None:
    assert parse(WHOLE) == Settings(
        path=Path.cwd() / "kobuild.toml",
        image=ImageSettings(
            base="gcr.io/google.com/cloudsdktool/cloud-sdk:alpine",
            targets=(Reference.parse("ghcr.io/example/ko:1"), Reference.parse("ghcr.io/example/ko:latest")),
            platforms=(Platform("linux", "amd64"), Platform("linux", "arm64")),
            compression=Compression.ZSTD_CHUNKED,
            workdir="/workspace",
            path=("/usr/local/go/bin", "/opt/x"),
            env={"CGO_ENABLED": "0", "GOFLAGS": "-trimpath"},
            entrypoint=("/bin/sh", "-c", "/bin/sh"),
            cmd=(),
            user="1000:1000",
            expose=("8080/tcp", "53/udp"),
            volumes=("/data",),
            stop_signal="SIGRTMIN+3",
            labels={"com.example.a": "1"},
            annotations={"com.example.b": ""},
            prioritized=("/usr/local/go/bin/go",),
        ),
        tools=(
            ToolSettings("go", SourceSpec("go", ""), version="~=1.27.0", root="/usr/local"),
            ToolSettings(
                "k.o",
                SourceSpec("github", "ko-build/ko"),
                root="/usr/local/bin",
                only=("ko", "doc"),
                strip=1,
                mode=0o755,
                asset="ko_{version}_{os}_{arch}.tar.gz",
                rename="ko",
                test="ko version",
            ),
        ),
        sources=SourcesSettings(go="http://127.0.0.1:8080/dl", github_api="https://github.example.com/api/v3"),
    )


def test_a_base_alone_is_enough() -> None:
    settings = parse('[image]\nbase = "scratch"')
    assert settings.image == ImageSettings(base="scratch")
    assert settings.tools == ()


def test_tools_keep_the_order_of_the_file() -> None:
    tables = "".join(f'[tools.{name}]\nsource = "go"\n' for name in "zaq")
    assert [tool.name for tool in parse(f'{tables}[image]\nbase = "scratch"').tools] == ["z", "a", "q"]


def test_all_faults_come_at_once_in_file_order() -> None:
    text = """\
[tools.ko]
vresion = "1"
root = "usr"
only = [
  "ko",
  "../x",
]

[image]
target = "UPPER CASE"
[image.env]
A = 1
PATH = "/x"
"""
    assert [str(fault) for fault in faults_of(text)] == [
        (
            "kobuild.toml:1: tools.ko.source: the source is missing "
            "(one of: go, github:OWNER/REPO, url:ADDRESS, pypi:NAME, npm:NAME, path:FILE-OR-DIR)"
        ),
        "kobuild.toml:2: tools.ko.vresion: unknown key (did you mean version?)",
        'kobuild.toml:3: tools.ko.root: expected an absolute path, got "usr" (write "/usr")',
        'kobuild.toml:6: tools.ko.only[1]: empty parts, `.` and `..` are not allowed in "../x" (such as bin/* or ko)',
        'kobuild.toml:9: image.base: the base image is missing (write base = "scratch" to start from nothing)',
        (
            "kobuild.toml:10: image.target: not an image reference: 'UPPER CASE': 'library/UPPER CASE' is not a "
            "repository's name (repository names are lower case)"
        ),
        'kobuild.toml:12: image.env.A: expected a string, got an integer (write it in quotes: "1")',
        (
            "kobuild.toml:13: image.env.PATH: PATH is not set here "
            '(image.path puts directories before the base\'s: path = ["/opt/tool/bin"])'
        ),
    ]


def test_an_empty_file_says_what_is_missing() -> None:
    (fault,) = faults_of("")
    assert str(fault) == 'kobuild.toml: image: the table is missing (write [image] and under it at least base = "…")'


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("[imgae]\n", "imgae", "did you mean image?"),
        ('[tool.go]\nsource = "go"\n', "tool", "did you mean tools?"),
        ('[source]\ngo = "https://example.com"\n', "source", "did you mean sources?"),
        ('[go]\nsource = "go"\n', "go", "it belongs under [tools.go]"),
        ('env = { A = "1" }\n', "env", "it belongs under [image]"),
        ('version = "1"\n', "version", "it belongs under a table of its tool, such as [tools.go]"),
        ("zzz = 1\n", "zzz", "expected one of: image, tools, sources, verify"),
    ],
)
def test_unknown_tables_and_keys_at_the_top(text: str, key: str, hint: str) -> None:
    (fault,) = faults_of(f'{text}[image]\nbase = "scratch"\n')
    assert (fault.line, fault.key, fault.message, fault.hint) == (1, key, "unknown key", hint)


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("image = 1", "image", "expected a table, got an integer"),
        ('tools = ["go"]\n[image]\nbase = "scratch"', "tools", "expected a table, got an array"),
        ('sources = 2020-01-01\n[image]\nbase = "scratch"', "sources", "expected a table, got a date or time"),
        ('[[image]]\nbase = "scratch"', "image", "expected a table, got an array"),
    ],
)
def test_tables_that_are_something_else(text: str, key: str, message: str) -> None:
    (fault,) = faults_of(text)
    assert (fault.line, fault.key, fault.message) == (1, key, message)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[image]\nbase = scratch\n", 2, "not TOML: Invalid value, at column 8"),
        ("[image]\nbase = 'a'\nbase = 'b'\n", 3, "not TOML: Cannot overwrite a value, at column 11"),
        ("[image]\n\nplatforms = [\n", 3, "not TOML: Invalid value, at the end of the file"),
    ],
)
def test_syntax_errors_have_line_and_column(text: str, line: int, message: str) -> None:
    (fault,) = faults_of(text)
    assert (fault.line, fault.key, fault.message) == (line, "", message)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_text(b'\xef\xbb\xbf[image]\nbase = "scratch"\n', Path("x.toml")).image.base == "scratch"


def test_text_that_is_not_utf8_has_its_line() -> None:
    (fault,) = faults_of(b'[image]\nbase = "caf\xe9"\n')
    assert str(fault) == "kobuild.toml:2: not UTF-8: byte 0xe9 (save the file as UTF-8)"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"a = " + b"9" * 5000, "a value cannot be read: "),
        (b"#" * (MAX_SIZE_BYTES + 1), "larger than 1 MiB"),
    ],
)
def test_what_the_toml_parser_cannot_take(raw: bytes, message: str) -> None:
    (fault,) = faults_of(raw)
    assert fault.message.startswith(message)
    assert fault.line is None


def test_a_file_is_read_and_its_path_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ci.toml").write_text('[image]\nbase = "scratch"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    settings = parse_settings(Path("ci.toml"))
    assert settings.folder == Path(os.path.abspath(tmp_path))
    assert settings.lock_path == settings.folder / "ci.lock"


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(tmp_path / "kobuild.toml")
    assert caught.value.faults[0].message == "there is no such file"
    assert caught.value.hint is not None
    assert "-f FILE" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        parse_settings(tmp_path)
