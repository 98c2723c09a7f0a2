"""Layers' bytes as the tar inside them: gzip, zstd or plain, told apart by the bytes and never by a media type."""

from __future__ import annotations

import io
import sys
import zlib
from gzip import BadGzipFile
from typing import Any, Final, cast

from kobuild.errors import ArchiveError, TruncatedArchive
from kobuild.oci.mediatypes import Compression
from kobuild.streams import CHUNK_BYTES, Readable

try:
    from isal.igzip import IGzipFile as GzipFile
    from isal.isal_zlib import error as deflate_error
except ImportError:  # no wheel for this machine: the standard library's reader, some three times slower
    from gzip import GzipFile  # type: ignore[assignment]

    deflate_error = zlib.error  # type: ignore[assignment]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BROKEN: Final[tuple[type[Exception], ...]] = (
    BadGzipFile,
    zlib.error,
    cast("type[Exception]", deflate_error),
    zstd.ZstdError,
)
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC: Final = b"\x2a\x4d\x18"
"""The last three of a skippable frame's four bytes (RFC 8878, 3.1.2); the first is 0x50 to 0x5f."""
_HEAD_BYTES: Final = 4
_FRAME_INPUT_BYTES: Final = 64 * 1024
"""Small, since what follows a frame's end is copied once a frame, and zstd:chunked has one for every file."""


def detect(head: bytes) -> Compression:
    """How bytes that start with `head` (four of them, or all there are) are compressed: GZIP, ZSTD or NONE."""
    if head.startswith(_GZIP_MAGIC):
        return Compression.GZIP
    is_skippable = head[1:4] == _SKIPPABLE_MAGIC and 0x50 <= head[0] <= 0x5F
    return Compression.ZSTD if head.startswith(_ZSTD_MAGIC) or is_skippable else Compression.NONE


class Decompressed:
    """A reader of what `source` holds, decompressed; memory stays constant, and `source` is read to its end.

    Several gzip members or zstd frames are joined, zero padding after gzip members is let pass; a broken stream or
    garbage after it raises ArchiveError, one that ends early TruncatedArchive.
    """

    def __init__(self, source: Readable, place: str) -> None:
        self._place = place
        pushed = _Pushback(source, _read_head(source))
        self.compression = detect(pushed.head)
        self._reader: Readable
        if self.compression is Compression.GZIP:
            self._reader = _GzipReader(pushed)
        elif self.compression is Compression.ZSTD:
            self._reader = _ZstdReader(pushed)
        else:
            self._reader = pushed

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` decompressed bytes, or all that is left."""
        try:
            return self._reader.read(size) if size >= 0 else self._read_all()
        except EOFError as error:
            raise TruncatedArchive(f"{self._place}: the {self.compression.value} stream ends early") from error
        except _BROKEN as error:
            raise ArchiveError(f"{self._place}: broken {self.compression.value} stream: {error}") from error

    def _read_all(self) -> bytes:
        parts: list[bytes] = []
        while data := self._reader.read(CHUNK_BYTES):
            parts.append(data)
        return b"".join(parts)


class _Pushback(io.RawIOBase):
    """A reader whose first bytes were looked at already; a raw file, since gzip's reader asks for `readinto`."""

    def __init__(self, source: Readable, head: bytes) -> None:
        super().__init__()
        self._source = source
        self._unread = head
        self.head = head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1, /) -> bytes:
        if not self._unread:
            return self._source.read(size)
        data, self._unread = (self._unread, b"") if size < 0 else (self._unread[:size], self._unread[size:])
        return data + self._source.read(size) if size < 0 else data


class _GzipReader:
    """gzip's own reader, and then the rest of the source, which the verifying reader below must see to its end."""

    def __init__(self, source: Readable) -> None:
        make: Any = GzipFile
        self._file = make(fileobj=source, mode="rb")

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self._file.read1(size) if size >= 0 else self._file.read()
        return data


class _ZstdReader:
    """Frames, one after another; unlike ZstdFile it does not take garbage after a frame for the end."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._frame: Any = zstd.ZstdDecompressor()
        self._pending = b""
        self._in_frame = False

    def read(self, size: int = -1, /) -> bytes:
        while True:
            if self._frame.eof:
                self._pending, self._frame = self._frame.unused_data, zstd.ZstdDecompressor()
                self._in_frame = False
            if not self._pending and self._frame.needs_input:
                self._pending = self._source.read(_FRAME_INPUT_BYTES)
                if not self._pending:
                    if self._in_frame:
                        raise EOFError
                    return b""
            data: bytes = self._frame.decompress(self._pending, size)
            self._pending, self._in_frame = b"", True
            if data:
                return data


def _read_head(source: Readable) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES:
        data = source.read(_HEAD_BYTES - len(head))
        if not data:
            break
        head += data
    return head
