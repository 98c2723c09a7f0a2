"""eStargz: gzip layers that can be pulled lazily. containerd/stargz-snapshotter, docs/estargz.md.

    [headers][content + padding + headers]…[content + padding][stargz.index.json + end of archive][footer]

Each bracket is a gzip member; together they are one plain gzip layer.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from json.encoder import encode_basestring_ascii
from typing import Final

from kobuild.layers.compressing import GzipStream, gzip_member
from kobuild.layers.indexed import Chunk, IndexedWriter, as_text, open_spool, tar_name
from kobuild.layers.members import BLOCK, CHARACTER, DIRECTORY, FIFO, HARD_LINK, REGULAR, SYMLINK, Member
from kobuild.layers.sparse import Buffer
from kobuild.layers.tarheader import ZERO_BLOCK, encode_header, padding
from kobuild.streams import CHUNK_BYTES, Writable

TOC_DIGEST: Final = "containerd.io/snapshot/stargz/toc.digest"
UNCOMPRESSED_SIZE: Final = "io.containers.estargz.uncompressed-size"
TOC_NAME: Final = b"stargz.index.json"
PREFETCH_LANDMARK: Final = b".prefetch.landmark"
NO_PREFETCH_LANDMARK: Final = b".no.prefetch.landmark"

_KIND_NAMES: Final = {
    REGULAR: b"reg",
    HARD_LINK: b"hardlink",
    SYMLINK: b"symlink",
    CHARACTER: b"char",
    BLOCK: b"block",
    DIRECTORY: b"dir",
    FIFO: b"fifo",
}
"""The words of the index for tar's kinds; zstd:chunked uses the same."""

_RESERVED: Final = frozenset({TOC_NAME, PREFETCH_LANDMARK, NO_PREFETCH_LANDMARK})
_LANDMARK_CONTENT: Final = b"\x0f"
_NEVER_IN_JSON: Final = b"\xff"
"""Nor in the header before it."""
_XATTR: Final = b"SCHILY.xattr."
_YEAR_1: Final = -62135596800
_YEAR_10000: Final = 253402300800


class EstargzWriter(IndexedWriter):
    """Writes an eStargz layer. The caller adds the prioritized members, the landmark, and then the others."""

    payload_alone = False

    def __init__(self, sink: Writable) -> None:
        self._toc = open_spool()
        self._toc.write(b'{"version":1,"entries":[')
        self._toc_digest = ""
        self._separator = b""
        self._names: dict[tuple[bytes, int], bytes] = {}
        super().__init__(sink)

    def add(self, member: Member, content: Iterator[Buffer]) -> None:
        """Write one member; the format's own names, left from an eStargz layer, are passed over."""
        if member.name not in _RESERVED:
            super().add(member, content)

    def add_landmark(self, *, prefetch: bool) -> None:
        """Mark the end of the prioritized members, or that there are none."""
        name = PREFETCH_LANDMARK if prefetch else NO_PREFETCH_LANDMARK
        super().add(Member(name, REGULAR, 0o644, len(_LANDMARK_CONTENT)), iter((_LANDMARK_CONTENT,)))

    def finish(self) -> None:
        """Write the index as the last member, and the footer that tells where it is."""
        self._flush()
        self._toc.write(b"]}")
        offset = self._output.size
        self._write_toc()
        self._output.write(_make_footer(offset))

    def close(self) -> None:
        """Close the index's temporary file."""
        self._toc.close()

    @property
    def annotations(self) -> Mapping[str, str]:
        """What a lazy puller needs to know beforehand."""
        return {TOC_DIGEST: f"sha256:{self._toc_digest}", UNCOMPRESSED_SIZE: str(self.uncompressed_size)}

    def _compress(self, data: memoryview) -> bytes:
        return gzip_member(data)

    def _record(self, member: Member, chunks: list[Chunk], digest: str) -> None:
        entry = describe(member, format_time(member.mtime))
        for kind, number, name in ((b"userName", member.uid, member.uname), (b"groupName", member.gid, member.gname)):
            if name and self._names.get((kind, number)) != name:
                self._names[kind, number] = name  # readers carry a name on to later entries of the same number
                entry += b',"%b":%b' % (kind, quote(name))
        if not chunks:
            self._write_entry(entry)
            return
        entry += b',"digest":"sha256:%b"' % digest.encode()
        for index, chunk in enumerate(chunks):
            if index:
                entry = b'"name":%b,"type":"chunk","chunkOffset":%d' % (quote(tar_name(member)), chunk.position)
            entry += b',"offset":%d' % chunk.offset
            if index < len(chunks) - 1:
                entry += b',"chunkSize":%d' % chunk.size  # the last chunk has none: it goes to the end of the file
            self._write_entry(b'%b,"chunkDigest":"sha256:%b"' % (entry, chunk.digest.encode()))

    def _write_entry(self, entry: bytes) -> None:
        self._toc.write(b"%b{%b}" % (self._separator, entry))
        self._separator = b","

    def _write_toc(self) -> None:
        size = self._toc.tell()
        toc_hash = hashlib.sha256()
        compressor = GzipStream(_NEVER_IN_JSON)
        header = encode_header(Member(TOC_NAME, REGULAR, 0o444, size, 0))
        self._count_tar(header)
        self._output.write(compressor.compress(header))
        self._toc.seek(0)
        while data := self._toc.read(CHUNK_BYTES):
            toc_hash.update(data)
            self._count_tar(data)
            self._output.write(compressor.compress(data))
        end = bytes(padding(size)) + ZERO_BLOCK * 2
        self._count_tar(end)
        self._output.write(compressor.compress(end) + compressor.flush())
        self._toc_digest = toc_hash.hexdigest()


