"""The lock: the same bytes for the same choice, and clear words for a broken file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kobuild.errors import LockError
from kobuild.lock import Lock, LockedArtifact, LockedBase, LockedTool, dump, load, parse, save
from kobuild.oci.platforms import Platform

AMD64: Final = Platform("linux", "amd64")
ARM64: Final = Platform("linux", "arm64")
PATH: Final = Path("kobuild.lock")


def _artifact(name: str) -> LockedArtifact:
    return LockedArtifact(f"https://go.dev/dl/{name}", name, 70_000_000, "0123456789abcdef" * 4, "publisher")


def _lock() -> Lock:
    base = LockedBase("docker.io/library/debian:12", f"sha256:{'1' * 64}", {AMD64: f"sha256:{'2' * 64}"})
    artifacts = {ARM64: _artifact("go1.27.3.linux-arm64.tar.gz"), AMD64: _artifact("go1.27.3.linux-amd64.tar.gz")}
    go = LockedTool("go", "go", "~=1.27.0", "1.27.3", "go1.27.3", "f00d", artifacts)
    return Lock(base, {"go": go})


GOLDEN: Final = f"""\
# Made by `kobuild resolve`. Commit this file; do not edit it by hand.
version = 1

[base]
name = "docker.io/library/debian:12"
digest = "sha256:{"1" * 64}"

[base.platforms]
"linux/amd64" = "sha256:{"2" * 64}"

[tools.go]
source = "go"
requirement = "~=1.27.0"
version = "1.27.3"
tag = "go1.27.3"
settings = "f00d"
sum = "8ae9466149641220"

[tools.go.artifacts."linux/amd64"]
url = "https://go.dev/dl/go1.27.3.linux-amd64.tar.gz"
filename = "go1.27.3.linux-amd64.tar.gz"
size = 70000000
sha256 = "{"0123456789abcdef" * 4}"
vouched-by = "publisher"

