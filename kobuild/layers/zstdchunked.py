"""zstd:chunked: zstd layers of which Podman and CRI-O pull only what they lack. containers/storage, pkg/chunked.

    [headers][content][padding + headers][content]…[end of archive] [index] [tar-split] [footer]

Each bracket is a zstd frame; the last three are skippable ones, so the whole is a plain zstd layer to all others. The
tar-split data holds every byte of the tar that is no content: with it the reader makes the very tar again, and proves
the diff ID.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Mapping
from typing import IO, Final

from kobuild.layers.compressing import ZSTD_LEVEL_OF_INDEXES, open_zstd, zstd_frame
from kobuild.layers.crc64 import crc64
from kobuild.layers.estargz import describe, format_time, quote
from kobuild.layers.indexed import Chunk, IndexedWriter, Segment, open_spool, tar_name
from kobuild.layers.members import Member
from kobuild.layers.tarheader import ZERO_BLOCK
from kobuild.layers.threads import Block
from kobuild.streams import CHUNK_BYTES, Writable

MANIFEST_CHECKSUM: Final = "io.github.containers.zstd-chunked.manifest-checksum"
MANIFEST_POSITION: Final = "io.github.containers.zstd-chunked.manifest-position"
FORMER_CHECKSUM: Final = "io.containers.zstd-chunked.manifest-checksum"
FORMER_POSITION: Final = "io.containers.zstd-chunked.manifest-position"
"""What containers/storage looked for at first, and Podman 4.3 of Debian 12 still does."""
TAR_SPLIT_POSITION: Final = "io.github.containers.zstd-chunked.tarsplit-position"

_SKIPPABLE: Final = b"\x50\x2a\x4d\x18"
_CRFS: Final = 1
"""The type of the index: it is stargz's, whose project was named so."""
_WAITING_BYTES: Final = 256 * 1024
_FOOTER_MAGIC: Final = b"GNUlInUx"


