"""`kobuild.lock`: what was chosen, so that the next build chooses the same.

    version = 1

    [base]
    name = "gcr.io/…:alpine"              as the settings write it; scratch has no table
    digest = "sha256:…"                   of the index, or of the one manifest
    [base.platforms]
    "linux/amd64" = "sha256:…"            of each platform's manifest

    [tools.go]
    source = "go"
    requirement = "~=1.27.0"              the pin as it was when the version was chosen
    version = "1.27.3"
    tag = "go1.27.3"
    settings = "…"                        a fingerprint of what else decided the choice
    license = "BSD-3-Clause"              an SPDX expression; absent where it is not known
    sum = "…"                             of the tool's other lines: `verify` finds what damage or a hand has changed
    [tools.go.artifacts."linux/amd64"]
    url, filename, size, sha256, vouched-by
    proofs = ["minisign:…"]               what was proven of that sha256; absent where nothing was

Tables are sorted by name, so that the same choice is the same bytes whatever the order of the settings. A sum is of one
tool alone, so that two branches that move different tools merge without a conflict.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Final

import tomli

from kobuild.errors import KobuildError, LockError
from kobuild.frozen import frozen
from kobuild.oci.digest import Digest
from kobuild.oci.platforms import Platform
from kobuild.streams import atomic_write

FORMAT_VERSION: Final = 1
MAX_LOCK_BYTES: Final = 16 * 1024 * 1024
_HEADER: Final = "# Made by `kobuild resolve`. Commit this file; do not edit it by hand.\n"
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_VOUCHED: Final = frozenset({"publisher", "checksums-file", "user", "first-download", "local"})
_PROOF: Final = re.compile(r"[a-z][a-z0-9-]*:[^\x00-\x1f\x7f]{1,1000}\Z")
_MAX_PROOFS: Final = 32
_SUM_DIGITS: Final = 16
_TOOL_KEYS: Final = {"source", "requirement", "version", "tag", "settings", "license", "sum", "artifacts"}
SIGNATURES: Final = frozenset({"minisign", "cosign", "sigstore", "github-attestation"})
"""The kinds of proof that only somebody with the publisher's key, or in the publisher's name, can make."""
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_REDO: Final = "run `kobuild resolve` to make it again"


@frozen
class LockedArtifact:
    """One upstream file; `kobuild.sources.model.Artifact` says what its fields mean."""

    url: str
    filename: str
    size: int
    """In bytes; of a directory: of all its files together."""
    sha256: str
    vouched_by: str
    proofs: tuple[str, ...] = ()
    """What was proven of the file with this sha256, sorted: `KIND:WHO`, such as `minisign:KEY-ID`."""
    location: str | None = field(default=None, compare=False, repr=False)
    """The address that pip or npm gave for a package URL just now; never written, since it may hold credentials."""

    @property
    def is_signed(self) -> bool:
        """Whether a signature of its publisher's was verified."""
        return any(proof.partition(":")[0] in SIGNATURES for proof in self.proofs)

    @property
    def is_vouched_for(self) -> bool:
        """Whether somebody beside the first download says what its sha256 is."""
        return self.is_signed or self.vouched_by != "first-download"

    def lacks(self, required: str) -> str | None:
        """What it lacks of the proof that a tool's `require` asks for (`checksum`, `signature` or nothing), or None."""
        if required == "signature" and not self.is_signed:
            return "no signature was verified"
        if required and not self.is_vouched_for:
            return "nobody says which sha256 it has"
        return None


@frozen
class LockedTool:
    """One tool's chosen version and its files."""

    name: str
    source: str
    requirement: str
    version: str
    tag: str
    fingerprint: str
    """Of the settings, other than source and version, that decide what is fetched."""
    artifacts: Mapping[Platform, LockedArtifact]
    license: str = ""
    """As its publisher says it, an SPDX expression; empty where it is not known."""


@frozen
class LockedBase:
    """The base image by digest."""

    name: str
    """As the settings write it."""
    digest: str
    """`sha256:…` of the index, or of the manifest where there is no index."""
    platforms: Mapping[Platform, str]
    """`sha256:…` of each platform's manifest."""


@frozen
class Lock:
    """One whole lock; `base` is None for scratch."""

    base: LockedBase | None = None
    tools: Mapping[str, LockedTool] = field(default_factory=dict)
    """By name."""


