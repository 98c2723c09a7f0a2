"""The compressors, all of one shape: ISA-L's where it is installed, zlib's where it is not."""

from __future__ import annotations

import sys
import threading
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

try:
    from isal import isal_zlib

    HAVE_ISAL = True
except ImportError:  # no wheel for this interpreter or processor
    HAVE_ISAL = False

GZIP_LEVEL: Final = 2
"""ISA-L's: at level 3 the Go toolchain costs twice the time for 2% of the size."""
_GZIP_MEMORY: Final = 5
"""zlib's scale: on the Go toolchain it makes 0.6% smaller output than the default of 8, at the same speed."""
_ZLIB_LEVEL: Final = 6
_RAW_WINDOW: Final = -15
GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""No name, no time, no system: RFC 1952, 2.3."""
WINDOW_BYTES: Final = 32 * 1024
"""How far back deflate looks."""
_ZSTD_LEVEL: Final = 3
ZSTD_LEVEL_OF_INDEXES: Final = 1
"""An index is mostly digests, which nothing makes smaller: level 1 is twice as fast there, and no worse."""
_ZSTD_JOB_BYTES: Final = 2 * 1024 * 1024
"""Twice as much makes it 0.1% smaller, and takes 16 MB more memory."""


_KEPT: Final = threading.local()


class Compressor(Protocol):
    """One stream being compressed."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        """Take all of `data`; return what is ready."""

    def flush(self) -> bytes:
        """End the stream; return the rest."""


def crc32(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """CRC-32 as gzip and zip have it."""
    return isal_zlib.crc32(data, value) if HAVE_ISAL else zlib.crc32(data, value)


class GzipStream:
    """A gzip stream whose header holds no time and no name; `absent` is a byte that its data does not hold."""

    def __init__(self, absent: bytes) -> None:
        self._inner = _open_deflate(absent if HAVE_ISAL else b"")
        self._crc = 0
        self._size = 0
        self._header = GZIP_HEADER

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        """Take all of `data`; return what is ready."""
        self._crc = crc32(data, self._crc)
        self._size += len(data)
        output: bytes = self._header + self._inner.compress(data)
        self._header = b""
        return output

    def flush(self) -> bytes:
        """End the stream; return the rest."""
        rest: bytes = self._inner.flush()
        return self._header + rest + gzip_trailer(self._crc, self._size)


def gzip_trailer(crc: int, size: int) -> bytes:
    """What ends a gzip member (RFC 1952, 2.3.1): the checksum and the length of its content."""
    return crc.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


def _open_deflate(dictionary: bytes) -> Any:
    """A raw deflate stream that has `dictionary` before it; ISA-L wants one always, if only a guard."""
    before = (dictionary,) if dictionary else ()
    if HAVE_ISAL:
        return isal_zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _RAW_WINDOW, _GZIP_MEMORY, 0, *before)
    return zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, _RAW_WINDOW, zlib.DEF_MEM_LEVEL, 0, *before)


def find_guard(data: bytes | bytearray | memoryview) -> bytes:
    """One byte to stand before a deflate stream as its dictionary, which none of its matches can reach.

    A stream without a dictionary is begun by a part of ISA-L (igzip_icf_body_h1_gr_bt.asm, write_first_byte) that
    hashes a register which it has not set: once in some ten thousand times the same data comes out otherwise. With a
    dictionary that part is not used. A match has three bytes at least; it would begin at the guard only where guard
    and first two bytes occur again within the window, so a reader needs no dictionary. Empty where every byte does.
    """
    head = bytes(data[: WINDOW_BYTES + 2])
    if b"\xff" + head[:2] not in head:  # as good as always
        return b"\xff"
    guards = (bytes((number,)) for number in range(254, -1, -1))
    return next((guard for guard in guards if guard + head[:2] not in head), b"")


def deflate_block(data: bytes | bytearray | memoryview, dictionary: bytes, *, last: bool) -> bytes:
    """`data` as a part of a raw deflate stream that has `dictionary` before it; it ends on a whole byte."""
    compressor = _open_deflate(dictionary or (find_guard(data) if HAVE_ISAL else b""))
    head: bytes = compressor.compress(data)
    tail: bytes = compressor.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
    return head + tail


def gzip_member(data: bytes | bytearray | memoryview) -> bytes:
    """`data` as one whole gzip member."""
    return b"".join((GZIP_HEADER, deflate_block(data, b"", last=True), gzip_trailer(crc32(data), len(data))))


def open_zstd(*, threads: int, level: int = _ZSTD_LEVEL) -> Compressor:
    """A zstd frame with a checksum. Its bytes are the same for any number of threads but zero (zstd.h, nbWorkers)."""
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.checksum_flag: 1,
        zstd.CompressionParameter.nb_workers: threads,
    }
    if threads:
        options[zstd.CompressionParameter.job_size] = _ZSTD_JOB_BYTES
    compressor: Compressor = zstd.ZstdCompressor(options=options)
    return compressor


def zstd_frame(data: bytes | bytearray | memoryview) -> bytes:
    """`data` as one whole zstd frame with a checksum.

    Each thread keeps one compressor: a new one costs five times the compression of a small file. What it did before
    does not show in a frame.
    """
    compressor: Any = getattr(_KEPT, "compressor", None)
    if compressor is None:
        compressor = _KEPT.compressor = open_zstd(threads=0)
    frame: bytes = compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
    return frame
