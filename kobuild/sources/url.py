"""`url:TEMPLATE`: any file on the web, with {version} {tag} {os} {arch} {machine} in its address.

For ranges, `versions` names a listing: JSON (an array of strings, or of objects with `version`, `tag_name`, `tag` or
`name`; or an object whose `versions`, `releases` or `tags` are such, or have versions for keys), an HTML index with
links, or lines of text. What a JSON listing says of a version's day and page is passed on.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from kobuild.errors import ResolveError
from kobuild.frozen import frozen
from kobuild.oci.platforms import Platform
from kobuild.settings.model import ToolSettings
from kobuild.sources.checksums import MAX_CHECKSUMS_BYTES, find_sum
from kobuild.sources.model import Artifact, Release, SourceContext, Vouched
from kobuild.sources.pages import page_address, read_time
from kobuild.sources.placeholders import fill, placeholders, platform_values
from kobuild.sources.versions import Pin, Tag, parse_pin, parse_tag
from kobuild.transport import Request, redact

MAX_LISTING_BYTES: Final = 32 * 1024 * 1024
_HREF: Final = re.compile(r"""<a\b[^<>]*?\bhref\s*=\s*["']?([^"'\s>]+)""", re.IGNORECASE)
_LISTS: Final = ("versions", "releases", "tags")
_TEXTS: Final = ("version", "tag_name", "tag", "name")
_DATES: Final = ("published_at", "released_at", "release_date", "date", "created_at")
_PAGES: Final = ("html_url", "web_url")


@frozen
class _Chosen:
    """One version, with what the listing says of it."""

    number: str
    tag: str
    published: str = ""
    page: str = ""


class UrlSource:
    """Files by address."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context

    def resolve(self, tool: ToolSettings, platforms: tuple[Platform, ...]) -> Release:
        """The file for each platform, in the version that the pin allows."""
        listed = self._choose(tool)
        number, tag = listed.number, listed.tag
        artifacts = {platform: self._artifact(tool, platform, number, tag) for platform in platforms}
        if tool.sha256 and len({artifact.url for artifact in artifacts.values()}) > 1:
            raise ResolveError(
                "sha256 is the sum of one file, and the platforms have several",
                hint="use checksums = '…', an address of a checksums file",
            )
        return Release(number, tag, artifacts, published=listed.published, page=listed.page)

    def _choose(self, tool: ToolSettings) -> _Chosen:
        pin = parse_pin(tool.version)
        if tool.versions:
            listed = {tag: item for tag, item in self._list(tool) if tag is not None}
            tag = pin.select(list(listed), tool=tool.name, what=redact(tool.versions))
            return _Chosen(tag.number, tag.text, *_about(listed[tag]))
        if not pin.is_exact:
            return self._without_version(tool, pin)
        parsed = parse_tag(pin.text, names=(tool.name,))
        return _Chosen(parsed.number if parsed else pin.text, pin.text)

    def _without_version(self, tool: ToolSettings, pin: Pin) -> _Chosen:
        if pin.text or placeholders(tool.source.argument) & {"version", "tag"}:
            wanted = f"version = {pin.text!r}" if pin.text else "the newest version"
            raise ResolveError(
                f"{wanted} of {redact(tool.source.argument)} cannot be found without a listing",
                hint="name one with versions = '…', or pin one exact version",
            )
        return _Chosen("", "")

    def _artifact(self, tool: ToolSettings, platform: Platform, number: str, tag: str) -> Artifact:
        values = {"version": number, "tag": tag, **platform_values(platform)}
        url = fill(tool.source.argument, values, where=f"source = '{tool.source}'")
        filename = _base_name(url) or tool.name
        if tool.sha256:
            return Artifact(url, filename, None, tool.sha256.lower(), Vouched.USER)
        if not tool.checksums:
            return Artifact(url, filename)
        place = fill(tool.checksums, values, where="checksums")
        sha256 = find_sum(self._get(place, MAX_CHECKSUMS_BYTES), filename, redact(place))
        return Artifact(url, filename, None, sha256, Vouched.CHECKSUMS_FILE, checksums=place)

    def _get(self, url: str, limit_bytes: int) -> bytes:
        self._context.require_network(url)
        with self._context.transport.send(Request("GET", url, compressed=True, netrc=True)) as response:
            return response.read_all(limit_bytes)

    def _list(self, tool: ToolSettings) -> Iterator[tuple[Tag | None, Mapping[str, Any]]]:
        """Each version that is listed, with all that a JSON listing says of it."""
        text = self._get(tool.versions, MAX_LISTING_BYTES).decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
        if text.startswith(("[", "{")):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ResolveError(f"versions: {redact(tool.versions)} is broken JSON: {error}") from error
            items = _from_json(value)
            return ((parse_tag(name, names=(tool.name,), prerelease=_is_early(item)), item) for name, item in items)
        names = _from_links(text, tool) if text.startswith("<") else _from_lines(text)
        return ((parse_tag(name, names=(tool.name,)), {}) for name in names)


def _base_name(url: str) -> str:
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return "".join(letter for letter in name if letter.isprintable() and letter not in "\\/").strip(". ")


def _from_json(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names of versions, with what else the listing says of each."""
    if isinstance(value, dict):
        inner = next((value[key] for key in _LISTS if key in value), None)
        value = list(inner) if isinstance(inner, dict) else inner
    for item in value if isinstance(value, list) else ():
        if isinstance(item, str):
            yield item, {}
        elif isinstance(item, dict) and item.get("draft") is not True:
            text = next((item[key] for key in _TEXTS if isinstance(item.get(key), str)), None)
            if text is not None:
                yield text, item


def _is_early(item: Mapping[str, Any]) -> bool:
    """Whether the listing marks the version as a pre-release."""
    return item.get("prerelease") is True or item.get("stable") is False


def _about(item: Mapping[str, Any]) -> tuple[str, str]:
    """When the version was published, and where a person reads about it, as far as the listing says."""
    published = next((time for key in _DATES if (time := read_time(item.get(key)))), "")
    return published, next((page for key in _PAGES if (page := page_address(item.get(key)))), "")


def _from_lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            yield words[0]


def _from_links(text: str, tool: ToolSettings) -> Iterable[str]:
    """What an index's links name: versions as folders, or in the names of files that look like the tool's own."""
    pattern = _filename_pattern(tool.source.argument)
    for match in _HREF.finditer(text):
        name = unquote(urlsplit(html.unescape(match[1])).path).rstrip("/").rpartition("/")[2]
        file = pattern.fullmatch(name) if pattern is not None else None
        yield file["version"] if file is not None else name


def _filename_pattern(template: str) -> re.Pattern[str] | None:
    """A pattern for file names made by the template, with the version as a group; None where it has none there."""
    name = template.rpartition("/")[2]
    found = placeholders(name) & {"version", "tag"}
    if not found:
        return None
    parts = re.split(r"\{(\w+)\}", name)
    pattern, named = "", False
    for index, part in enumerate(parts):
        if index % 2 == 0:
            pattern += re.escape(part)
        elif part in found and not named:
            pattern, named = f"{pattern}(?P<version>.+?)", True
        else:
            pattern += ".+?"
    return re.compile(pattern)