def describe(member: Member, modified: str) -> bytes:
    """What the index says of any member, as JSON without its braces; the words are the same in zstd:chunked.

    `modified` is its time, or empty. Not by way of a dict: for small files that costs as much as compressing them.
    """
    entry = b'"name":%b,"type":"%b"' % (quote(tar_name(member)), _KIND_NAMES[member.kind])
    if member.size:
        entry += b',"size":%d' % member.size
    if modified:
        entry += b',"modtime":"%b"' % modified.encode()
    if member.link:
        entry += b',"linkName":' + quote(member.link)
    entry += b',"mode":%d,"uid":%d,"gid":%d' % (member.mode, member.uid, member.gid)
    if member.kind in (CHARACTER, BLOCK):
        entry += b',"devMajor":%d,"devMinor":%d' % member.device
    xattrs = [
        b'%b:"%b"' % (quote(keyword[len(_XATTR) :]), base64.b64encode(value))
        for keyword, value in (member.records or {}).items()
        if keyword.startswith(_XATTR)
    ]
    return b'%b,"xattrs":{%b}' % (entry, b",".join(xattrs)) if xattrs else entry


def quote(name: bytes) -> bytes:
    """A name as a JSON string; raises ArchiveError for one that is not UTF-8."""
    return encode_basestring_ascii(as_text(name)).encode("ascii")


@functools.lru_cache(maxsize=1024)
def format_time(seconds: int | None) -> str:
    """RFC 3339 in UTC; empty for an unknown time, and outside the years that can be written so.

    1970 is written out, though the format lets it be left out: readers then take the year 1, or the time of the pull.
    """
    if seconds is None or not _YEAR_1 <= seconds < _YEAR_10000:
        return ""
    days, rest = divmod(seconds, 86400)
    day = datetime.fromordinal(days + datetime(1970, 1, 1, tzinfo=timezone.utc).toordinal())
    return f"{day:%Y-%m-%d}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}Z"


def _make_footer(toc_offset: int) -> bytes:
    """51 bytes: an empty gzip member whose extra field (RFC 1952, 2.3.1.1) holds the index's offset."""
    subfield = b"%016xSTARGZ" % toc_offset
    extra = b"SG" + len(subfield).to_bytes(2, "little") + subfield
    header = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + len(extra).to_bytes(2, "little") + extra
    return header + b"\x01\x00\x00\xff\xff" + bytes(8)
