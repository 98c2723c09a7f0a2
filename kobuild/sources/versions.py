"""Upstream's tags as versions, and pins that choose among them.

Tags are whatever upstream writes: `v0.15.4`, `go1.27rc1`, `jq-1.7.1`, `kustomize/v5.4.1`, `release-1.2`. A tag is read
as an optional component (what stands before the version, without separators and the `v`) and a version that PEP 440
can read; a tag without such a version is left out, never fatal.

One repository may hold several components. `own_tags` says which of them a tool means:

1. the component with the tool's name, where the repository is called otherwise;
2. else all tags without a component, with a general one (`release-`), or with the repository's own name;
3. else the component whose name is nearest to the tool's or the repository's.

An exact pin that is a tag's text is taken as it is, from whichever component.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from kobuild.errors import NoMatchingVersion, ResolveError
from kobuild.frozen import frozen

_GENERAL: Final = frozenset({"", "release", "releases", "rel", "version", "ver", "stable", "tag", "tags"})
_SEPARATORS: Final = "-_@./ "
_VERSION_START: Final = re.compile(r"(?<![\d.])\d")
_UNDERSCORE: Final = re.compile(r"(?<=\d)_(?=\d)")
_MAX_TAG_LENGTH: Final = 256
_LISTED: Final = 8


@frozen
class Tag:
    """One upstream tag that names a version."""

    text: str
    """The tag as upstream writes it."""
    number: str
    """The version as upstream writes it, without component and `v`: file names use this spelling."""
    version: Version
    component: str = ""
    """What stands before the version, lower case, without separators; empty where nothing does."""
    prerelease: bool = False
    """Whether it is one, by its version or by upstream's own mark."""


def parse_tag(text: str, *, names: Iterable[str] = (), prerelease: bool = False) -> Tag | None:
    """Read a tag; None where there is no version in it.

    `names` are the tool's and the repository's names: a digit in them starts no version (`h2-2.1`).
    """
    if len(text) > _MAX_TAG_LENGTH:
        return None
    for start in _version_starts(text, names):
        version = _parse_version(text[start:])
        if version is not None:
            component = _component(text[:start])
            return Tag(text, text[start:], version, component, prerelease or version.is_prerelease)
    return None


def _version_starts(text: str, names: Iterable[str]) -> Iterable[int]:
    """Where a version may begin, in order; inside a name at the front none does."""
    head = text.rfind("/") + 1
    lowered = text.lower()
    for name in names:
        if name and lowered.startswith(name.lower(), head) and len(text) > head + len(name):
            head += len(name)
            break
    return (match.start() for match in _VERSION_START.finditer(text, head))


def _parse_version(text: str) -> Version | None:
    try:
        return Version(_UNDERSCORE.sub(".", text))
    except InvalidVersion:
        return None


def _component(prefix: str) -> str:
    """The component's name in what stands before a version."""
    prefix = prefix.lower()
    if prefix.endswith("v") and (len(prefix) == 1 or prefix[-2] in _SEPARATORS):
        prefix = prefix[:-1]
    return prefix.strip(_SEPARATORS)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def own_tags(tags: Iterable[Tag], *, tool: str, repository: str) -> list[Tag]:
    """The tags of the component that `tool` means, by the rule at the module's head."""
    found: dict[str, list[Tag]] = {}
    for tag in tags:
        found.setdefault(_plain(tag.component), []).append(tag)
    tool, repository = _plain(tool), _plain(repository)
    if tool != repository and tool in found:
        return found[tool]
    general = [tag for name, group in found.items() if name in _GENERAL or name == repository for tag in group]
    return general or _nearest(found, (tool, repository))


def _nearest(found: dict[str, list[Tag]], names: Sequence[str]) -> list[Tag]:
    def likeness(component: str) -> tuple[float, int, str]:
        ratio = max(difflib.SequenceMatcher(None, component, name).ratio() for name in names)
        return ratio, len(found[component]), component

    return found[max(found, key=likeness)] if found else []


