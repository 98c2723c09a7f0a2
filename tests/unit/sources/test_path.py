"""Local files and directories, and sums that do not depend on how they lie on the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kobuild.errors import DigestMismatch, ResolveError
from kobuild.oci.platforms import Platform
from kobuild.settings.model import SourceSpec, ToolSettings
from kobuild.sources.catalog import open_source
from kobuild.sources.download import open_artifact
from kobuild.sources.model import Artifact, Release, SourceContext, Vouched
from kobuild.sources.path import is_directory, tree_digest
from tests.support.upstream import sha256_of

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


def _resolve(context: SourceContext, path: str, *platforms: Platform, version: str = "") -> Release:
    tool = ToolSettings("tool", SourceSpec("path", path), version)
    return open_source(tool, context).resolve(tool, platforms or (AMD64,))


def test_a_file_beside_the_settings(context: SourceContext) -> None:
    (context.folder / "tools").mkdir()
    (context.folder / "tools" / "tool.tar.gz").write_bytes(b"archive")
    release = _resolve(context, "tools/tool.tar.gz", AMD64, ARM64, version="1.2")
    assert (release.version, release.tag) == ("1.2", "1.2")
    expected = Artifact("path:tools/tool.tar.gz", "tool.tar.gz", 7, sha256_of(b"archive"), Vouched.LOCAL)
    assert release.artifacts == {AMD64: expected, ARM64: expected}
    assert not is_directory(expected.url, expected.filename)
    with open_artifact(expected, context) as opened, opened.stream() as stream:
        assert stream.read() == b"archive"
        assert opened.path() == context.folder / "tools" / "tool.tar.gz"


def test_a_file_for_each_platform(context: SourceContext) -> None:
    for name in ("tool-amd64-x86_64", "tool-arm64-aarch64"):
        (context.folder / name).write_bytes(name.encode())
    release = _resolve(context, "tool-{arch}-{machine}", AMD64, ARM64)
    assert [artifact.filename for artifact in release.artifacts.values()] == ["tool-amd64-x86_64", "tool-arm64-aarch64"]
    with pytest.raises(ResolveError, match=r"no placeholder \{version\}"):
        _resolve(context, "tool-{version}")


def test_a_file_that_changed_since_the_lock_is_not_used(context: SourceContext) -> None:
    (context.folder / "tool").write_bytes(b"one")
    artifact = _resolve(context, "tool").artifacts[AMD64]
    (context.folder / "tool").write_bytes(b"two")
    with open_artifact(artifact, context) as opened:
        with pytest.raises(DigestMismatch), opened.stream() as stream:
            stream.read()
        with pytest.raises(DigestMismatch, match="as it was when the lock was made") as raised:
            opened.path()
    assert "kobuild resolve" in (raised.value.hint or "")


def test_a_missing_file_is_named(context: SourceContext) -> None:
    with pytest.raises(ResolveError, match=r"path:nothing: there is no .*/nothing"):
        _resolve(context, "nothing")


def test_a_directory_has_a_tree_digest(context: SourceContext) -> None:
    (context.folder / "conf" / "sub").mkdir(parents=True)
    (context.folder / "conf" / "sub" / "file").write_bytes(b"12345")
    artifact = _resolve(context, "conf").artifacts[AMD64]
    assert (artifact.url, artifact.filename, artifact.size) == ("path:conf", "conf/", 5)
    assert artifact.sha256 == tree_digest(context.folder / "conf")[1]
    assert is_directory(artifact.url, artifact.filename)


def _fill(folder: Path) -> None:
    (folder / "b").mkdir(parents=True)
    (folder / "a").write_bytes(b"one")
    (folder / "b" / "c").write_bytes(b"two")
    (folder / "b" / "run").write_bytes(b"#!/bin/sh\n")
    (folder / "b" / "run").chmod(0o755)
    (folder / "link").symlink_to("b/c")


def test_neither_umask_nor_times_nor_order_matter(tmp_path: Path) -> None:
    _fill(tmp_path / "one")
    before = os.umask(0o077)
    try:
        _fill(tmp_path / "two")
    finally:
        os.umask(before)
    (tmp_path / "two" / "b" / "run").chmod(0o700)
    os.utime(tmp_path / "two" / "a", (1, 1))
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two")


def _replace(path: Path, link: str = "", content: bytes = b"") -> None:
    path.unlink()
    if link:
        path.symlink_to(link)
    else:
        path.write_bytes(content)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda folder: (folder / "a").write_bytes(b"two"),
    "a name": lambda folder: (folder / "a").rename(folder / "A"),
    "the execute bit": lambda folder: (folder / "a").chmod(0o755),
    "a link's target": lambda folder: _replace(folder / "link", link="a"),
    "a new empty folder": lambda folder: (folder / "empty").mkdir(),
    "a file instead of a link": lambda folder: _replace(folder / "link", content=b"b/c"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_reaches_the_image_matters(tmp_path: Path, change: str) -> None:
    _fill(tmp_path)
    before = tree_digest(tmp_path)
    CHANGES[change](tmp_path)
    assert tree_digest(tmp_path)[1] != before[1]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ResolveError, match="neither a file, a directory nor a link"):
        tree_digest(tmp_path)


_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..") and len(os.fsencode(name)) < 200
)


@settings(deadline=None)
@given(st.dictionaries(_NAMES, st.binary(max_size=9), max_size=4), st.dictionaries(_NAMES, st.binary(max_size=9)))
def test_two_trees_share_a_digest_only_when_they_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, bytes], two: dict[str, bytes]
) -> None:
    digests = []
    for files in (one, two):
        folder = tmp_path_factory.mktemp("tree")
        for name, content in reversed(files.items()):
            (folder / name).write_bytes(content)
        digests.append(tree_digest(folder)[1])
    assert (digests[0] == digests[1]) == (one == two)
