"""Checks of single values: each takes what TOML gave, returns what the settings hold, or raises Unfit."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from kobuild.errors import InvalidReference
from kobuild.oci.reference import Reference, Registry, Repository
from kobuild.settings.faults import Unfit, did_you_mean, quoted
from kobuild.settings.quantities import parse_size
from kobuild.settings.table import kind_of

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_MODE: Final = re.compile(r"[0-7]{3,4}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_FILE_NAME: Final = re.compile(r"[^/\0]+")
_SPECIFIER_START: Final = ("<", ">", "=", "!", "~")
_NOT_IN_A_TAG: Final = re.compile(r"[,\s~^:?*\[\\\0]")


def string(value: object) -> str:
    """Any string without NUL, which no image can hold."""
    if isinstance(value, str):
        if "\0" in value:
            raise Unfit("a NUL character is not allowed")
        return value
    raise Unfit(f"expected a string, got {kind_of(value)}", _quote_hint(value))


def text(value: object) -> str:
    """A string that says something."""
    checked = string(value)
    if not checked.strip():
        raise Unfit("must not be empty", "leave it out instead")
    return checked


def command(value: object) -> str:
    """A program and its words, as a shell parts them; no shell is needed to run it."""
    checked = text(value)
    try:
        words = shlex.split(checked)
    except ValueError as error:
        raise Unfit(f"not a command: {str(error).lower()} in {quoted(checked)}", "close the quotes") from error
    if not words or not words[0]:
        raise Unfit(f"not a command: {quoted(checked)}", "write a program and its words")
    return checked


def natural(value: object) -> int:
    """An integer of zero or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unfit(f"expected an integer, got {kind_of(value)}")
    if value < 0:
        raise Unfit(f"must be 0 or more, not {value}")
    return value


def positive(value: object) -> int:
    """An integer of one or more."""
    if natural(value) == 0:
        raise Unfit("must be 1 or more, not 0", "leave it out for the default")
    return natural(value)


def size(value: object) -> int:
    """A number of bytes above zero, from an integer or `2GB`."""
    if isinstance(value, str):
        return positive(parse_size(value))
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unfit(f"expected a size, got {kind_of(value)}", 'such as "2GB" or 512000000')
    return positive(value)


def boolean(value: object) -> bool:
    """True or false, as TOML writes them."""
    if not isinstance(value, bool):
        raise Unfit(f"expected true or false, got {kind_of(value)}", "write it without quotes")
    return value


def registry_place(value: object) -> str:
    """A registry, or a path in one, in normal form: `docker.io/library`, `mirror.example.com:5000`."""
    wanted = text(value).strip()
    if "://" in wanted:
        raise Unfit(f"a registry is named without a scheme: {quoted(wanted)}", f"write {quoted(_bare(wanted))}")
    host, _, path = wanted.rstrip("/").partition("/")
    try:
        # With a tail it must be a reference, and its host must be read as one.
        reference = Reference.parse(f"{wanted.rstrip('/')}/x/x")
    except InvalidReference as error:
        raise Unfit(f"not a registry or a path in one: {quoted(wanted)}", "such as mirror.example.com/hub") from error
    if not ("." in host or ":" in host or host == "localhost") or reference.digest is not None or "@" in wanted:
        raise Unfit(f"not a registry or a path in one: {quoted(wanted)}", "such as mirror.example.com/hub")
    return f"{reference.registry.host}/{path}" if path else reference.registry.host


def repository(value: object) -> Repository:
    """A registry's repository by its whole name, without tag or digest."""
    wanted = text(value).strip()
    try:
        reference = Reference.parse(wanted.partition("://")[2] if "://" in wanted else wanted)
    except InvalidReference as error:
        raise Unfit(error.message, error.hint) from error
    if wanted.lower() not in (str(reference.repository), str(reference.repository).removeprefix("docker.io/")):
        raise Unfit(f"expected a repository alone, got {quoted(wanted)}", f"write {quoted(str(reference.repository))}")
    return reference.repository


