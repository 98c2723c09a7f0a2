"""Named files in a folder or in a tar, read alike: what layouts and image archives are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from kobuild.errors import LayoutError, LayoutMissing
from kobuild.frozen import frozen
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.reference import Repository
from kobuild.streams import Readable, VerifyingReader

if TYPE_CHECKING:
    import tarfile

MAX_MEMBERS: Final = 100_000
"""More files than this are no image; a bound on what a hostile archive's table of contents may cost."""


class Files(Protocol):
    """Where files are looked up by name, `/` between folders."""

    def size(self, name: str) -> int | None:
        """The file's size in bytes; None where there is no such file."""

    def open(self, name: str) -> AbstractContextManager[Readable]:
        """Open a file; raises LayoutError where it is missing or cannot be read."""


@frozen
class FolderFiles:
    """Files of a folder."""

    root: Path

    def size(self, name: str) -> int | None:
        """The file's size in bytes; None where there is no such regular file."""
        path = self.root / name
        try:
            return path.stat().st_size if path.is_file() else None
        except OSError as error:
            raise LayoutError(f"read {path}: {error.strerror}") from error

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Readable]:
        """Open a file; raises LayoutError."""
        path = self.root / name
        try:
            file = path.open("rb")
        except OSError as error:
            raise LayoutError(f"read {path}: {error.strerror}") from error
        with file:
            yield file


class TarFiles:
    """Files of an uncompressed tar, read in place: nothing is extracted.

    Of two members with one name the last counts, as in extraction. Links inside the archive are followed one step,
    which is how older `docker save` archives share a layer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self, name: str) -> int | None:
        """The file's size in bytes; None where there is no such file."""
        member = self._find(name)
        return None if member is None else member.size

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Readable]:
        """Open a member; raises LayoutError."""
        member = self._find(name)
        if member is None:
            raise LayoutError(f"read {self.path}: it has no member {name!r}")
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise LayoutError(f"read {self.path}: {error.strerror}") from error
        with file:
            file.seek(member.offset_data)
            yield _Section(file, member.size, f"{self.path}: {name}")

    def _find(self, name: str) -> tarfile.TarInfo | None:
        member = self._members.get(name)
        if member is not None and (member.issym() or member.islnk()):
            target = member.linkname if member.islnk() else f"{name.rpartition('/')[0]}/{member.linkname}"
            member = self._members.get(_normalize(target))
        return member if member is not None and member.isreg() else None

    @cached_property
    def _members(self) -> dict[str, tarfile.TarInfo]:
        import tarfile  # noqa: PLC0415 - most layouts are folders

        members: dict[str, tarfile.TarInfo] = {}
        try:
            with tarfile.open(self.path, "r:") as archive:
                for member in archive:
                    members[_normalize(member.name)] = member
                    if len(members) > MAX_MEMBERS:
                        raise LayoutError(f"read {self.path}: more than {MAX_MEMBERS} members")
        except OSError as error:
            raise LayoutMissing(f"read {self.path}: {error.strerror or error}") from error
        except tarfile.TarError as error:
            hint = "a compressed archive must be uncompressed first"
            raise LayoutError(f"read {self.path}: not a tar archive: {error}", hint=hint) from error
        return members


class _Section:
    """A span of an open file; raises LayoutError where the file ends before it."""

    def __init__(self, file: BinaryIO, size: int, place: str) -> None:
        self._file = file
        self._left = size
        self._place = place

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._file.read(wanted)
        if wanted and not data:
            raise LayoutError(f"read {self._place}: the archive ends before the member does")
        self._left -= len(data)
        return data


def _normalize(name: str) -> str:
    """`./blobs//a/../b` → `blobs/b`; members are only looked up, so a name that climbs is not found, no more."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


@frozen
class MemberSource:
    """A blob that is one of `files`, fitting BlobSource."""

    files: Files
    name: str
    descriptor: Descriptor
    place: str
    """For messages."""
    repository: Repository | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[Readable]:
        """Open the blob, verifying it as it is read."""
        wanted = self.descriptor
        with self.files.open(self.name) as file:
            yield VerifyingReader(file, digest=wanted.digest, size=wanted.size, place=f"{self.place}: {self.name}")
