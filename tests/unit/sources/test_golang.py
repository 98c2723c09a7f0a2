"""Go's listing, short and whole, as go.dev answers it."""

from __future__ import annotations

import pytest

from kobuild.errors import FetchError, NoMatchingAsset, NoMatchingVersion
from kobuild.oci.platforms import Platform
from kobuild.settings.model import SourceSpec, SourcesSettings, ToolSettings
from kobuild.sources.catalog import open_source
from kobuild.sources.download import open_artifact
from kobuild.sources.model import Artifact, Release, SourceContext, Vouched
from tests.support.upstream import Upstream, sha256_of
from tests.unit.sources.conftest import MakeContext

AMD64 = Platform("linux", "amd64")
ARM7 = Platform("linux", "arm", "v7")


@pytest.fixture(autouse=True)
def releases(upstream: Upstream) -> None:
    for version in ("1.25.9", "1.26.8", "1.26.9", "1.27.0", "1.27.2", "1.27.3", "1.28rc1"):
        archives = {"linux/amd64": f"go {version}".encode(), "linux/arm/v6": b"go arm", "windows/amd64": b"exe"}
        upstream.add_go_release(version, archives)
    upstream.forget()


def _resolve(context: SourceContext, version: str, *platforms: Platform) -> Release:
    tool = ToolSettings("go", SourceSpec("go", ""), version)
    return open_source(tool, context).resolve(tool, platforms or (AMD64,))


@pytest.mark.parametrize(
    ("version", "tag", "requests"),
    [
        ("", "go1.27.3", 1),
        ("latest", "go1.27.3", 1),
        ("~=1.27.0", "go1.27.3", 1),
        (">=1.20", "go1.27.3", 1),
        ("go1.27.3", "go1.27.3", 1),
        ("1.26.9", "go1.26.9", 1),
        ("~=1.26.0", "go1.26.9", 2),
        (">=1.26,<1.27.3", "go1.27.2", 2),
        ("1.25.9", "go1.25.9", 2),
        (">=1.28rc1", "go1.28rc1", 2),
        ("go1.28rc1", "go1.28rc1", 2),
    ],
)
def test_the_short_listing_is_asked_first(
    upstream: Upstream, context: SourceContext, version: str, tag: str, requests: int
) -> None:
    release = _resolve(context, version)
    assert release.tag == tag
    assert release.version == tag.removeprefix("go")
    paths = [request.path for request in upstream.requests]
    assert paths == ["/dl/?mode=json", "/dl/?mode=json&include=all"][:requests]


def test_the_archive_is_the_listing_s_own(upstream: Upstream, context: SourceContext) -> None:
    content = b"go 1.27.3"
    (artifact,) = _resolve(context, "1.27.3").artifacts.values()
    filename = "go1.27.3.linux-amd64.tar.gz"
    url = f"{upstream.go_url}/{filename}"
    assert artifact == Artifact(url, filename, len(content), sha256_of(content), Vouched.PUBLISHER)
    with open_artifact(artifact, context) as opened:
        assert opened.path().read_bytes() == content


def test_arm_is_one_build_for_all_of_32_bits(context: SourceContext) -> None:
    assert _resolve(context, "", ARM7).artifacts[ARM7].filename == "go1.27.3.linux-armv6l.tar.gz"


def test_a_platform_without_an_archive_is_named(context: SourceContext) -> None:
    with pytest.raises(NoMatchingAsset, match=r"go1\.27\.3 has no archive for linux/s390x; there are linux/amd64"):
        _resolve(context, "", Platform("linux", "s390x"))


def test_no_match_says_which_versions_exist(context: SourceContext) -> None:
    with pytest.raises(NoMatchingVersion, match=r"Go has no version '>=2'; there are 1\.28rc1, 1\.27\.3"):
        _resolve(context, ">=2")


def test_the_base_address_comes_from_the_environment_then_the_settings(
    upstream: Upstream, make_context: MakeContext
) -> None:
    mirror = SourcesSettings(go=f"{upstream.files_url}/dl/")
    assert _resolve(make_context(settings=mirror), "").artifacts[AMD64].url.startswith(upstream.go_url)
    context = make_context(settings=mirror, environ={"KOBUILD_GO_URL": ""})
    assert _resolve(context, "").artifacts[AMD64].url.startswith(f"{upstream.files_url}/dl/go1.27.3")


def test_a_lock_s_public_address_is_fetched_from_the_mirror(context: SourceContext) -> None:
    artifact = Artifact("https://go.dev/dl/go1.27.3.linux-amd64.tar.gz", "go.tar.gz", 9, sha256_of(b"go 1.27.3"))
    with open_artifact(artifact, context) as opened:
        assert opened.path().read_bytes() == b"go 1.27.3"


@pytest.mark.parametrize("body", [b"<html>", b'{"a": 1}', b"[" * 100_000])
def test_another_answer_is_refused(upstream: Upstream, make_context: MakeContext, body: bytes) -> None:
    context = make_context(environ={"KOBUILD_GO_URL": upstream.add_file("/odd/", body).rstrip("/")})
    with pytest.raises(FetchError, match="is not Go's listing") as raised:
        _resolve(context, "")
    assert "KOBUILD_GO_URL" in (raised.value.hint or "")


def test_offline_is_told_at_once(upstream: Upstream, make_context: MakeContext) -> None:
    with pytest.raises(FetchError, match="--offline forbids the network"):
        _resolve(make_context(offline=True), "")
    assert upstream.count() == 0
