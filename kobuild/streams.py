"""Bytes in motion: bounded, hashed and verified as they pass; files that appear by rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from kobuild.errors import DigestMismatch, SizeMismatch, StorageError
from kobuild.oci.digest import Digest

CHUNK_BYTES: Final = 1024 * 1024
"""How much is read at once: large enough that system calls cost nothing, small enough to stay in a cache."""


def _read_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


# Read once, at import: asking for the umask means setting it, which would race with other threads' files.
_FILE_MODE: Final = 0o666 & ~_read_umask()


ReadRange = Callable[[int, int], bytes]
"""Gives bytes of a blob by offset and count, both in bytes; not verified, since only the whole blob has a digest."""


class Readable(Protocol):
    """Anything that bytes can be read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; empty at the end."""


class Writable(Protocol):
    """Anything that bytes can be written to."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Take all of `data`."""


class VerifyingReader:
    """A reader that passes bytes on and, at the end, raises unless their size and digest are the expected ones.

    It raises SizeMismatch as soon as one byte too many comes, so an endless body costs nothing. Where the size is
    known, the last bytes are handed out only after the digest was found right, and reading on shows bytes that are
    too many; where it is not, a caller may not act on the content before it has read to the end.
    """

    def __init__(self, source: Readable, *, digest: Digest, size: int | None, place: str) -> None:
        self._source = source
        self._digest = digest
        self._size = size
        self._place = place
        self._hasher = digest.hasher()
        self._count = 0
        self._finished = False

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes, or all that is left; raises DigestMismatch or SizeMismatch."""
        if size < 0:
            return self._read_all()
        if self._finished or size == 0:
            return b""
        data = self._source.read(size)
        self._count += len(data)
        if self._size is not None and self._count > self._size:
            raise SizeMismatch(self._place, expected=self._size, actual=self._count)
        self._hasher.update(data)
        if not data or self._count == self._size:
            self._check()
        # Only an empty read is the end: after the last expected byte one more read shows that nothing follows.
        self._finished = not data
        return data

    def _read_all(self) -> bytes:
        parts: list[bytes] = []
        while data := self.read(CHUNK_BYTES):
            parts.append(data)
        return b"".join(parts)

    def _check(self) -> None:
        if self._size is not None and self._count != self._size:
            raise SizeMismatch(self._place, expected=self._size, actual=self._count)
        actual = self._hasher.hexdigest()
        if actual != self._digest.hex:
            raise DigestMismatch(self._place, expected=str(self._digest), actual=f"{self._digest.algorithm}:{actual}")


class HashingWriter:
    """A writer that counts and hashes (sha256) what it passes on to `sink`; None drops the bytes."""

    def __init__(self, sink: Writable | None) -> None:
        self._sink = sink
        self._hasher = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Hash and pass on all of `data`."""
        self._hasher.update(data)
        self.size += len(data)
        if self._sink is not None:
            self._sink.write(data)
        return len(data)

    @property
    def digest(self) -> Digest:
        """The digest of all that was written so far."""
        return Digest("sha256", self._hasher.hexdigest())


class StoppedError(Exception):
    """Work in a thread was told to stop; it never reaches a person, since what stopped it does."""


class _StoppableReader:
    def __init__(self, source: Readable, stopped: threading.Event) -> None:
        self._source = source
        self._stopped = stopped

    def read(self, size: int = -1, /) -> bytes:
        if self._stopped.is_set():
            raise StoppedError
        return self._source.read(size)


@contextlib.contextmanager
def stoppable(source: AbstractContextManager[Readable], stopped: threading.Event) -> Iterator[Readable]:
    """The opened `source`, whose reads raise StoppedError once `stopped` is set."""
    with source as opened:
        yield _StoppableReader(opened, stopped)


def copy(source: Readable, sink: Writable) -> int:
    """Copy to the end; returns the number of bytes."""
    count = 0
    while data := source.read(CHUNK_BYTES):
        sink.write(data)
        count += len(data)
    return count


def read_bounded(source: Readable, limit_bytes: int, place: str) -> bytes:
    """Read to the end; raises SizeMismatch beyond `limit_bytes`."""
    parts: list[bytes] = []
    count = 0
    while data := source.read(min(CHUNK_BYTES, limit_bytes + 1 - count)):
        count += len(data)
        if count > limit_bytes:
            raise SizeMismatch(
                place, expected=limit_bytes, actual=count, hint=f"at most {limit_bytes} bytes are read here"
            )
        parts.append(data)
    return b"".join(parts)


@contextlib.contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Turn the disk's own errors inside the block into StorageError, saying what was being done and where."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space, or move the cache with KOBUILD_CACHE_DIR"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "check who owns the folder, or choose another one"
        else:
            hint = None
        if error.errno is None:
            raise
        raise StorageError(f"{action} {path}: {error.strerror}", hint=hint) from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that appears at `path` only when the block ends well; otherwise nothing is left behind.

    Parents are made. An existing file at `path` is replaced in one step. Raises StorageError for the disk's errors.
    """
    with disk_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), _FILE_MODE)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one step."""
    with atomic_file(path) as file:
        file.write(data)