def load(path: Path) -> Lock | None:
    """Read the lock at `path`, None where there is none; raises LockError for one that cannot be used."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LOCK_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LockError(f"read {path}: {error.strerror}") from error
    return parse(data, path)


def save(path: Path, lock: Lock) -> bool:
    """Write the lock in one step, unless the file has these bytes already; returns whether it was written."""
    data = dump(lock)
    try:
        if path.read_bytes() == data:
            return False
    except OSError:
        pass
    atomic_write(path, data)
    return True


def dump(lock: Lock) -> bytes:
    """The lock as TOML; the same lock gives the same bytes."""
    return (_HEADER + "\n".join(_lines(lock)) + "\n").encode()


def _lines(lock: Lock) -> Iterator[str]:
    yield f"version = {FORMAT_VERSION}"
    if lock.base is not None:
        yield from ("", "[base]", _pair("name", lock.base.name), _pair("digest", lock.base.digest))
        yield from ("", "[base.platforms]")
        yield from (_pair(str(platform), digest) for platform, digest in sorted(lock.base.platforms.items()))
    for _, tool in sorted(lock.tools.items()):
        yield from _tool_lines(tool)


def _tool_lines(tool: LockedTool) -> Iterator[str]:
    table = f"tools.{_key(tool.name)}"
    yield from ("", f"[{table}]", _pair("source", tool.source), _pair("requirement", tool.requirement))
    yield from (_pair("version", tool.version), _pair("tag", tool.tag), _pair("settings", tool.fingerprint))
    if tool.license:
        yield _pair("license", tool.license)
    artifacts = list(_artifact_lines(table, tool))
    yield _pair("sum", _sum_of(tool, artifacts))
    yield from artifacts


def _sum_of(tool: LockedTool, artifacts: Sequence[str]) -> str:
    """What changes with any of the tool's lines."""
    parts = (tool.name, tool.source, tool.requirement, tool.version, tool.tag, tool.fingerprint, tool.license)
    return hashlib.sha256("\n".join((*parts, *artifacts)).encode("utf-8", "surrogatepass")).hexdigest()[:_SUM_DIGITS]


def _artifact_lines(table: str, tool: LockedTool) -> Iterator[str]:
    for platform, artifact in sorted(tool.artifacts.items()):
        yield from ("", f"[{table}.artifacts.{_key(str(platform))}]")
        yield from (_pair("url", artifact.url), _pair("filename", artifact.filename), f"size = {artifact.size}")
        yield from (_pair("sha256", artifact.sha256), _pair("vouched-by", artifact.vouched_by))
        if artifact.proofs:
            yield f"proofs = [{', '.join(map(_string, sorted(artifact.proofs)))}]"


def _pair(key: str, value: str) -> str:
    return f"{_key(key)} = {_string(value)}"


def _key(name: str) -> str:
    return name if _BARE_KEY.match(name) else _string(name)


def _string(value: str) -> str:
    """A TOML basic string (TOML 1.0, "String")."""
    return f'"{"".join(_escape(letter) for letter in value)}"'


