"""CRC-64 as tar-split has it: ISO 3309's polynomial, reflected (CRC-64/GO-ISO).

No library at hand computes it, and a table walked byte by byte would be forty times slower than all else. But its
polynomial, x^64 + x^4 + x^3 + x + 1, is sparse, and over GF(2) squaring is done term by term: for q a power of two,
x^(64q) = x^(4q) + x^(3q) + x^q + 1. So a long message is folded onto its last part with a few shifts of huge integers,
again and again until little is left for the table.
"""

from __future__ import annotations

from typing import Final

_POLYNOMIAL: Final = 0xD800000000000000
_ALL_ONES: Final = (1 << 64) - 1
_SHORT_BITS: Final = 1024


def _make_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ _POLYNOMIAL if value & 1 else value >> 1
        table.append(value)
    return table


_TABLE: Final = _make_table()


def crc64(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """The checksum of `data`, continued from `value`."""
    if len(data) < 8:
        return _walk(bytes(data), value ^ _ALL_ONES) ^ _ALL_ONES
    message = int.from_bytes(data, "little") ^ (value ^ _ALL_ONES)
    message, bits = _fold(message, 8 * len(data))
    spare = -bits % 8
    return _walk((message << spare).to_bytes((bits + spare) // 8, "little"), 0) ^ _ALL_ONES


def _fold(message: int, bits: int) -> tuple[int, int]:
    """A shorter message with the same remainder. Bit 0 is the highest power: the order is reflected."""
    while bits > _SHORT_BITS:
        step = 1 << ((bits * 5 // 9 // 64).bit_length() - 1)
        low_bits = 64 * step
        high_bits = bits - low_bits
        high = message & ((1 << high_bits) - 1)
        bits = max(low_bits, high_bits + 4 * step)
        high ^= high << step  # x^(4q) + x^(3q) + x^q + 1 is (x^q + 1)(x^(3q) + 1)
        high ^= high << 3 * step
        message = (message >> high_bits << (bits - low_bits)) ^ (high << (bits - high_bits - 4 * step))
    return message, bits


def _walk(data: bytes, value: int) -> int:
    table = _TABLE
    for byte in data:
        value = table[(value ^ byte) & 255] ^ (value >> 8)
    return value
