"""The decompressors, all of one shape: ISA-L's where it is installed, zlib's where it is not."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from kobuild.decompress.packing import Packing

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

try:
    from isal import igzip_lib

    HAVE_ISAL = True
    _ISAL_ERRORS: tuple[Any, ...] = (igzip_lib.IsalError,)
except ImportError:  # no wheel for this interpreter or processor
    HAVE_ISAL = False
    _ISAL_ERRORS = ()

_GZIP_WINDOW: Final = 31
_RAW_WINDOW: Final = -15
_XZ_MEMORY_BYTES: Final = 96 * 1024 * 1024
"""The largest dictionary that xz makes by itself (preset 9) is 64 MiB."""
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


class Decompressor(Protocol):
    """One compressed stream, as the standard library's incremental decompressors have it."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        """At most `max_length` bytes of output; the rest waits for calls with no data."""


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
