"""GitHub's releases: pages, pre-releases, drafts, sums, tokens and rate limits."""

from __future__ import annotations

import pytest

from kobuild.errors import FetchError, NoMatchingAsset, NoMatchingVersion, RateLimited, ResolveError
from kobuild.oci.platforms import Platform
from kobuild.settings.model import SourceSpec, SourcesSettings, ToolSettings
from kobuild.sources.catalog import open_source
from kobuild.sources.download import open_artifact
from kobuild.sources.model import Artifact, Release, SourceContext, Vouched
from tests.support.upstream import Fault, Upstream, sha256_of
from tests.unit.sources.conftest import MakeContext

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
KO = "ko-build/ko"


def _assets(version: str) -> dict[str, bytes]:
    return {
        f"ko_{version}_Linux_x86_64.tar.gz": f"ko {version} amd64".encode(),
        f"ko_{version}_Linux_arm64.tar.gz": f"ko {version} arm64".encode(),
        f"ko_{version}_Darwin_arm64.tar.gz": b"mac",
        f"ko_{version}_Linux_x86_64.tar.gz.sbom": b"{}",
    }


def _publish(upstream: Upstream, *versions: str) -> None:
    for version in versions:
        upstream.add_github_release(KO, f"v{version}", _assets(version))


def _resolve(
    context: SourceContext, version: str, *platforms: Platform, name: str = "ko", repository: str = KO, asset: str = ""
) -> Release:
    tool = ToolSettings(name, SourceSpec("github", repository), version, asset=asset)
    return open_source(tool, context).resolve(tool, platforms or (AMD64,))


def test_the_newest_stable_with_an_asset_for_each_platform(upstream: Upstream, context: SourceContext) -> None:
    _publish(upstream, "0.14.0", "0.15.4", "0.15.3")
    upstream.add_github_release(KO, "v0.16.0-rc1", _assets("0.16.0-rc1"))
    upstream.add_github_release(KO, "v0.17.0", _assets("0.17.0"), prerelease=True)
    upstream.add_github_release(KO, "v0.18.0", _assets("0.18.0"), draft=True)
    upstream.add_github_release(KO, "nightly", _assets("9"))
    upstream.add_github_release(KO, "v0.19.0", {})
    release = _resolve(context, "", AMD64, ARM64)
    assert (release.version, release.tag) == ("0.15.4", "v0.15.4")
    filename = "ko_0.15.4_Linux_x86_64.tar.gz"
    url = f"{upstream.url}/ko-build/ko/releases/download/v0.15.4/{filename}"
    content = b"ko 0.15.4 amd64"
    assert release.artifacts[AMD64] == Artifact(url, filename, 15, sha256_of(content), Vouched.PUBLISHER)
    assert release.artifacts[ARM64].filename == "ko_0.15.4_Linux_arm64.tar.gz"
    with open_artifact(release.artifacts[AMD64], context) as opened:
        assert opened.path().read_bytes() == content


def test_prereleases_and_odd_tags_where_they_are_asked_for(upstream: Upstream, context: SourceContext) -> None:
    _publish(upstream, "0.15.4")
    upstream.add_github_release(KO, "v0.17.0", _assets("0.17.0"), prerelease=True)
    upstream.add_github_release(KO, "nightly", _assets("9"))
    assert _resolve(context, ">=0.17rc1").tag == "v0.17.0"
    assert _resolve(context, "v0.17.0").tag == "v0.17.0"
    assert _resolve(context, "0.17.0").tag == "v0.17.0"
    assert _resolve(context, "nightly", asset="*{os}_{arch}.tar.gz").version == "nightly"


def test_pages_are_followed_until_nothing_better_comes(upstream: Upstream, context: SourceContext) -> None:
    _publish(upstream, "0.2.0", "0.1.0", "0.9.0", "0.3.0", "0.5.1", "0.5.2", "0.5.3", "0.5.4")
    upstream.page_size = 2
    assert _resolve(context, "").tag == "v0.5.4"
    assert upstream.count("/releases") == 2
    assert _resolve(context, ">=0.5").tag == "v0.5.4"
    upstream.forget()
    assert _resolve(context, "<0.3").tag == "v0.2.0"
    assert upstream.count("/releases") == 4
    with pytest.raises(NoMatchingVersion, match=r"github:ko-build/ko has no version '>=1'; there are 0\.9\.0, 0\.5\.4"):
        _resolve(context, ">=1")


def test_a_newer_release_on_the_next_page_wins(upstream: Upstream, context: SourceContext) -> None:
    _publish(upstream, "1.0.0", "2.0.0", "1.0.1", "1.0.2")
    upstream.page_size = 2
    assert _resolve(context, "").tag == "v2.0.0"