TRUSTS: Final = ("key", "writers")
"""Whose word counts for a shared layer."""


def trusts_writers(value: object) -> bool:
    """Whether the word is `writers`, and not `key`."""
    wanted = string(value)
    if wanted not in TRUSTS:
        raise Unfit(f"expected {' or '.join(TRUSTS)}, got {quoted(wanted)}", did_you_mean(wanted, TRUSTS))
    return wanted == "writers"


def _bare(address: str) -> str:
    return address.partition("://")[2].rstrip("/")


def image_path(value: object) -> str:
    """An absolute path in the image, normalised: no doubled or trailing slash, no `.`; `..` is refused."""
    path = text(value)
    if ".." in path.split("/"):
        raise Unfit(f"`..` is not allowed in {quoted(path)}", "write the path that is meant")
    if not path.startswith("/"):
        raise Unfit(f"expected an absolute path, got {quoted(path)}", f"write {quoted('/' + path)}")
    return posixpath.normpath("/" + path.lstrip("/"))


def path_entry(value: object) -> str:
    """A directory for PATH: an absolute path without a colon."""
    path = image_path(value)
    if ":" in path:
        raise Unfit(f"`:` separates the entries of PATH: {quoted(path)}", "write one array element for each directory")
    return path


def member_glob(value: object) -> str:
    """A pattern for names in an archive: relative, without `.`, `..` or empty parts; a trailing slash is dropped."""
    pattern = text(value)
    if pattern.startswith("/"):
        raise Unfit(
            f"names in an archive do not start with `/`: {quoted(pattern)}",
            "give the name as the archive has it, before root is put in front",
        )
    tidy = pattern.removesuffix("/")
    if any(part in ("", ".", "..") for part in tidy.split("/")):
        raise Unfit(f"empty parts, `.` and `..` are not allowed in {quoted(pattern)}", "such as bin/* or ko")
    return tidy


def file_name(value: object) -> str:
    """One name without a slash."""
    name = text(value)
    if not _FILE_NAME.fullmatch(name) or name in (".", ".."):
        raise Unfit(f"expected a file's name, got {quoted(name)}", "root says which directory it goes to")
    return name


def mode(value: object) -> int:
    """Permission bits from a string of octal digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise Unfit("expected a string of octal digits, got an integer", 'write it in quotes, such as "0755"')
    digits = string(value)
    if not _MODE.fullmatch(digits):
        raise Unfit(f"expected three or four octal digits, got {quoted(digits)}", 'such as "0755"')
    return int(digits, 8)


def sha256(value: object) -> str:
    """64 hex digits; a leading `sha256:` and capitals are taken too."""
    digits = string(value).lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(digits):
        raise Unfit("expected the 64 hex digits of a sha256 sum")
    return digits


def pin(value: object) -> str:
    """A version pin: a PEP 440 specifier set, an exact upstream tag or version, or empty for the newest stable."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Unfit(f"expected a string, got {kind_of(value)}", 'write it in quotes, such as "==1.20.*" or "1.20"')
    wanted = string(value).strip()
    if wanted in ("", "latest"):
        return ""
    if wanted.startswith(_SPECIFIER_START):
        return _specifier(wanted)
    if _NOT_IN_A_TAG.search(wanted):
        raise Unfit(f"neither a specifier nor one tag: {quoted(wanted)}", _pin_hint(wanted))
    return wanted


def is_exact(version: str) -> bool:
    """Whether a checked pin names one version by itself."""
    return bool(version) and not version.startswith(_SPECIFIER_START)


