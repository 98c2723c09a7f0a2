"""The compressors and decompressors, all of one shape: ISA-L's where it is installed, zlib's where it is not."""

from __future__ import annotations

import bz2
import lzma
import sys
import threading
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from kobuild.layers.magic import Packing

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

try:
    from isal import igzip_lib, isal_zlib

    HAVE_ISAL = True
    _ISAL_ERRORS: tuple[Any, ...] = (igzip_lib.IsalError,)
except ImportError:  # no wheel for this interpreter or processor
    HAVE_ISAL = False
    _ISAL_ERRORS = ()

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
_XZ_MEMORY_BYTES: Final = 96 * 1024 * 1024
"""The largest dictionary that xz makes by itself (preset 9) is 64 MiB."""
_ZSTD_LEVEL: Final = 3
ZSTD_LEVEL_OF_INDEXES: Final = 1
"""An index is mostly digests, which nothing makes smaller: level 1 is twice as fast there, and no worse."""
_ZSTD_JOB_BYTES: Final = 2 * 1024 * 1024
"""Twice as much makes it 0.1% smaller, and takes 16 MB more memory."""
_ZSTD_WINDOW_LOG: Final = 27
"""128 MiB, the largest window that the zstd program reads unasked."""

BROKEN_STREAM: Final[tuple[type[Exception], ...]] = (
    zlib.error,
    lzma.LZMAError,
    zstd.ZstdError,
    OSError,  # bz2's
    EOFError,
    ValueError,
    *_ISAL_ERRORS,
)
"""What a decompressor raises for bytes that are not its format's."""


_KEPT: Final = threading.local()


class Decompressor(Protocol):
    """One compressed stream, as the standard library's incremental decompressors have it."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        """At most `max_length` bytes of output; the rest waits for calls with no data."""


class Compressor(Protocol):
    """One stream being compressed."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        """Take all of `data`; return what is ready."""

    def flush(self) -> bytes:
        """End the stream; return the rest."""


class _ZlibDecompressor:
    """zlib's decompressor in the shape of the others."""

    def __init__(self, window: int) -> None:
        self._inner = zlib.decompressobj(window)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        waiting = self._inner.unconsumed_tail + data if self._inner.unconsumed_tail else data
        output = self._inner.decompress(waiting, max(0, max_length))
        self.needs_input = not self._inner.unconsumed_tail and len(output) != max_length
        return output


def open_decompressor(packing: Packing) -> Decompressor:
    """A decompressor for one stream (gzip member, xz stream, zstd frame) of that packing."""
    result: Any
    if packing is Packing.GZIP:
        result = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP) if HAVE_ISAL else _ZlibDecompressor(_GZIP_WINDOW)
    elif packing is Packing.XZ:
        result = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
    elif packing is Packing.BZIP2:
        result = bz2.BZ2Decompressor()
    else:
        result = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
    fitting: Decompressor = result
    return fitting


def open_inflater() -> Decompressor:
    """A decompressor of one raw deflate stream, as zip holds them."""
    result: Any = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_DEFLATE) if HAVE_ISAL else _ZlibDecompressor(_RAW_WINDOW)
    fitting: Decompressor = result
    return fitting


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