def test_an_exact_tag_is_one_request(upstream: Upstream, context: SourceContext) -> None:
    _publish(upstream, "0.15.4")
    upstream.add_github_release("k/kustomize", "kustomize/v5.4.1", {"kustomize_v5.4.1_linux_amd64.tar.gz": b"k"})
    assert _resolve(context, "v0.15.4").tag == "v0.15.4"
    assert upstream.count() == 1
    release = _resolve(context, "kustomize/v5.4.1", name="kustomize", repository="k/kustomize")
    assert (release.version, release.tag) == ("5.4.1", "kustomize/v5.4.1")
    assert upstream.count() == 2


def test_one_component_of_many(upstream: Upstream, context: SourceContext) -> None:
    for tag in ("kustomize/v5.4.1", "api/v0.17.0", "kyaml/v0.20.0"):
        upstream.add_github_release("k/kustomize", tag, {f"{tag.replace('/', '_')}_linux_amd64.tar.gz": b"k"})
    assert _resolve(context, "", name="kustomize", repository="k/kustomize").tag == "kustomize/v5.4.1"
    assert _resolve(context, "", name="kyaml", repository="k/kustomize").tag == "kyaml/v0.20.0"


def test_an_unchanged_answer_costs_no_rate_limit(upstream: Upstream, context: SourceContext) -> None:
    _publish(upstream, "0.15.4")
    first = _resolve(context, "")
    left = upstream.rate_limit_remaining
    assert _resolve(context, "") == first
    assert upstream.rate_limit_remaining == left
    assert [request.status for request in upstream.requests] == [200, 304]
    _publish(upstream, "0.15.5")
    assert _resolve(context, "").tag == "v0.15.5"


def test_a_used_up_rate_limit_is_told(upstream: Upstream, context: SourceContext, make_context: MakeContext) -> None:
    _publish(upstream, "0.15.4")
    upstream.rate_limit_remaining = 0
    with pytest.raises(RateLimited, match=r"60 requests an hour is used up until 08:00:00 UTC") as raised:
        _resolve(context, "")
    assert "set GITHUB_TOKEN" in (raised.value.hint or "")
    assert upstream.count() == 1, "no use in trying again"
    with pytest.raises(RateLimited) as raised:
        _resolve(make_context(environ={"GITHUB_TOKEN": "planted-token"}), "")
    assert "another token" in (raised.value.hint or "")
    assert "planted-token" not in str(raised.value)


def test_asking_too_fast_is_waited_out(upstream: Upstream, context: SourceContext) -> None:
    _publish(upstream, "0.15.4")
    upstream.fail("/releases", Fault(status=429, headers={"Retry-After": "3"}, times=2))
    assert _resolve(context, "").tag == "v0.15.4"
    assert upstream.count() == 3


def _sent(upstream: Upstream) -> set[str | None]:
    return {request.headers.get("authorization") for request in upstream.requests}


def test_the_token_goes_to_its_own_server_alone(upstream: Upstream, make_context: MakeContext) -> None:
    _publish(upstream, "0.15.4")
    context = make_context(environ={"GITHUB_TOKEN": "planted-token"})
    with open_artifact(_resolve(context, "").artifacts[AMD64], context) as opened:
        opened.path()
    api = upstream.logged("/api/")
    assert {request.headers["authorization"] for request in api} == {"Bearer planted-token"}
    assert {request.headers.get("authorization") for request in upstream.requests if request not in api} == {None}


def test_settings_name_another_server_and_the_token_stays(upstream: Upstream, make_context: MakeContext) -> None:
    _publish(upstream, "0.15.4")
    other = SourcesSettings(github_api=f"{upstream.files_url}/api/v3")
    _resolve(make_context(settings=other, environ={"GITHUB_TOKEN": "planted-token"}), "")
    assert _sent(upstream) == {None}
    upstream.forget()
    _resolve(make_context(settings=other, environ={"GITHUB_TOKEN": "x", "KOBUILD_GITHUB_TOKEN": "own"}), "")
    assert _sent(upstream) == {"Bearer own"}


def test_the_token_does_not_follow_a_page_to_another_server(upstream: Upstream, make_context: MakeContext) -> None:
    _publish(upstream, "0.1.0", "0.2.0", "0.3.0")
    upstream.page_size = 1
    # The pages' links name the first origin; asked of the second one, they lead elsewhere and are not followed.
    other = SourcesSettings(github_api=f"{upstream.files_url}/api/v3")
    context = make_context(settings=other, environ={"KOBUILD_GITHUB_TOKEN": "own"})
    assert _resolve(context, "").tag == "v0.3.0"
    assert upstream.count() == 1


