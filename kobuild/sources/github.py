"""`github:OWNER/REPO`: the files of GitHub's releases.

https://docs.github.com/en/rest/releases/releases and …/rest/using-the-rest-api/rate-limits-for-the-rest-api.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from kobuild.errors import FetchError
from kobuild.frozen import frozen
from kobuild.oci.platforms import Platform
from kobuild.settings.model import ToolSettings
from kobuild.sources.assets import AssetQuery, pick_asset
from kobuild.sources.bases import GITHUB_SERVER_URL, github_server, rebase
from kobuild.sources.checksums import MAX_CHECKSUMS_BYTES, checksums_files, find_sum
from kobuild.sources.githubapi import Asset, GithubApi, GithubRelease
from kobuild.sources.model import Artifact, Location, Release, SourceContext, Vouched
from kobuild.sources.versions import Pin, Tag, parse_pin, parse_tag
from kobuild.transport import Request

_MAX_PAGES: Final = 100
_DOWNLOAD: Final = re.compile(
    r"(?P<server>https?://[^/]+)/(?P<repository>[^/]+/[^/]+)/releases/download/(?P<tag>[^/]+)/(?P<name>[^/]+)"
)


@frozen
class _Chosen:
    tag: Tag
    release: GithubRelease


class GithubSource:
    """Releases of one repository."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._api = GithubApi(context)

    def resolve(self, tool: ToolSettings, platforms: tuple[Platform, ...]) -> Release:
        """The release that the pin allows, with the asset for each platform."""
        chosen = self._choose(tool, parse_pin(tool.version))
        tag, release = chosen.tag, chosen.release
        repository = tool.source.argument.rpartition("/")[2]
        query = AssetQuery(tool.name, repository, tag.number, tag.text, tool.asset)
        artifacts = {}
        for platform in platforms:
            name = pick_asset(list(release.assets), platform, query)
            artifacts[platform] = self._artifact(release, release.assets[name])
        return Release(tag.number, tag.text, artifacts, release.published)

    def _choose(self, tool: ToolSettings, pin: Pin) -> _Chosen:
        repository = tool.source.argument
        if pin.is_exact:
            release = self._api.find_release(repository, pin.text)
            if release is not None:
                return _Chosen(_tag(release, tool) or _odd_tag(release), release)
        return self._search(tool, pin)

    def _search(self, tool: ToolSettings, pin: Pin) -> _Chosen:
        """Read pages, newest releases first, until one brings nothing better than what the pages before it had.

        Upstream publishes patches of old versions after newer ones, so one page's best is not trusted at once.
        """
        repository = tool.source.argument
        name = repository.rpartition("/")[2]
        found: dict[Tag, GithubRelease] = {}
        best: Tag | None = None
        for page in self._pages(repository):
            found |= _tags(page, tool)
            better = pin.find(list(found), tool=tool.name, repository=name)
            if better is not None and better == best:
                break
            best = better
        tag = pin.select(list(found), tool=tool.name, repository=name, what=f"github:{repository}")
        return _Chosen(tag, found[tag])

    def _pages(self, repository: str) -> Iterator[tuple[GithubRelease, ...]]:
        url: str | None = self._api.releases_url(repository)
        for _ in range(_MAX_PAGES):
            if url is None:
                return
            page = self._api.get_page(url, repository)
            yield page.releases
            url = page.next_url

    def _artifact(self, release: GithubRelease, asset: Asset) -> Artifact:
        beside = {name: other.url for name, other in release.assets.items()}
        if asset.sha256 is not None:
            return Artifact(asset.url, asset.name, asset.size, asset.sha256, Vouched.PUBLISHER, beside=beside)
        listed = self._listed_sum(release, asset.name)
        if listed is not None:
            return Artifact(asset.url, asset.name, asset.size, listed, Vouched.CHECKSUMS_FILE, beside=beside)
        return Artifact(asset.url, asset.name, asset.size, beside=beside)

    def _listed_sum(self, release: GithubRelease, name: str) -> str | None:
        """What the release's checksums files say; None where there are none, or none lists the file."""
        for candidate in checksums_files(name, list(release.assets)):
            url = rebase(release.assets[candidate].url, self._context)
            with self._context.transport.send(Request("GET", url, netrc=True)) as response:
                body = response.read_all(MAX_CHECKSUMS_BYTES)
            try:
                return find_sum(body, name, candidate)
            except FetchError:
                continue
        return None


def _names(tool: ToolSettings) -> tuple[str, str]:
    return tool.name, tool.source.argument.rpartition("/")[2]


def _tag(release: GithubRelease, tool: ToolSettings) -> Tag | None:
    return parse_tag(release.tag, names=_names(tool), prerelease=release.prerelease)


def _odd_tag(release: GithubRelease) -> Tag:
    """A tag that names no version, such as `nightly`, pinned exactly as it is."""
    zero = parse_tag("0")
    assert zero is not None, "0 is a version"  # noqa: S101
    return Tag(release.tag, release.tag, zero.version)


def _tags(releases: tuple[GithubRelease, ...], tool: ToolSettings) -> Mapping[Tag, GithubRelease]:
    """The releases by tag; one without any file yet is left out, as a release under way."""
    tagged = ((_tag(release, tool), release) for release in releases if release.assets)
    return {tag: release for tag, release in tagged if tag is not None}


def locate_asset(artifact: Artifact, context: SourceContext) -> Location:
    """Where a release's file is; with a token, a private repository's file has an address in the API, too."""
    match = _DOWNLOAD.fullmatch(artifact.url)
    api = GithubApi(context)
    if match is None or match["server"] not in (GITHUB_SERVER_URL, github_server(context)) or not api.has_token:
        return Location(artifact.url)
    repository, tag, name = match["repository"], unquote(match["tag"]), unquote(match["name"])

    def elsewhere() -> Location | None:
        release = api.find_release(repository, tag)
        asset = release.assets.get(name) if release is not None else None
        return api.asset_location(asset) if asset is not None else None

    return Location(artifact.url, elsewhere=elsewhere)