def _escape(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    return f"\\u{ord(letter):04X}" if ord(letter) < 0x20 or ord(letter) == 0x7F else letter


def parse(data: bytes, path: Path) -> Lock:
    """Read a lock; raises LockError naming the file and, where it is known, the line."""
    if len(data) > MAX_LOCK_BYTES:
        raise LockError(f"{path}: more than {MAX_LOCK_BYTES} bytes cannot be a lock", hint=_REDO)
    try:
        text = data.decode()
        document = tomli.loads(text)
    except UnicodeDecodeError as error:
        line = _line_of(data, error.start)
        raise LockError(f"{path}:{line}: not UTF-8", hint=_REDO) from error
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise LockError(_syntax_message(error, path, data), hint=_syntax_hint(data)) from error
    return _Reader(path, text).read(document)


def _syntax_message(error: Exception, path: Path, data: bytes) -> str:
    conflict = re.search(rb"^(<{7}|={7}|>{7})( |$)", data, re.MULTILINE)
    if conflict is not None:
        return f"{path}:{_line_of(data, conflict.start())}: a merge conflict"
    line = re.search(r"\(at line (\d+),", str(error))
    number = line[1] if line else str(_line_of(data, len(data.rstrip())))
    return f"{path}:{number}: broken: {error}"


def _line_of(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _syntax_hint(data: bytes) -> str:
    if b"<<<<<<<" in data:
        return "take either side of the conflict, then run `kobuild resolve`"
    return f"restore the file from version control, or remove it and {_REDO}"


class _Reader:
    """Checks a parsed document key by key; every fault names the file, the line and the key."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def read(self, document: Mapping[str, Any]) -> Lock:
        """The document as a lock; raises LockError."""
        version = document.get("version")
        if version != FORMAT_VERSION or isinstance(version, bool):
            raise self._unknown_version(version)
        self._check_keys(document, (), {"version", "base", "tools"})
        base = self._base(self._table(document, "base", ())) if "base" in document else None
        tools = self._table(document, "tools", ()) if "tools" in document else {}
        return Lock(base, {name: self._tool(name, self._table(tools, name, ("tools",))) for name in tools})

    def _unknown_version(self, version: object) -> LockError:
        if isinstance(version, int) and version > FORMAT_VERSION:
            return LockError(
                f"{self._path}: format version {version} is newer than the {FORMAT_VERSION} that this kobuild reads",
                hint="use the kobuild that made the lock, or a newer one",
            )
        return self._fault(("version",), f"expected {FORMAT_VERSION}, got {version!r}")

    def _base(self, table: Mapping[str, Any]) -> LockedBase:
        where = ("base",)
        self._check_keys(table, where, {"name", "digest", "platforms"})
        platforms = self._table(table, "platforms", where)
        return LockedBase(
            self._str(table, "name", where),
            self._digest(table, "digest", where),
            {
                self._platform(name, (*where, "platforms")): self._digest(platforms, name, (*where, "platforms"))
                for name in platforms
            },
        )

    def _tool(self, name: str, table: Mapping[str, Any]) -> LockedTool:
        where = ("tools", name)
        self._check_keys(table, where, _TOOL_KEYS)
        artifacts = self._table(table, "artifacts", where) if "artifacts" in table else {}
        inner = (*where, "artifacts")
        found = {
            self._platform(key, inner): self._artifact(self._table(artifacts, key, inner), (*inner, key))
            for key in artifacts
        }
        return LockedTool(
            name=name,
            source=self._str(table, "source", where),
            requirement=self._str(table, "requirement", where),
            version=self._str(table, "version", where),
            tag=self._str(table, "tag", where),
            fingerprint=self._str(table, "settings", where),
            artifacts=found,
            license=self._str(table, "license", where) if "license" in table else "",
        )

    def _artifact(self, table: Mapping[str, Any], where: tuple[str, ...]) -> LockedArtifact:
        self._check_keys(table, where, {"url", "filename", "size", "sha256", "vouched-by", "proofs"})
        size = table.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise self._fault((*where, "size"), f"expected a number of bytes, got {size!r}")
        sha256 = self._str(table, "sha256", where)
        if not _SHA256.match(sha256):
            raise self._fault((*where, "sha256"), f"expected 64 lower-case hex digits, got {sha256!r}")
        vouched_by = self._str(table, "vouched-by", where)
        if vouched_by not in _VOUCHED:
            raise self._fault((*where, "vouched-by"), f"expected one of {', '.join(sorted(_VOUCHED))}")
        filename = self._str(table, "filename", where)
        if not filename or "/" in filename.rstrip("/") or "\0" in filename or filename.strip("./") == "":
            raise self._fault((*where, "filename"), f"expected a plain file name, got {filename!r}")
        proofs = self._proofs(table, where)
        return LockedArtifact(self._str(table, "url", where), filename, size, sha256, vouched_by, proofs)

    def _proofs(self, table: Mapping[str, Any], where: tuple[str, ...]) -> tuple[str, ...]:
        value = table.get("proofs", [])
        is_list = isinstance(value, list) and len(value) <= _MAX_PROOFS
        if not is_list or not all(isinstance(item, str) and _PROOF.match(item) for item in value):
            raise self._fault((*where, "proofs"), f"expected an array of KIND:WHO, got {value!r}"[:300])
        return tuple(sorted(set(value)))

    def _table(self, parent: Mapping[str, Any], key: str, where: tuple[str, ...]) -> Mapping[str, Any]:
        value = parent.get(key)
        if not isinstance(value, dict):
            raise self._fault((*where, key), "expected a table")
        return value

    def _str(self, table: Mapping[str, Any], key: str, where: tuple[str, ...]) -> str:
        value = table.get(key)
        if not isinstance(value, str):
            raise self._fault((*where, key), "missing" if value is None else f"expected a string, got {value!r}")
        return value

    def _digest(self, table: Mapping[str, Any], key: str, where: tuple[str, ...]) -> str:
        value = self._str(table, key, where)
        try:
            return str(Digest.parse(value))
        except KobuildError as error:
            raise self._fault((*where, key), error.message) from error

    def _platform(self, text: str, where: tuple[str, ...]) -> Platform:
        try:
            return Platform.parse(text)
        except KobuildError as error:
            raise self._fault((*where, text), error.message) from error

    def _check_keys(self, table: Mapping[str, Any], where: tuple[str, ...], known: set[str]) -> None:
        for key in table:
            if key not in known:
                raise self._fault((*where, key), f"unknown key (known: {', '.join(sorted(known))})")

    def _fault(self, where: tuple[str, ...], message: str) -> LockError:
        line = _find_line(self._text, where)
        place = f"{self._path}:{line}" if line else f"{self._path}"
        return LockError(f"{place}: {'.'.join(_key(part) for part in where)}: {message}", hint=_REDO)


def _find_line(text: str, where: tuple[str, ...]) -> int | None:
    """The one-based line of a key, or of the nearest table above it, in a file laid out as `dump` does."""
    parent, table, found = ".".join(_key(part) for part in where[:-1]), "", None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            table = stripped.strip("[] ")
            if ".".join(_key(part) for part in where).startswith(table):
                found = number
        elif table == parent and stripped.partition("=")[0].strip() in (where[-1], _key(where[-1])):
            return number
    return found
