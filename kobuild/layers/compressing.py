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
    from isal import igzip_lib, isal_zlib

    HAVE_ISAL = True
except ImportError:  # no wheel for this interpreter or processor
    HAVE_ISAL = False

GZIP_LEVEL: Final = 2
"""ISA-L's: at level 3 the Go toolchain costs twice the time for 2% of the size."""
_GZIP_MEMORY: Final = 5
"""zlib's scale: on the Go toolchain it makes 0.6% smaller output than the default of 8, at the same speed."""
_ISAL_MEMORY_MEDIUM: Final = 3
_ZLIB_LEVEL: Final = 6
_GZIP_WINDOW: Final = 31
_RAW_WINDOW: Final = -15
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


def open_gzip() -> Compressor:
    """A gzip stream whose header holds no time and no name."""
    if HAVE_ISAL:
        return isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW, _GZIP_MEMORY)
    return zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)


def deflate_block(data: memoryview, dictionary: bytes, *, last: bool) -> bytes:
    """`data` as a part of a raw deflate stream that has `dictionary` before it; it ends on a whole byte."""
    module: Any = isal_zlib if HAVE_ISAL else zlib
    level, memory = (GZIP_LEVEL, _GZIP_MEMORY) if HAVE_ISAL else (_ZLIB_LEVEL, zlib.DEF_MEM_LEVEL)
    before = (dictionary,) if dictionary else ()
    compressor = module.compressobj(level, module.DEFLATED, _RAW_WINDOW, memory, 0, *before)
    head: bytes = compressor.compress(data)
    tail: bytes = compressor.flush(module.Z_FINISH if last else module.Z_SYNC_FLUSH)
    return head + tail


def gzip_member(data: bytes | bytearray | memoryview) -> bytes:
    """`data` as one whole gzip member."""
    if HAVE_ISAL:
        return igzip_lib.compress(data, GZIP_LEVEL, igzip_lib.COMP_GZIP, _ISAL_MEMORY_MEDIUM)
    compressor = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return compressor.compress(data) + compressor.flush()


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