[tools.go.artifacts."linux/arm64"]
url = "https://go.dev/dl/go1.27.3.linux-arm64.tar.gz"
filename = "go1.27.3.linux-arm64.tar.gz"
size = 70000000
sha256 = "{"0123456789abcdef" * 4}"
vouched-by = "publisher"
"""


def test_the_file_is_as_documented() -> None:
    assert dump(_lock()).decode() == GOLDEN
    assert parse(GOLDEN.encode(), PATH) == _lock()


_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_PLATFORMS = st.sampled_from([AMD64, ARM64, Platform("linux", "arm", "v7")])
_SUMS = st.text("0123456789abcdef", min_size=64, max_size=64)
_ARTIFACTS = st.builds(
    LockedArtifact,
    _TEXT,
    st.text("abc-_.é\"\\'", min_size=1, max_size=9).filter(lambda name: name.strip("./")),
    st.integers(0, 1 << 40),
    _SUMS,
    st.sampled_from(["publisher", "user"]),
)


@st.composite
def _locks(draw: st.DrawFn) -> Lock:
    tool = st.builds(LockedTool, *([_TEXT] * 6), st.dictionaries(_PLATFORMS, _ARTIFACTS, max_size=3))
    tools = {tool.name: tool for tool in draw(st.lists(tool.filter(lambda tool: bool(tool.name)), max_size=4))}
    digests = _SUMS.map("sha256:{}".format)
    base = st.builds(LockedBase, _TEXT, digests, st.dictionaries(_PLATFORMS, digests))
    return Lock(draw(st.none() | base), tools)


@settings(deadline=None)
@given(_locks())
def test_what_is_written_is_read_back(lock: Lock) -> None:
    data = dump(lock)
    again = parse(data, PATH)
    assert again == lock
    assert dump(again) == data


def test_the_order_of_the_settings_changes_nothing() -> None:
    go = _lock().tools["go"]
    ko = LockedTool("ko", "github:ko-build/ko", "", "0.18.0", "v0.18.0", "", {})
    assert dump(Lock(None, {"go": go, "ko": ko})) == dump(Lock(None, {"ko": ko, "go": go}))


def test_an_unchanged_lock_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "kobuild.lock"
    assert load(path) is None
    assert save(path, _lock())
    before = path.stat()
    assert not save(path, _lock())
    assert path.stat() == before
    assert load(path) == _lock()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version = 1\n", "", r"^kobuild.lock: version: expected 1, got None"),
        ("version = 1\n", "version = 2\n", r"format version 2 is newer than the 1"),
        ("version = 1\n", "version = true\n", r"^kobuild.lock:2: version: expected 1, got True"),
        ('tag = "go1.27.3"\n', "", r"^kobuild.lock:11: tools\.go\.tag: missing"),
        ('tag = "go1.27.3"', "tag = 5", r"^kobuild.lock:15: tools\.go\.tag: expected a string, got 5"),
        (
            "size = 70000000",
            "size = -1",
            r'^kobuild.lock:22: tools\.go\..*"linux/amd64"\.size: expected a number',
        ),
        ("size = 70000000", 'size = "x"', r"size: expected a number of bytes, got 'x'"),
        ('sha256 = "0123', 'sha256 = "X123', r"^kobuild.lock:23: .*sha256: expected 64 lower-case hex digits"),
        ('vouched-by = "publisher"', 'vouched-by = "me"', r"^kobuild.lock:24: .*vouched-by: expected one of"),
        ('filename = "go', 'filename = "../go', r"^kobuild.lock:21: .*filename: expected a plain file name"),
        ('"linux/amd64" = ', '"linux" = ', r"^kobuild.lock:8: base\.platforms\.linux: not a platform"),
        ('digest = "sha256:1', 'digest = "sha1:1', r"^kobuild.lock:6: base\.digest: not a digest"),
        ('settings = "f00d"', 'settings = "f00d"\nextra = 1', r"^kobuild.lock:17: tools\.go\.extra: unknown key"),
        ("[tools.go]\n", "[tools.go]\n[tools.go]\n", r"^kobuild.lock:12: broken: .*[Cc]annot declare"),
        ("[tools.go]\n", "<<<<<<< HEAD\n[tools.go]\n", r"^kobuild.lock:11: a merge conflict"),
        ("version = 1\n", "version = 1\nbase = 3\n", r"broken: "),
        ("requirement", "require\0ment", r"^kobuild.lock:13: broken: "),
    ],
)
def test_a_broken_lock_says_where(old: str, new: str, message: str) -> None:
    assert old in GOLDEN
    with pytest.raises(LockError, match=message) as raised:
        parse(GOLDEN.replace(old, new, 1).encode(), PATH)
    assert raised.value.hint
    assert raised.value.exit_code == 2


def test_bytes_that_are_no_text_say_where() -> None:
    with pytest.raises(LockError, match=r"^kobuild.lock:2: not UTF-8"):
        parse(b"# x\n\xff\n", PATH)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_lock_or_a_lock_error(data: bytes) -> None:
    try:
        parse(data, PATH)
    except LockError as error:
        named = "kobuild.lock" in str(error)
        assert named  # most bytes raise, some are a lock


def test_a_lock_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"read .*: Is a directory"):
        load(tmp_path)


def test_an_address_with_credentials_stays_out_of_the_file() -> None:
    artifact = dataclasses.replace(_artifact("tool.whl"), location="https://user:planted-secret@example.org/tool.whl")
    tool = LockedTool("tool", "pypi:tool", "", "1.0", "1.0", "", {AMD64: artifact})
    assert b"planted-secret" not in dump(Lock(None, {"tool": tool}))
    assert "planted-secret" not in repr(tool)


def test_a_licence_is_kept_where_it_is_known_and_absent_where_it_is_not() -> None:
    tool = LockedTool("go", "go", "", "1.27.3", "go1.27.3", "f", {}, license="BSD-3-Clause")
    lock = Lock(None, {"go": tool})
    assert b'\nsettings = "f"\nlicense = "BSD-3-Clause"\n' in dump(lock)
    assert parse(dump(lock), Path("kobuild.lock")) == lock
    assert b"license" not in dump(Lock(None, {"go": dataclasses.replace(tool, license="")}))
