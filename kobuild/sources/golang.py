"""`go`: Go's own toolchain from go.dev/dl or a mirror of it.

The listing is documented at https://pkg.go.dev/golang.org/x/website/internal/dl: `mode=json` has the newest patch of
the two supported minor versions, `include=all` every version there ever was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kobuild.errors import FetchError, NoMatchingAsset
from kobuild.oci.jsonio import get_int, get_objects, get_str
from kobuild.oci.platforms import Platform
from kobuild.settings.model import ToolSettings
from kobuild.sources.bases import go_base
from kobuild.sources.licenses import GO_LICENSE
from kobuild.sources.model import Artifact, Release, SourceContext, Vouched
from kobuild.sources.versions import Pin, Tag, parse_pin, parse_tag
from kobuild.transport import Request, redact

MAX_LISTING_BYTES: Final = 64 * 1024 * 1024
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


class GoSource:
    """Go's releases."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._base = go_base(context)

    def resolve(self, tool: ToolSettings, platforms: tuple[Platform, ...]) -> Release:
        """The release that the pin allows; the short listing answers where it can."""
        pin = parse_pin(tool.version)
        tag, release = self._choose(pin, tool)
        artifacts = {platform: self._artifact(release, tag, platform) for platform in platforms}
        return Release(tag.number, tag.text, artifacts, license=GO_LICENSE)

    def _choose(self, pin: Pin, tool: ToolSettings) -> tuple[Tag, Mapping[str, Any]]:
        releases = self._list("mode=json")
        tag = pin.find(list(releases), tool=tool.name, repository="go")
        newest = max(releases, key=lambda item: item.version, default=None)
        asks_for_prereleases = pin.specifier is not None and bool(pin.specifier.prereleases)
        # Below the newest there may be patches that the short listing leaves out.
        if tag is None or asks_for_prereleases or not (pin.is_exact or tag == newest):
            releases = self._list("mode=json&include=all")
            tag = pin.select(list(releases), tool=tool.name, repository="go", what="Go")
        return tag, releases[tag]

    def _list(self, query: str) -> dict[Tag, Mapping[str, Any]]:
        url = f"{self._base}/?{query}"
        self._context.require_network(url)
        with self._context.transport.send(Request("GET", url, compressed=True, netrc=True)) as response:
            body = response.read_all(MAX_LISTING_BYTES)
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._malformed(url) from error
        if not isinstance(value, list):
            raise self._malformed(url)
        found: dict[Tag, Mapping[str, Any]] = {}
        for item in value:
            tag = parse_tag(str(item.get("version")), prerelease=item.get("stable") is not True) if item else None
            if tag is not None:
                found[tag] = item
        return found

    def _malformed(self, url: str) -> FetchError:
        return FetchError(
            f"GET {redact(url)}: the answer is not Go's listing of releases",
            hint="the base address must answer as https://go.dev/dl does; see KOBUILD_GO_URL and [sources] go",
        )

    def _artifact(self, release: Mapping[str, Any], tag: Tag, platform: Platform) -> Artifact:
        files = [file for file in get_objects(release, "files", tag.text) if file.get("kind") == "archive"]
        for file in files:
            if (file.get("os"), file.get("arch")) == (platform.os, _architecture(platform)):
                return self._describe(file, tag.text)
        raise NoMatchingAsset(f"{tag.text} has no archive for {platform}; there are {_platforms(files)}")

    def _describe(self, file: Mapping[str, Any], what: str) -> Artifact:
        filename, sha256 = get_str(file, "filename", what), get_str(file, "sha256", what)
        if not _SHA256.match(sha256):
            return Artifact(f"{self._base}/{filename}", filename, get_int(file, "size", what))
        url = f"{self._base}/{filename}"
        return Artifact(url, filename, get_int(file, "size", what), sha256, Vouched.PUBLISHER)


def _architecture(platform: Platform) -> str:
    """Go's listing has one build for all of 32-bit ARM with floating point, called armv6l."""
    return "armv6l" if platform.architecture == "arm" and platform.variant != "v5" else platform.architecture


def _platforms(files: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(sorted(f"{file.get('os')}/{file.get('arch')}" for file in files)) or "none at all"
