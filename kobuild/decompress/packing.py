"""How a file is packed, told from its first bytes: its name is never believed."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Packing(Enum):
    """The outermost format of a file."""

    PLAIN = "plain"
    """Not compressed: a tar or a bare file."""
    GZIP = "gzip"
    XZ = "xz"
    BZIP2 = "bzip2"
    ZSTD = "zstd"
    ZIP = "zip"


_MAGICS: Final = (
    (b"\x1f\x8b", Packing.GZIP),
    (b"\xfd7zXZ\0", Packing.XZ),
    (b"BZh", Packing.BZIP2),
    (b"\x28\xb5\x2f\xfd", Packing.ZSTD),
    (b"PK\x03\x04", Packing.ZIP),
    (b"PK\x05\x06", Packing.ZIP),
)
_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""The last three of a skippable zstd frame's four bytes (RFC 8878, 3.1.2); the first is 0x50 to 0x5f."""
MAGIC_BYTES: Final = 6
"""How many first bytes `sniff` needs."""


def sniff(head: bytes) -> Packing:
    """The packing that the first bytes tell."""
    for magic, packing in _MAGICS:
        if head.startswith(magic):
            return packing
    if head[1:4] == _SKIPPABLE and head[0] & 0xF0 == 0x50:
        return Packing.ZSTD  # as parallel compressors put first
    return Packing.PLAIN
