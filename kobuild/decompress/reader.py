"""Layers' bytes as the tar inside them: gzip, zstd or plain, told apart by the bytes and never by a media type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kobuild.decompress.packing import MAGIC_BYTES, Packing, sniff
from kobuild.decompress.parts import unpack
from kobuild.errors import ArchiveError
from kobuild.oci.mediatypes import Compression
from kobuild.streams import CHUNK_BYTES, Readable

_INPUT_BYTES: Final = 64 * 1024
"""Small, since what follows a part's end is copied once a part, and indexed layers have one for every file."""
_COMPRESSIONS: Final = {Packing.GZIP: Compression.GZIP, Packing.ZSTD: Compression.ZSTD}
_PACKINGS: Final = {compression: packing for packing, compression in _COMPRESSIONS.items()}


def detect(head: bytes) -> Compression:
    """How bytes that start with `head` (four of them, or all there are) are compressed: GZIP, ZSTD or NONE."""
    return _COMPRESSIONS.get(sniff(head), Compression.NONE)


class Decompressed:
    """A reader of what `source` holds, decompressed; memory stays constant, and `source` is read to its end.

    Several gzip members or zstd frames are joined, zero padding after gzip members is let pass; a broken stream or
    garbage after it raises ArchiveError, one that ends early TruncatedArchive.
    """

    def __init__(self, source: Readable, place: str) -> None:
        self._source = source
        head = _read_head(source)
        self.compression = detect(head)
        packing = _PACKINGS.get(self.compression)
        self._place = place
        self._waiting = head if packing is None else b""
        self._chunks = (
            None if packing is None else unpack(self._read_all(head), packing, place, on_padding=self._check_padding)
        )

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` decompressed bytes, or all that is left."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK_BYTES), b""))
        if self._chunks is None:
            return self._take(size) or self._source.read(size)
        if not self._waiting:
            self._waiting = next(self._chunks, b"")
        return self._take(size)

    def _check_padding(self) -> None:
        if self.compression is Compression.ZSTD:  # runtimes' readers let zeros pass after gzip alone
            raise ArchiveError(f"{self._place}: there is data after the end of the zstd stream")

    def _take(self, size: int) -> bytes:
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        return data

    def _read_all(self, head: bytes) -> Iterator[bytes]:
        yield head
        while data := self._source.read(_INPUT_BYTES):
            yield data


def _read_head(source: Readable) -> bytes:
    head = b""
    while len(head) < MAGIC_BYTES:
        data = source.read(MAGIC_BYTES - len(head))
        if not data:
            break
        head += data
    return head
