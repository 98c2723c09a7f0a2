"""Files by address: placeholders, listings of every kind, and whose sum it is."""

from __future__ import annotations

import json

import pytest

from kobuild.errors import FetchError, NoMatchingVersion, ResolveError
from kobuild.oci.platforms import Platform
from kobuild.settings.model import SourceSpec, ToolSettings
from kobuild.sources.catalog import open_source
from kobuild.sources.model import Artifact, Release, SourceContext, Vouched
from tests.support.upstream import Upstream
from tests.unit.sources.conftest import MakeContext

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
ARM7 = Platform("linux", "arm", "v7")
SUM = "a" * 64


def _resolve(context: SourceContext, template: str, version: str = "", *platforms: Platform, **keys: str) -> Release:
    tool = ToolSettings("tool", SourceSpec("url", template), version, **keys)  # type: ignore[arg-type]
    return open_source(tool, context).resolve(tool, platforms or (AMD64,))


def test_an_exact_version_needs_no_listing(context: SourceContext) -> None:
    template = "https://example.org/{tag}/tool-{version}-{os}-{arch}-{machine}.tar.gz"
    release = _resolve(context, template, "v1.2", AMD64, ARM64, ARM7)
    assert (release.version, release.tag) == ("1.2", "v1.2")
    assert [artifact.url.rpartition("/")[2] for artifact in release.artifacts.values()] == [
        "tool-1.2-linux-amd64-x86_64.tar.gz",
        "tool-1.2-linux-arm64-aarch64.tar.gz",
        "tool-1.2-linux-armv7-armv7l.tar.gz",
    ]
    assert release.artifacts[AMD64].filename == "tool-1.2-linux-amd64-x86_64.tar.gz"
    assert release.artifacts[AMD64].vouched_by is Vouched.FIRST_DOWNLOAD
    assert _resolve(context, "https://example.org/{tag}", "nightly").artifacts[AMD64].url.endswith("/nightly")


def test_without_a_version_in_it_none_is_needed(context: SourceContext) -> None:
    release = _resolve(context, "https://example.org/tool.tar.gz?key=a%20b", sha256=SUM.upper())
    assert (release.version, release.tag) == ("", "")
    artifact = Artifact("https://example.org/tool.tar.gz?key=a%20b", "tool.tar.gz", None, SUM, Vouched.USER)
    assert release.artifacts[AMD64] == artifact
    assert _resolve(context, "https://example.org/").artifacts[AMD64].filename == "tool"


LISTINGS = {
    "json strings": json.dumps(["v1.0.0", "v1.2.0", "v1.10.0", "v2.0.0-rc1", "nightly", 7]),
    "json objects": json.dumps([{"tag_name": "v1.10.0"}, {"version": "1.2.0"}, {"x": 1}, {"name": "v1.0.0"}]),
    "json marks": json.dumps([{"version": "v3", "prerelease": True}, {"version": "v4", "stable": False}, "v1.10.0"]),
    "json drafts": json.dumps({"releases": [{"tag": "v9", "draft": True}, {"tag": "v1.10.0"}]}),
    "json keys": json.dumps({"versions": {"1.2.0": {}, "1.10.0": {}}}),
    "lines": "# versions\n\n1.2.0  2024-01-01\nv1.10.0\nv1.0.0\nnightly\n",
    "one line": "v1.10.0",
    "links to folders": '<html><a href="..">up</a><A class=x HREF=v1.2.0/>1.2.0</A><a href="/dl/v1.10.0/">x</a></html>',
    "links to files": '<!doctype html><a href="tool-1.2.0-linux-amd64.tar.gz">x</a>'
    '<a href="https://example.org/dl/tool-1.10.0-darwin-arm64.tar.gz?x&amp;y">x</a><a href="tool-9.sha256">x</a>',
    "tags without end": "<!doctype html>" + "<a " * 300_000 + '<a href="v1.10.0/">x</a>',
}


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_listing_of_any_kind_gives_the_newest(upstream: Upstream, context: SourceContext, kind: str) -> None:
    versions = upstream.add_file("/versions", LISTINGS[kind].encode())
    release = _resolve(context, "https://example.org/tool-{version}-{os}-{arch}.tar.gz", versions=versions)
    assert release.version == "1.10.0"
    assert release.artifacts[AMD64].filename == "tool-1.10.0-linux-amd64.tar.gz"


def test_a_listing_is_matched_by_the_pin(upstream: Upstream, context: SourceContext) -> None:
    versions = upstream.add_file("/versions", LISTINGS["json strings"].encode())
    template = "https://example.org/{tag}.tar.gz"
    assert _resolve(context, template, "<1.10", versions=versions).tag == "v1.2.0"
    assert _resolve(context, template, ">=2.0rc1", versions=versions).tag == "v2.0.0-rc1"
    with pytest.raises(NoMatchingVersion, match=r"/versions has no version '>=3'; there are 2\.0\.0-rc1, 1\.10\.0"):
        _resolve(context, template, ">=3", versions=versions)


def test_broken_json_is_told(upstream: Upstream, context: SourceContext) -> None:
    with pytest.raises(ResolveError, match="is broken JSON"):
        _resolve(context, "https://example.org/{tag}", versions=upstream.add_file("/versions", b'["v1'))


@pytest.mark.parametrize("version", ["", ">=1"])
def test_a_range_without_a_listing_is_told(context: SourceContext, version: str) -> None:
    with pytest.raises(ResolveError, match="cannot be found without a listing") as raised:
        _resolve(context, "https://example.org/tool-{version}", version)
    assert "versions = " in (raised.value.hint or "")


def test_a_checksums_file_vouches(upstream: Upstream, context: SourceContext) -> None:
    upstream.add_file("/1.2/SHA256SUMS", f"{SUM}  tool-amd64\n{'b' * 64}  tool-arm64\n".encode())
    checksums = f"{upstream.url}/{{version}}/SHA256SUMS"
    release = _resolve(context, "https://example.org/tool-{arch}", "1.2", AMD64, ARM64, checksums=checksums)
    assert {artifact.sha256 for artifact in release.artifacts.values()} == {SUM, "b" * 64}
    assert {artifact.vouched_by for artifact in release.artifacts.values()} == {Vouched.CHECKSUMS_FILE}
    with pytest.raises(FetchError, match="lists no sha256 for other-amd64"):
        _resolve(context, "https://example.org/other-{arch}", "1.2", checksums=checksums)


def test_one_sum_is_not_for_two_files(context: SourceContext) -> None:
    with pytest.raises(ResolveError, match="the sum of one file"):
        _resolve(context, "https://example.org/tool-{arch}", "", AMD64, ARM64, sha256=SUM)
    assert _resolve(context, "https://example.org/tool", "", AMD64, ARM64, sha256=SUM).artifacts[ARM64].sha256 == SUM


def test_an_unknown_placeholder_is_told(context: SourceContext) -> None:
    with pytest.raises(ResolveError, match=r"no placeholder \{cpu\} here") as raised:
        _resolve(context, "https://example.org/tool-{cpu}", "1.2")
    assert "{machine}" in (raised.value.hint or "")


def test_offline_is_told(upstream: Upstream, make_context: MakeContext) -> None:
    with pytest.raises(FetchError, match="--offline"):
        _resolve(make_context(offline=True), "https://example.org/{tag}", versions=f"{upstream.url}/versions")


def test_a_source_that_there_is_not(context: SourceContext) -> None:
    with pytest.raises(ResolveError, match="there is no source 'ftp'"):
        open_source(ToolSettings("tool", SourceSpec("ftp", "x")), context)
