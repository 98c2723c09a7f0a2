"""A file that one thread writes while others read it: readers wait for bytes, and for the verdict at the end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, final

from kobuild.streams import CHUNK_BYTES, Readable, disk_errors


@final
class GrowingFile:
    """The shared state; the end of the file is only told once `settle` said that the bytes are good."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._path: Path | None = None
        self._available = 0
        self._settled = False
        self._error: BaseException | None = None

    def grow(self, path: Path, available: int) -> None:
        """The first `available` bytes of `path` may be read."""
        with self._changed:
            self._path, self._available = path, available
            self._changed.notify_all()

    def settle(self, move: Callable[[], Path]) -> None:
        """The file is whole and verified; `move` puts it into its last place, which no reader sees halfway."""
        with self._changed:
            if self._error is not None:
                return
            path = move()
            self._path, self._available, self._settled = path, path.stat().st_size, True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Nothing more comes; every reader raises `error`."""
        with self._changed:
            if not self._settled:
                self._error = self._error or error
            self._changed.notify_all()

    def is_over(self) -> bool:
        """Whether it was settled or failed."""
        with self._changed:
            return self._settled or self._error is not None

    def wait(self) -> Path:
        """Block until the file is whole and verified; raises what the writer failed with."""
        with self._changed:
            self._changed.wait_for(lambda: self._settled or self._error is not None)
            if self._error is not None:
                raise self._error
            assert self._path is not None, "a settled file has a path"  # noqa: S101
            return self._path

    def wait_beyond(self, position: int) -> int:
        """Block until there are bytes after `position`; returns how many, 0 at the verified end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._available > position or self._settled or self._error is not None,
            )
            if self._error is not None:
                raise self._error
            return self._available - position

    @contextmanager
    def open(self) -> Iterator[Readable]:
        """A reader from the start, that follows the writer."""
        with self._open() as file:
            yield _Follower(self, file)

    def _open(self) -> BinaryIO:
        self.wait_beyond(0)
        # Under the lock, so that the file is not moved away between finding and opening it.
        with self._changed, contextlib.suppress(FileNotFoundError):
            assert self._path is not None, "a file with bytes has a path"  # noqa: S101
            return self._path.open("rb", buffering=0)
        # The writer has thrown it away, and is about to say why.
        path = self.wait()
        with disk_errors("read", path):
            return path.open("rb", buffering=0)


class _Follower:
    """One reader; an open file stays readable when it is moved into the cache."""

    def __init__(self, growing: GrowingFile, file: BinaryIO) -> None:
        self._growing = growing
        self._file = file
        self._position = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes, as soon as there are some; raises what the writer failed with."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK_BYTES), b""))
        if size == 0:
            return b""
        available = self._growing.wait_beyond(self._position)
        if available == 0:
            return b""
        data = self._file.read(min(size, available))
        self._position += len(data)
        return data
