"""Tars for image archives: owner 0, time 0 and fixed modes, so that the same content gives the same bytes."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Final

from kobuild.errors import SizeMismatch

_BLOCK: Final = tarfile.BLOCKSIZE
_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755


class TarWriter:
    """Writes members one after another into a seekable file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add_folder(self, name: str) -> None:
        """A folder; `name` without a slash at its end."""
        self._file.write(_header(name, 0, is_folder=True))

    def add_bytes(self, name: str, data: bytes) -> None:
        """A file that is in memory."""
        with self.add_stream(name, len(data)) as sink:
            sink.write(data)

    @contextlib.contextmanager
    def add_stream(self, name: str, size: int | None = None) -> Iterator[Counter]:
        """A file whose bytes are written inside the block; raises SizeMismatch where they are not `size`.

        With no size the header is written when the block has ended, over the place that was left for it.
        """
        start = self._file.tell()
        self._file.write(_header(name, size or 0))
        counter = Counter(self._file)
        yield counter
        if size is None:
            self._file.seek(start)
            self._file.write(_header(name, counter.count))
            self._file.seek(0, 2)
        elif counter.count != size:
            raise SizeMismatch(f"write {name}", expected=size, actual=counter.count)
        self._file.write(bytes(-counter.count % _BLOCK))

    def finish(self) -> None:
        """The two empty blocks that end a tar (POSIX.1-2001, pax, "ustar Interchange Format")."""
        self._file.write(bytes(2 * _BLOCK))


class Counter:
    """Counts what passes on to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Pass on all of `data`."""
        self._file.write(data)
        self.count += len(data)
        return len(data)


def _header(name: str, size: int, *, is_folder: bool = False) -> bytes:
    """One block always: GNU's form says 8 GiB and more in binary, where ustar would need a record before it."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.type = tarfile.DIRTYPE if is_folder else tarfile.REGTYPE
    info.mode = _FOLDER_MODE if is_folder else _FILE_MODE
    return info.tobuf(tarfile.GNU_FORMAT)
