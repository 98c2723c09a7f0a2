"""Compressed bytes to plain: upstream's archives and images' layers, by the same rules.

A stream is read to its last byte: all of its joined parts with their checksums, and nothing else after them. How it is
compressed is told from its bytes, never from a name or a media type.
"""

from kobuild.decompress.reader import Decompressed, detect

__all__ = ["Decompressed", "detect"]
