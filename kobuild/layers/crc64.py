"""CRC-64 as tar-split has it: ISO 3309's polynomial, reflected (CRC-64/GO-ISO).

ISA-L computes it (`crc64_iso_refl` in its crc64.h), and isal's module carries all of that library, though it wraps no
more than deflate; so the function is called where the module exports it. Where not, it is done with Python's integers:
a table walked byte by byte would be forty times slower than all else. But the polynomial, x^64 + x^4 + x^3 + x + 1, is
sparse, and over GF(2) squaring is done term by term: for q a power of two, x^(64q) = x^(4q) + x^(3q) + x^q + 1. So a
long message is folded onto its last part with a few shifts of huge integers, again and again until 64 bits are left.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

_ALL_ONES: Final = (1 << 64) - 1
_CHECK_INPUT: Final = b"123456789"
_CHECK_VALUE: Final = 0xB90956C775A41001
"""Of CRC-64/GO-ISO in the catalogue of parametrised CRC algorithms."""
_FOLDED_BYTES: Final = 64 * 1024
"""At once: the integers then stay in the processor's caches."""
_CALLED_BYTES: Final = 256 * 1024
"""Copied for one call."""
_BRIEF_BYTES: Final = 16 * 1024
"""For more than this it pays to let other threads run meanwhile."""

_Checksum = Callable[[int, bytes, int], int]


def crc64(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """The checksum of `data`, continued from `value`."""
    native = _find_native()
    if native is None:
        return fold(data, value)
    brief, long = native
    if len(data) <= _BRIEF_BYTES:
        return brief(value, bytes(data), len(data))
    for start in range(0, len(data), _CALLED_BYTES):
        piece = bytes(data[start : start + _CALLED_BYTES])
        value = long(value, piece, len(piece))
    return value


def fold(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """The same without ISA-L."""
    value ^= _ALL_ONES
    for start in range(0, len(data), _FOLDED_BYTES):
        piece = data[start : start + _FOLDED_BYTES]
        # The message times x^64: 64 zeros follow it, into which a short one's start value reaches.
        value = _remainder(int.from_bytes(piece, "little") ^ value, 8 * len(piece) + 64)
    return value ^ _ALL_ONES


def _remainder(message: int, bits: int) -> int:
    """Of the message divided by the polynomial. Bit 0 is the highest power: the order is reflected."""
    while bits > 64:
        step = 1 << (bits * 5 // 9 >> 6 | 1).bit_length() - 1
        low_bits = 64 * step
        high_bits = bits - low_bits
        high = message & ((1 << high_bits) - 1)
        bits = max(low_bits, high_bits + 4 * step)
        high ^= high << step  # x^(4q) + x^(3q) + x^q + 1 is (x^q + 1)(x^(3q) + 1)
        high ^= high << 3 * step
        message = (message >> high_bits << (bits - low_bits)) ^ (high << (bits - high_bits - 4 * step))
    return message


@functools.cache
def _find_native() -> tuple[_Checksum, _Checksum] | None:
    """ISA-L's function, twice: keeping the interpreter's lock, and letting go of it."""
    try:
        import ctypes  # noqa: PLC0415 - only where there is something to call

        from isal import isal_zlib  # noqa: PLC0415

        found = [_declare(library(isal_zlib.__file__)) for library in (ctypes.PyDLL, ctypes.CDLL)]
    except (ImportError, OSError, AttributeError):
        return None
    brief, long = found
    return (brief, long) if brief(0, _CHECK_INPUT, len(_CHECK_INPUT)) == _CHECK_VALUE else None


def _declare(library: Any) -> _Checksum:
    import ctypes  # noqa: PLC0415

    function: Any = library.crc64_iso_refl
    function.argtypes = (ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint64)
    function.restype = ctypes.c_uint64
    checksum: _Checksum = function
    return checksum