@frozen
class Pin:
    """What the settings ask for: the newest stable version, a range, or one exact version."""

    text: str
    specifier: SpecifierSet | None
    """The range; None for an exact pin. `latest` is the range of everything."""

    @property
    def is_exact(self) -> bool:
        """Whether it names one tag or version."""
        return self.specifier is None

    def allows(self, tag: Tag) -> bool:
        """Whether `tag` satisfies the pin, pre-releases only where the pin names one."""
        if self.specifier is None:
            return tag.text == self.text or _equal(self.text, tag)
        wants_prereleases = bool(self.specifier.prereleases)
        if tag.prerelease and not wants_prereleases:
            return False
        return self.specifier.contains(tag.version, prereleases=True)

    def allows_text(self, tag: str, number: str) -> bool:
        """Whether a version that the lock holds still satisfies the pin."""
        parsed = parse_tag(tag) or parse_tag(number)
        if parsed is None:
            return self.text in (tag, number) or self == LATEST
        return self.allows(parsed)

    def select(self, tags: Sequence[Tag], *, tool: str, repository: str = "", what: str) -> Tag:
        """The newest tag that satisfies the pin; raises NoMatchingVersion, which lists what exists.

        An exact pin is matched by a tag's text first, then by equal version.
        """
        found = self.find(tags, tool=tool, repository=repository)
        if found is None:
            raise self._no_match(own_tags(tags, tool=tool, repository=repository or tool), what)
        return found

    def find(self, tags: Sequence[Tag], *, tool: str, repository: str = "") -> Tag | None:
        """The newest tag that satisfies the pin, or None."""
        if self.is_exact:
            literal = next((tag for tag in tags if tag.text == self.text), None)
            if literal is not None:
                return literal
        own = own_tags(tags, tool=tool, repository=repository or tool)
        return max((tag for tag in own if self.allows(tag)), key=_age, default=None)

    def _no_match(self, tags: Sequence[Tag], what: str) -> NoMatchingVersion:
        newest = sorted(tags, key=_age, reverse=True)
        wanted = f"version {self.text!r}" if self.text else "a stable version"
        if not newest:
            return NoMatchingVersion(f"{what} has no {wanted}: no versions were found at all")
        listed = ", ".join(tag.number for tag in newest[:_LISTED])
        more = f" and {len(newest) - _LISTED} older ones" if len(newest) > _LISTED else ""
        message = f"{what} has no {wanted}; there are {listed}{more}"
        return NoMatchingVersion(message, hint=self._prerelease_hint(newest))

    def _prerelease_hint(self, newest: Sequence[Tag]) -> str | None:
        if self.specifier is None:
            return None
        for tag in newest:
            if tag.prerelease and self.specifier.contains(tag.version, prereleases=True):
                return f"pre-releases are taken only where the pin names one, such as version = '>={tag.number}'"
        return None


def _equal(pin: str, tag: Tag) -> bool:
    parsed = parse_tag(pin)
    if parsed is None or parsed.version != tag.version:
        return False
    return parsed.component in _GENERAL or parsed.component == tag.component


def _age(tag: Tag) -> tuple[Version, str]:
    """Newest last; the text decides between spellings of one version, so that the order upstream lists does not."""
    return tag.version, tag.text


LATEST: Final = Pin("", SpecifierSet())
"""The newest stable version."""


def parse_pin(text: str) -> Pin:
    """Read `version` of the settings; raises ResolveError for a specifier set outside PEP 440."""
    text = text.strip()
    if text in ("", "latest"):
        return LATEST
    if text[0] not in "<>=!~":
        return Pin(text, None)
    try:
        return Pin(text, SpecifierSet(text))
    except InvalidSpecifier as error:
        raise ResolveError(
            f"version = {text!r} is not a version specifier: {error}",
            hint="write a specifier set such as '~=1.27.0' or '>=0.15,<1', or an exact tag such as 'v0.15.4'",
        ) from error


def parse_tags(texts: Iterable[str], *, names: Iterable[str] = ()) -> list[Tag]:
    """Read many tags, leaving out those that name no version."""
    names = tuple(names)
    return [tag for text in texts if (tag := parse_tag(text, names=names)) is not None]
