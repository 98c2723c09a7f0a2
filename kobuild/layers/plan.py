"""What a layer is made from and how, and what came of it: plain values that the flows hand in and get back."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import astuple, field
from pathlib import Path
from typing import Any, Final, Protocol

from kobuild.errors import ArchiveError, MalformedDocument
from kobuild.frozen import frozen
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Compression
from kobuild.streams import Readable

FORMAT_VERSION: Final = 4
"""Part of every recipe: raised whenever the same inputs would make other bytes."""


class ArchiveInput(Protocol):
    """One upstream file."""

    @property
    def name(self) -> str:
        """The file's name, for messages."""

    def stream(self) -> AbstractContextManager[Readable]:
        """The bytes from the start; may follow a running download; at the end they have been verified."""

    def path(self) -> Path:
        """The whole verified file; blocks until it is there."""


@frozen
class FileInput:
    """A file on this machine, such as a `path:` source's."""

    file: Path

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.file.name

    @contextlib.contextmanager
    def stream(self) -> Iterator[Readable]:
        """The file's bytes; raises ArchiveError where it cannot be read."""
        try:
            handle = self.file.open("rb", buffering=0)
        except OSError as error:
            raise ArchiveError(f"read {self.file}: {error.strerror}") from error
        with handle:
            yield handle

    def path(self) -> Path:
        """The file itself."""
        return self.file


@frozen
class NamedFile:
    """A verified file under another name: an input that is read once more."""

    name: str
    file: Path

    def stream(self) -> AbstractContextManager[Readable]:
        """The file's bytes."""
        return FileInput(self.file).stream()

    def path(self) -> Path:
        """The file itself."""
        return self.file


@frozen
class Limits:
    """Bounds that no honest archive meets; passing one raises LimitExceeded."""

    members: int = 5_000_000
    total_bytes: int = 64 * 1024**3
    """Of the uncompressed layer."""
    ratio: int = 300
    """Uncompressed bytes for each compressed one, looked at once `ratio_grace_bytes` came out."""
    ratio_grace_bytes: int = 256 * 1024**2


@frozen
class LayerPlan:
    """How one upstream file becomes one layer."""

    root: str = "/"
    """Absolute path in the image that the archive's names go under."""
    only: tuple[str, ...] = ()
    """Globs on the member's name in the archive; `*` stays within one part, `**` does not; a directory takes all."""
    strip: int = 0
    """How many leading parts of each name are dropped; members with no more parts than that are left out."""
    mode: int | None = None
    """Permission bits of every regular file; None keeps the archive's."""
    rename: str = ""
    """Name of a bare binary, a single compressed file or a single file."""
    compression: Compression = Compression.GZIP
    prioritized: tuple[str, ...] = ()
    """Image paths that an eStargz layer puts first, in this order."""
    epoch: int = 0
    """Seconds since 1970 for what has no time of its own: bare binaries, directories of this machine."""
    base_has_standard_dirs: bool = True
    """Leave out entries for directories such as `/usr/bin`: they would replace the base's attributes or links."""
    allow_devices: bool = False
    """Take devices and fifos instead of refusing them."""
    allow_whiteouts: bool = False
    """Take `.wh.` names, which delete files of the layers below, instead of refusing them."""
    limits: Limits = field(default_factory=Limits)
    moved: tuple[tuple[str, str], ...] = ()
    """Directories of the layer that lie at or below links of the base, each with where it really is; no slashes at the
    ends. Every directory is named, not only the uppermost."""
    base_directories: tuple[str, ...] = ()
    """Directories of the layer that the base has: they get no entry, so that the base's attributes stay."""

    def recipe(self, source_sha256: str) -> str:
        """A hex key for all that decides the layer's bytes: the source's sha256, this plan and the format's version.

        The limits belong to it, though they change no byte: a layer is not taken from a cache where an archive that
        goes beyond them would be refused.
        """
        parts = {
            "format": FORMAT_VERSION,
            "source": source_sha256,
            "root": self.root,
            "only": self.only,
            "strip": self.strip,
            "mode": self.mode,
            "rename": self.rename,
            "compression": self.compression.value,
            "prioritized": self.prioritized,
            "epoch": self.epoch,
            "standard_dirs": self.base_has_standard_dirs,
            "devices": self.allow_devices,
            "whiteouts": self.allow_whiteouts,
            "limits": astuple(self.limits),
            "moved": self.moved,
            "base_directories": self.base_directories,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@frozen
class LayerResult:
    """One made layer."""

    diff_id: Digest
    """Of the uncompressed tar."""
    digest: Digest
    """Of the bytes as written."""
    size: int
    """Bytes as written."""
    uncompressed_size: int
    members: int
    """Entries that came from the source."""
    newest_mtime: int | None
    """Seconds since 1970 of the newest member that has a time of its own; None where none has."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """What belongs on the layer's descriptor."""
    landing: tuple[str, ...] = ()
    """Paths that must be looked up in the base, and the plan fitted to them, before the layer may be put on one."""

    def to_json(self) -> dict[str, Any]:
        """As a record for the cache."""
        return {
            "diff_id": str(self.diff_id),
            "digest": str(self.digest),
            "size": self.size,
            "uncompressed_size": self.uncompressed_size,
            "members": self.members,
            "newest_mtime": self.newest_mtime,
            "annotations": dict(self.annotations),
            "landing": list(self.landing),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> LayerResult:
        """From a record; raises MalformedDocument for one that `to_json` did not make."""
        try:
            newest = record["newest_mtime"]
            return cls(
                diff_id=Digest.parse(record["diff_id"]),
                digest=Digest.parse(record["digest"]),
                size=int(record["size"]),
                uncompressed_size=int(record["uncompressed_size"]),
                members=int(record["members"]),
                newest_mtime=None if newest is None else int(newest),
                annotations={str(key): str(value) for key, value in record["annotations"].items()},
                landing=tuple(str(path) for path in record["landing"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise MalformedDocument(f"not a layer record: {error!r}") from error