def template(value: object, names: Sequence[str]) -> str:
    """A string whose `{placeholders}` are all among `names`."""
    wanted = text(value)
    for name in _PLACEHOLDER.findall(wanted):
        if name not in names:
            known = [f"{{{known}}}" for known in names]
            hint = did_you_mean(f"{{{name}}}", known) if known else "no placeholder is filled in here"
            raise Unfit(f"unknown placeholder {{{name}}}", hint)
    if "{" in _PLACEHOLDER.sub("", wanted) or "}" in _PLACEHOLDER.sub("", wanted):
        raise Unfit(f"a brace without its partner in {quoted(wanted)}")
    return wanted


def asset(value: object) -> str:
    """A glob on a release file's name."""
    wanted = template(value, ("version", "tag", "os", "arch"))
    if "/" in wanted:
        raise Unfit(
            f"expected a release file's name, got {quoted(wanted)}", "such as tool_{version}_{os}_{arch}.tar.gz"
        )
    return wanted


def address(value: object, names: Sequence[str] = ()) -> str:
    """An address that may be fetched: https, or plain http to this machine; `names` are its placeholders."""
    wanted = template(value, names)
    if wanted != wanted.strip() or re.search(r"\s", wanted):
        raise Unfit("an address has no white space")
    try:
        parts = urlsplit(wanted)
        host, _port, is_loopback = parts.hostname, parts.port, Registry(parts.netloc).is_loopback
    except ValueError as error:
        raise Unfit(f"not an address: {quoted(wanted)}", "such as https://example.com/tool.tar.gz") from error
    if parts.username is not None or parts.password is not None:
        raise Unfit("an address must not carry credentials", "this file is meant to be committed")
    if parts.scheme not in ("http", "https") or not host:
        raise Unfit(f"expected an https address, got {quoted(wanted)}", "such as https://example.com/tool.tar.gz")
    if parts.scheme == "http" and not is_loopback:
        raise Unfit(f"plain http is only for this machine: {quoted(wanted)}", f"write https{wanted[4:]}")
    return wanted


def license_expression(value: object) -> str:
    """An SPDX licence expression, in its canonical form."""
    # Here, not above: its list of licences is read only where a tool names one.
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression  # noqa: PLC0415

    wanted = text(value)
    try:
        return str(canonicalize_license_expression(wanted.strip()))
    except InvalidLicenseExpression as error:
        hint = "such as MIT, Apache-2.0 OR MIT, or LicenseRef-NAME for a licence of the publisher's own"
        raise Unfit(f"not an SPDX licence expression: {quoted(wanted)}", hint) from error


def base_address(value: object) -> str:
    """An address that more path is put behind: no query, no trailing slash."""
    wanted = address(value)
    if "?" in wanted or "#" in wanted:
        raise Unfit(f"a base address has no query and no fragment: {quoted(wanted)}")
    return wanted.rstrip("/")


def _specifier(wanted: str) -> str:
    try:
        SpecifierSet(wanted)
    except InvalidSpecifier as error:
        raise Unfit(f"not a specifier set: {quoted(wanted)}", _pin_hint(wanted)) from error
    return wanted


def _pin_hint(wanted: str) -> str:
    number = re.sub(r"[^0-9.].*", "", wanted.lstrip("<>=!~^ vV")).strip(".") or "1.2"
    in_range = f">={number},<{int(number.split('.')[0][:9]) + 1}"
    if wanted.startswith("^"):
        return f"write {in_range}"
    if wanted.startswith("=") and not wanted.startswith("=="):
        return f"write =={wanted.lstrip('= ')}"
    if re.fullmatch(r"[vV]?[0-9.]+\.[*xX]", wanted):
        return f"write =={number}.*"
    if wanted.startswith("~") and not wanted.startswith("~="):
        return f"write ~={number}"
    return f"such as {in_range} with a comma between the clauses, or one exact tag"


def _quote_hint(value: object) -> str | None:
    if isinstance(value, bool):
        return f'write it in quotes: "{str(value).lower()}"'
    if isinstance(value, int):
        return f'write it in quotes: "{value}"'
    return "write it in quotes" if isinstance(value, float) else None