class _Section:
    """A document compressed on the way into a spool; at the end, one skippable frame."""

    def __init__(self) -> None:
        self._spool = open_spool()
        self._compressor = open_zstd(threads=0, level=ZSTD_LEVEL_OF_INDEXES)
        self._hash = hashlib.sha256()
        self._waiting = bytearray()
        self.size = 0
        self.uncompressed_size = 0

    def write(self, data: bytes) -> None:
        self._waiting += data
        if len(self._waiting) >= _WAITING_BYTES:
            self._compress()

    def finish(self) -> str:
        """End the document; returns the digest of its compressed bytes."""
        self._compress()
        self._keep(self._compressor.flush())
        return f"sha256:{self._hash.hexdigest()}"

    def open(self) -> IO[bytes]:
        self._spool.seek(0)
        return self._spool

    def close(self) -> None:
        self._spool.close()

    def _compress(self) -> None:
        self.uncompressed_size += len(self._waiting)
        self._keep(self._compressor.compress(self._waiting))
        self._waiting.clear()

    def _keep(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        self._spool.write(data)


class ZstdChunkedWriter(IndexedWriter):
    """Writes a zstd:chunked layer."""

    payload_alone = True

    def __init__(self, sink: Writable) -> None:
        self._toc = _Section()
        self._toc.write(b'{"version":1,"entries":[')
        self._separator = b""
        self._split = _Section()
        self._split_count = 0
        self._crc = 0
        self._annotations: dict[str, str] = {}
        super().__init__(sink)

    def finish(self) -> None:
        """Write the end of the archive, the index, the tar-split data, and the footer."""
        self._write_structure(ZERO_BLOCK * 2)
        self._flush()
        split_digest = self._split.finish()
        self._toc.write(b'],"tarSplitDigest":"%b"}' % split_digest.encode())
        self._annotations[MANIFEST_CHECKSUM] = self._toc.finish()
        toc_offset = self._write_section(self._toc)
        split_offset = self._write_section(self._split)
        toc = (toc_offset, self._toc.size, self._toc.uncompressed_size, _CRFS)
        split = (split_offset, self._split.size, self._split.uncompressed_size)
        self._annotations[MANIFEST_POSITION] = ":".join(map(str, toc))
        self._annotations[FORMER_CHECKSUM] = self._annotations[MANIFEST_CHECKSUM]
        self._annotations[FORMER_POSITION] = self._annotations[MANIFEST_POSITION]
        self._annotations[TAR_SPLIT_POSITION] = ":".join(map(str, split))
        footer = b"".join(number.to_bytes(8, "little") for number in (*toc, *split)) + _FOOTER_MAGIC
        self._output.write(_SKIPPABLE + len(footer).to_bytes(4, "little") + footer)

    def close(self) -> None:
        """Close the temporary files of the index and the tar-split data."""
        self._toc.close()
        self._split.close()

    @property
    def annotations(self) -> Mapping[str, str]:
        """Where the index and the tar-split data are, and the index's digest."""
        return self._annotations

    def _compress(self, data: memoryview) -> bytes:
        return zstd_frame(data)

    def _record(self, member: Member, chunks: list[Chunk], digest: str) -> None:
        records = member.records
        entry = _describe_exactly(member, records) if records else describe(member, format_time(member.mtime))
        if chunks:
            ends = (digest.encode(), chunks[0].offset, chunks[-1].end)
            entry += b',"digest":"sha256:%b","offset":%d,"endOffset":%d' % ends
        if len(chunks) <= 1:
            self._write_entry(entry)
            return
        for index, chunk in enumerate(chunks):
            if index:
                position = (quote(tar_name(member)), chunk.offset, chunk.position)
                entry = b'"type":"chunk","name":%b,"offset":%d,"chunkOffset":%d' % position
            self._write_entry(
                b'%b,"chunkSize":%d,"chunkDigest":"sha256:%b"' % (entry, chunk.size, chunk.digest.encode())
            )

    def _write_entry(self, entry: bytes) -> None:
        self._toc.write(b"%b{%b}" % (self._separator, entry))
        self._separator = b","

    def _see_segment(self, block: Block, segment: Segment, end: int) -> None:
        """Write the tar-split data: structure byte for byte, and a checksum for each content."""
        if segment.member is not None:
            payload = block.view[segment.start : segment.start + segment.payload]
            self._crc = crc64(payload, self._crc if segment.position else 0)
            if segment.last:
                self._split_file(segment.member, self._crc.to_bytes(8, "big"))
            return
        start = segment.start
        for member, header_end in segment.followers:
            self._split_structure(block, start, header_end)
            self._split_file(member, b"")
            start = header_end
        self._split_structure(block, start, end)

    def _split_structure(self, block: Block, start: int, end: int) -> None:
        if end > start:
            payload = b2a_base64(block.view[start:end], newline=False)
            self._split.write(b'{"type":2,"payload":"%b","position":%d}\n' % (payload, self._split_count))
            self._split_count += 1

    def _split_file(self, member: Member, checksum: bytes) -> None:
        size = b'"size":%d,' % member.size if member.size else b""
        payload = b'"%b"' % b2a_base64(checksum, newline=False) if checksum else b"null"
        parts = (quote(tar_name(member)), size, payload, self._split_count)
        self._split.write(b'{"type":1,"name":%b,%b"payload":%b,"position":%d}\n' % parts)
        self._split_count += 1

    def _write_section(self, section: _Section) -> int:
        """The document as a skippable frame; returns where its bytes start."""
        self._output.write(_SKIPPABLE + section.size.to_bytes(4, "little"))
        offset = self._output.size
        spool = section.open()
        while data := spool.read(CHUNK_BYTES):
            self._output.write(data)
        return offset


def _describe_exactly(member: Member, records: Mapping[bytes, bytes]) -> bytes:
    """The index's entry of a member whose pax records may say its times."""
    modified = _format_exact(records[b"mtime"]) if b"mtime" in records else format_time(member.mtime)
    entry = describe(member, modified)
    for record, word in ((b"atime", b"accesstime"), (b"ctime", b"changetime")):
        if value := records.get(record):
            entry += b',"%b":"%b"' % (word, _format_exact(value).encode())
    return entry


def _format_exact(value: bytes) -> str:
    """RFC 3339 with the fraction of a pax time."""
    whole, _, fraction = value.decode("ascii", "replace").partition(".")
    fraction = fraction[:9].rstrip("0")
    seconds = int(whole)
    if fraction and whole.startswith("-"):
        seconds -= 1
        fraction = f"{10**9 - int(fraction.ljust(9, '0')):09}".rstrip("0")
    text = format_time(seconds) or "1970-01-01T00:00:00Z"
    return text[:-1] + f".{fraction}Z" if fraction else text