def test_a_refused_token_is_told(upstream: Upstream, make_context: MakeContext) -> None:
    upstream.token = "right"
    _publish(upstream, "0.15.4")
    with pytest.raises(FetchError, match="the token was refused") as raised:
        _resolve(make_context(environ={"GITHUB_TOKEN": "wrong"}), "")
    assert "GITHUB_TOKEN" in (raised.value.hint or "")


def test_a_missing_repository_is_told(context: SourceContext) -> None:
    with pytest.raises(ResolveError, match="no repository nobody/nothing, or it is private") as raised:
        _resolve(context, "", repository="nobody/nothing")
    assert "GITHUB_TOKEN" in (raised.value.hint or "")
    for odd in ("nobody", "a/b/c", "../x", "/x"):
        with pytest.raises(ResolveError, match="is not github:OWNER/REPO"):
            _resolve(context, "", repository=odd)


def test_another_refusal_keeps_the_server_s_words(upstream: Upstream, context: SourceContext) -> None:
    upstream.fail("/releases", Fault(status=403))
    with pytest.raises(FetchError, match="403: refused"):
        _resolve(context, "")


def test_an_answer_that_is_not_github_s_is_refused(upstream: Upstream, make_context: MakeContext) -> None:
    url = upstream.add_file("/odd/repos/ko-build/ko/releases", b"<html>")
    with pytest.raises(FetchError, match="is not GitHub's"):
        _resolve(make_context(environ={"GITHUB_API_URL": url.partition("/repos")[0]}), "")


def _with_sums(upstream: Upstream, sums: dict[str, bytes]) -> None:
    upstream.add_github_release(KO, "v0.15.4", {**_assets("0.15.4"), **sums}, digests=False)


def test_a_checksums_file_vouches_where_github_does_not(upstream: Upstream, context: SourceContext) -> None:
    name = "ko_0.15.4_Linux_x86_64.tar.gz"
    content = _assets("0.15.4")[name]
    _with_sums(upstream, {"checksums.txt": f"{sha256_of(content)}  {name}\n".encode()})
    artifact = _resolve(context, "").artifacts[AMD64]
    assert (artifact.sha256, artifact.vouched_by) == (sha256_of(content), Vouched.CHECKSUMS_FILE)


def test_a_file_s_own_sum_comes_before_a_shared_one(upstream: Upstream, context: SourceContext) -> None:
    name = "ko_0.15.4_Linux_x86_64.tar.gz"
    _with_sums(upstream, {f"{name}.sha256": b"a" * 64, "SHA256SUMS": b"b" * 64 + b"  " + name.encode()})
    assert _resolve(context, "").artifacts[AMD64].sha256 == "a" * 64


def test_without_any_sum_the_first_download_is_trusted(upstream: Upstream, context: SourceContext) -> None:
    _with_sums(upstream, {"checksums.txt": b"c" * 64 + b"  another\n", "md5sums.txt": b"x"})
    artifact = _resolve(context, "").artifacts[AMD64]
    assert (artifact.sha256, artifact.vouched_by) == (None, Vouched.FIRST_DOWNLOAD)
    assert artifact.size == 15


def test_a_platform_without_an_asset_is_told(upstream: Upstream, context: SourceContext) -> None:
    _publish(upstream, "0.15.4")
    with pytest.raises(NoMatchingAsset, match=r"no file of release v0\.15\.4 is clearly the tool for linux/s390x"):
        _resolve(context, "", Platform("linux", "s390x"))


def test_downloads_are_fetched_from_the_mirror(upstream: Upstream, context: SourceContext) -> None:
    _publish(upstream, "0.15.4")
    name = "ko_0.15.4_Linux_x86_64.tar.gz"
    url = f"https://github.com/ko-build/ko/releases/download/v0.15.4/{name}"
    with open_artifact(Artifact(url, name, 15, sha256_of(b"ko 0.15.4 amd64")), context) as opened:
        assert opened.path().read_bytes() == b"ko 0.15.4 amd64"


def test_a_private_repository_s_files_come_through_the_api(upstream: Upstream, make_context: MakeContext) -> None:
    _publish(upstream, "0.15.4")
    upstream.make_private(KO)
    upstream.token = "planted-token"
    context = make_context(environ={"GITHUB_TOKEN": "planted-token"})
    artifact = _resolve(context, "").artifacts[AMD64]
    with open_artifact(artifact, context) as opened:
        assert opened.path().read_bytes() == b"ko 0.15.4 amd64"
    (download,) = upstream.logged("/release-assets/")
    assert "authorization" not in download.headers
    with pytest.raises(ResolveError, match="or it is private"):
        _resolve(make_context(), "")
    gone = Artifact(f"{artifact.url}x", "x", None, "0" * 64)
    with open_artifact(gone, context) as opened, pytest.raises(FetchError, match="404"):
        opened.path()
