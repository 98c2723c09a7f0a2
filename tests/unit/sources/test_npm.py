"""Packages through the real npm: from a registry on loopback, and from the user's own."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from kobuild.errors import DigestMismatch, FetchError, NoMatchingVersion, ProgramError, ResolveError
from kobuild.oci.platforms import Platform
from kobuild.settings.model import SourceSpec, ToolSettings
from kobuild.sources.catalog import open_source
from kobuild.sources.download import open_artifact
from kobuild.sources.model import Artifact, Release, SourceContext, Vouched
from tests.support.programs import require_program
from tests.support.upstream import Upstream
from tests.unit.sources.conftest import MakeContext

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
X86 = Platform("linux", "386")

Make = Callable[..., SourceContext]


@pytest.fixture(autouse=True)
def needs_npm() -> None:
    require_program("npm")


@pytest.fixture
def alone(upstream: Upstream, make_context: MakeContext, tmp_path: Path) -> Make:
    """A context whose npm knows no registry but the one on loopback."""
    (tmp_path / "npmrc").touch()

    def make(config: str = "", registry: str = "/npm/") -> SourceContext:
        (tmp_path / "npmrc").write_text(config)
        npmrc = str(tmp_path / "npmrc")
        settings = {
            "userconfig": npmrc,
            "globalconfig": f"{npmrc}.global",
            "cache": str(tmp_path / "npm"),
            "fetch_retries": "0",
        }
        environ = {f"npm_config_{name}": value for name, value in settings.items()}
        return make_context(environ={**environ, "npm_config_registry": f"{upstream.url}{registry}"})

    return make


def _publish(
    upstream: Upstream,
    name: str,
    versions: Iterable[str],
    root: str = "/npm",
    *,
    wrong: bool = False,
    more: dict[str, object] | None = None,
) -> None:
    documents = {}
    for version in versions:
        content = f"{name} {version}".encode()
        base = name.rpartition("/")[2]
        url = upstream.add_file(f"{root}/{name}/-/{base}-{version}.tgz", content)
        summed = b"another" if wrong else content
        dist = {
            "integrity": "sha512-" + b64encode(hashlib.sha512(summed).digest()).decode(),
            "shasum": hashlib.sha1(summed, usedforsecurity=False).hexdigest(),
            "tarball": url,
        }
        documents[version] = {"name": name, "version": version, "dist": dist, **(more or {})}
    latest = list(documents)[-1]
    document = {"_id": name, "name": name, "dist-tags": {"latest": latest}, "versions": documents}
    document["time"] = {version: f"2026-01-{number:02}T03:04:05.678Z" for number, version in enumerate(documents, 1)}
    upstream.add_file(f"{root}/{name}", json.dumps(document).encode(), "application/json")


def _resolve(context: SourceContext, package: str, version: str, *platforms: Platform) -> Release:
    tool = ToolSettings("tool", SourceSpec("npm", package), version)
    return open_source(tool, context).resolve(tool, platforms or (AMD64,))


def test_the_version_that_the_pin_allows(upstream: Upstream, alone: Make) -> None:
    _publish(upstream, "some-tool", ["1.0.0", "1.2.0", "2.0.0-beta.1", "1.1.0"])
    context = alone()
    assert _resolve(context, "some-tool", "").version == "1.2.0"
    assert _resolve(context, "some-tool", "<1.2").version == "1.1.0"
    assert _resolve(context, "some-tool", "2.0.0-beta.1").version == "2.0.0-beta.1"
    with pytest.raises(NoMatchingVersion, match=r"npm:some-tool has no version '>=3'; there are 2\.0\.0-beta\.1, 1\.2"):
        _resolve(context, "some-tool", ">=3")


def test_integrity_vouches_and_the_sum_is_found_by_the_download(upstream: Upstream, alone: Make) -> None:
    _publish(upstream, "@scope/tool", ["1.0.0"])
    context = alone()
    artifacts = _resolve(context, "@scope/tool", "", AMD64, ARM64).artifacts
    artifact = artifacts[AMD64]
    assert artifacts[ARM64] == artifact
    assert (artifact.url, artifact.filename) == ("pkg:npm/%40scope/tool@1.0.0", "tool-1.0.0.tgz")
    assert (artifact.vouched_by, artifact.sha256) == (Vouched.PUBLISHER, None)
    with open_artifact(artifact, context) as opened:
        assert opened.path().read_bytes() == b"@scope/tool 1.0.0"


def test_a_wrong_integrity_is_refused(upstream: Upstream, alone: Make) -> None:
    _publish(upstream, "some-tool", ["1.0.0"], wrong=True)
    context = alone()
    artifact = _resolve(context, "some-tool", "").artifacts[AMD64]
    with open_artifact(artifact, context) as opened, pytest.raises(DigestMismatch, match="sha512-"):
        opened.path()


def test_a_package_for_each_platform_in_node_s_words(upstream: Upstream, alone: Make) -> None:
    for name in ("linux-x64", "linux-arm64", "linux-ia32"):
        _publish(upstream, f"@some/{name}", ["1.0.0", "1.1.0"])
    release = _resolve(alone(), "@some/{os}-{arch}", "~=1.0", AMD64, ARM64, X86)
    assert release.version == "1.1.0"
    assert [artifact.url for artifact in release.artifacts.values()] == [
        "pkg:npm/%40some/linux-x64@1.1.0",
        "pkg:npm/%40some/linux-arm64@1.1.0",
        "pkg:npm/%40some/linux-ia32@1.1.0",
    ]


def test_a_platform_s_package_without_the_version_is_told(upstream: Upstream, alone: Make) -> None:
    _publish(upstream, "@some/linux-x64", ["1.0.0", "1.1.0"])
    _publish(upstream, "@some/linux-arm64", ["1.0.0"])
    with pytest.raises(NoMatchingVersion, match=r"npm:@some/linux-arm64"):
        _resolve(alone(), "@some/{os}-{arch}", "", AMD64, ARM64)


def test_a_registry_that_wants_a_token(upstream: Upstream, alone: Make) -> None:
    _publish(upstream, "some-tool", ["1.0.0"], "/private")
    upstream.guard("/private/", "Bearer planted-secret")
    address = upstream.url.removeprefix("http:")
    context = alone(f"{address}/private/:_authToken=planted-secret\n", "/private/")
    artifact = _resolve(context, "some-tool", "").artifacts[AMD64]
    with open_artifact(artifact, context) as opened:
        assert opened.path().read_bytes() == b"some-tool 1.0.0"
    without = alone("", "/private/")
    with pytest.raises(ProgramError) as raised:
        _resolve(without, "some-tool", "")
    assert "planted-secret" not in str(raised.value)


def test_a_lock_finds_its_package_in_any_registry(upstream: Upstream, alone: Make) -> None:
    _publish(upstream, "@scope/tool", ["1.0.0"])
    context = alone()
    with open_artifact(Artifact("pkg:npm/%40scope/tool@1.0.0", "tool-1.0.0.tgz"), context) as opened:
        assert opened.path().read_bytes() == b"@scope/tool 1.0.0"
    for url, kind in (("pkg:npm/none@1.0.0", NoMatchingVersion), ("pkg:npm/--x@1 0", ResolveError)):
        with open_artifact(Artifact(url, "none.tgz"), context) as opened, pytest.raises(kind):
            opened.path()


def test_a_missing_package_is_told(alone: Make) -> None:
    with pytest.raises(NoMatchingVersion, match=r"npm:nothing: Not Found") as raised:
        _resolve(alone(), "nothing", "")
    assert ".npmrc" in (raised.value.hint or "")


@pytest.mark.parametrize("name", ["--registry=x", "a b", "../x", "@x", "{cpu}"])
def test_a_name_is_no_option(alone: Make, name: str) -> None:
    with pytest.raises(ResolveError):
        _resolve(alone(), name, "")


def test_a_missing_npm_is_told(make_context: MakeContext, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="there is none on PATH"):
        _resolve(make_context(environ={"PATH": str(tmp_path)}), "some-tool", "")


def test_offline_is_told(make_context: MakeContext) -> None:
    with pytest.raises(FetchError, match="npm:some-tool is needed, and --offline forbids"):
        _resolve(make_context(offline=True), "some-tool", "")


def test_a_real_package_from_the_user_s_own_registry(make_context: MakeContext) -> None:
    context = make_context()
    try:
        release = _resolve(context, "is-number", "<8")
    except (ProgramError, FetchError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"npm reaches no registry: {error}")
    assert release.version == "7.0.0"
    with open_artifact(release.artifacts[AMD64], context) as opened:
        assert opened.path().stat().st_size > 1000


def test_a_project_s_own_npmrc_gets_no_secret_of_ours(upstream: Upstream, alone: Make) -> None:
    _publish(upstream, "tool", ["1.0.0"])
    context = alone()
    names = ("GITHUB_TOKEN", "KOBUILD_LAYER_CACHE_KEY", "COSIGN_PASSWORD", "SIGSTORE_ID_TOKEN")
    secrets = dict.fromkeys(names, "a-planted-secret")
    context = replace(context, environ={**context.environ, **secrets, "NPM_TOKEN": "npm-s-own"})
    host = upstream.url.partition(":")[2]
    (context.folder / ".npmrc").write_text(
        f"{host}/npm/:_authToken={''.join(f'${{{name}}}' for name in (*names, 'NPM_TOKEN'))}\n"
    )
    tool = ToolSettings("tool", SourceSpec("npm", "tool"), "==1.0.0")
    open_source(tool, context).resolve(tool, (AMD64,))
    seen = [str(request.headers.get("authorization")) for request in upstream.logged("/npm/")]
    assert any("npm-s-own" in text for text in seen)
    assert not any("planted" in text for text in seen)


def test_licence_page_and_day_are_the_registry_s(upstream: Upstream, alone: Make) -> None:
    more: dict[str, object] = {"license": "mit", "homepage": "https://some-tool.test/#readme"}
    _publish(upstream, "some-tool", ["1.0.0", "1.1.0"], more=more)
    release = _resolve(alone(), "some-tool", "")
    assert (release.license, release.page) == ("MIT", "https://some-tool.test/")
    assert release.published == "2026-01-02T03:04:05Z"
