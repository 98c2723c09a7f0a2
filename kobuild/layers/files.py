"""Sources that are no archive: one bare or compressed file, and a directory of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from kobuild.errors import ArchiveError, UnsafeMember
from kobuild.layers.members import DIRECTORY, REGULAR, SYMLINK, Member, show
from kobuild.layers.sparse import Buffer
from kobuild.streams import CHUNK_BYTES


class SingleFile:
    """One member whose content comes from `chunks`, `size` bytes long."""

    plain = False

    def __init__(
        self, name: bytes, size: int, mtime: int | None, chunks: Callable[[], Iterator[bytes]], place: str
    ) -> None:
        self._member = Member(name, REGULAR, 0o755, size, mtime)
        self._chunks = chunks
        self._place = place

    def __iter__(self) -> Iterator[Member]:
        yield self._member

    def content(self) -> Iterator[Buffer]:
        """The file's bytes; raises ArchiveError where it changed since its size was taken."""
        return check_size(self._chunks(), self._member.size, self._place)


def check_size(chunks: Iterator[bytes], size: int, place: str) -> Iterator[Buffer]:
    """The chunks, which must come to exactly `size` bytes."""
    count = 0
    for chunk in chunks:
        count += len(chunk)
        if count > size:
            break
        yield chunk
    if count != size:
        raise ArchiveError(f"read {place}: it changed while it was read")


class DirectoryReader:
    """A directory of this machine, the same on every machine: sorted by bytes, owned by 0:0, without its own times.

    Modes become 0755 or 0644 by the owner's execute bit, so that neither umask nor checkout changes the layer.
    """

    plain = False

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)
        self._current = b""
        self._size = 0

    def __iter__(self) -> Iterator[Member]:
        if not os.path.isdir(self._root):
            raise ArchiveError(f"read {os.fsdecode(self._root)}: no such directory")
        yield from self._walk(b"")

    def _walk(self, folder: bytes) -> Iterator[Member]:
        try:
            entries = sorted(os.listdir(os.path.join(self._root, folder)))
        except OSError as error:
            raise _cannot_read(os.path.join(self._root, folder), error) from error
        for entry in entries:
            name = folder + b"/" + entry if folder else entry
            member = self._examine(name)
            yield member
            if member.kind == DIRECTORY:
                yield from self._walk(name)

    def _examine(self, name: bytes) -> Member:
        path = os.path.join(self._root, name)
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                return Member(name, SYMLINK, 0o777, link=os.readlink(path))
        except OSError as error:
            raise _cannot_read(path, error) from error
        if stat.S_ISDIR(status.st_mode):
            return Member(name, DIRECTORY, 0o755)
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeMember(f"read {show(path)}: it is neither a file, a directory nor a link")
        self._current, self._size = path, status.st_size
        return Member(name, REGULAR, 0o755 if status.st_mode & 0o100 else 0o644, status.st_size)

    def content(self) -> Iterator[Buffer]:
        """The current file's bytes; raises ArchiveError where it changed since its size was taken."""
        return check_size(read_file(os.fsdecode(self._current)), self._size, show(self._current))


def read_file(path: str | Path) -> Iterator[bytes]:
    """The file's bytes in chunks; raises ArchiveError."""
    try:
        with open(path, "rb", buffering=0) as file:
            while data := file.read(CHUNK_BYTES):
                yield data
    except OSError as error:
        raise ArchiveError(f"read {os.fspath(path)}: {error.strerror}") from error


def _cannot_read(path: bytes, error: OSError) -> ArchiveError:
    return ArchiveError(f"read {show(path)}: {error.strerror}")
