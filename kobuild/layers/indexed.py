"""Layers whose files can be read one by one: what eStargz and zstd:chunked have in common.

The tar is cut into segments that are compressed each by itself. A segment starts with every file's content, and within
a large file every `CHUNK_BYTES`; which segments there are follows from the members alone, so neither threads nor blocks
show in the output. An index tells where each segment is.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import IO, Final

from kobuild.errors import ArchiveError
from kobuild.layers.members import DIRECTORY, Member, show
from kobuild.layers.sparse import Buffer
from kobuild.layers.tarheader import ZERO_BLOCK, encode_header, padding
from kobuild.layers.threads import Block, Pipeline
from kobuild.layers.writer import LayerWriter
from kobuild.streams import Writable

CHUNK_BYTES: Final = 2 * 1024 * 1024
"""The largest part of a file that is one segment: what a reader fetches at least."""
_BLOCK_BYTES: Final = CHUNK_BYTES + 64 * 1024
_ENOUGH_BYTES: Final = 1024 * 1024
"""A block with this much in it is handed on rather than filled to the brim."""
_WRITE_BYTES: Final = 128 * 1024
_SPOOL_BYTES: Final = 1024 * 1024
"""An index beyond this goes to a temporary file: one of 200,000 members has some 70 MB."""


class Segment:
    """One separately compressed part of a block."""

    __slots__ = ("followers", "last", "member", "payload", "position", "start")

    def __init__(self, start: int, member: Member | None = None, payload: int = 0, position: int = 0) -> None:
        self.start = start
        """In the block."""
        self.member = member
        """Whose content it starts with; None for headers alone."""
        self.payload = payload
        """How many bytes of that content."""
        self.position = position
        """Where in that content."""
        self.last = member is not None and position + payload == member.size
        self.followers: list[tuple[Member, int]] = []
        """Members without content whose headers lie in it, and where in the block those headers end."""


class Chunk:
    """A segment of a file as the index has it: `offset` and `end` in the layer, `position` and `size` in the file."""

    __slots__ = ("digest", "end", "offset", "position", "size")

    def __init__(self, offset: int, end: int, position: int, size: int, digest: str) -> None:
        self.offset = offset
        self.end = end
        self.position = position
        self.size = size
        self.digest = digest


class IndexedWriter(LayerWriter):
    """Cuts, compresses in parallel, and collects in order; what is recorded of each member is the format's own."""

    payload_alone: bool
    """Whether a file's segment ends with its content (or runs on through the headers that follow it)."""

    def __init__(self, sink: Writable) -> None:
        super().__init__(sink)
        workers = max(2, min(4, os.cpu_count() or 2))
        self._chunks: list[Chunk] = []
        self._file_hash = hashlib.sha256()
        self._pipeline = Pipeline(
            block_bytes=_BLOCK_BYTES,
            blocks=workers + 2,
            digest=self._digest_block,
            encode=self._encode_block,
            workers=workers,
            collect=self._collect_block,
        )
        self._block = self._pipeline.take()

    @abstractmethod
    def _compress(self, data: memoryview) -> bytes:
        """One whole segment; called from several threads."""

    @abstractmethod
    def _record(self, member: Member, chunks: list[Chunk], digest: str) -> None:
        """Note a member in the index, in the tar's order. `digest` is its content's sha256 in hex, where it has any."""

    def _see_segment(self, block: Block, segment: Segment, end: int) -> None:
        """Look at a segment's bytes, in the tar's order."""

    def add(self, member: Member, content: Iterator[Buffer]) -> None:
        """Write one member."""
        self._write_structure(encode_header(member))
        size = member.size
        if not size:
            self._block.marks[-1].followers.append((member, self._block.length))
            return
        if size <= CHUNK_BYTES:
            self._start_segment(member, size, 0)
            self._block.extend(content)
        else:
            self._write_content(member, content)
        if fill := padding(size):
            self._write_structure(ZERO_BLOCK[:fill])

    def abort(self, error: BaseException) -> None:
        """Stop the threads."""
        self._pipeline.abort(error)

    def _flush(self) -> None:
        """Wait until every segment was collected."""
        self._pipeline.submit(self._block)
        self._pipeline.close()

    def _write_structure(self, data: bytes) -> None:
        """Headers and padding: they go on in the segment at hand, or start one."""
        block = self._block
        start, end = block.length, block.length + len(data)
        if end > _BLOCK_BYTES:
            block = self._next_block()
            start, end = 0, len(data)
        if not block.marks or (self.payload_alone and block.marks[-1].payload):
            block.marks.append(Segment(start))
        block.view[start:end] = data
        block.length = end

    def _write_content(self, member: Member, content: Iterator[Buffer]) -> None:
        position = room = 0
        for piece in content:
            view = memoryview(piece)
            while view:
                if not room:
                    room = min(CHUNK_BYTES, member.size - position)
                    self._start_segment(member, room, position)
                part = view[:room]
                block = self._block
                block.view[block.length : block.length + len(part)] = part
                block.length += len(part)
                position += len(part)
                room -= len(part)
                view = view[len(part) :]

    def _start_segment(self, member: Member, size: int, position: int) -> None:
        block = self._block
        if block.length > _ENOUGH_BYTES or block.length + size > _BLOCK_BYTES:
            block = self._next_block()
        block.marks.append(Segment(block.length, member, size, position))

    def _next_block(self) -> Block:
        self._pipeline.submit(self._block)
        self._block = self._pipeline.take()
        return self._block

    def _digest_block(self, block: Block) -> None:
        self._count_tar(block.filled)

    def _encode_block(self, block: Block) -> None:
        for segment, end in _spans(block):
            payload = block.view[segment.start : segment.start + segment.payload]
            digest = hashlib.sha256(payload).hexdigest() if segment.payload else ""
            block.output.append((self._compress(block.view[segment.start : end]), digest))

    def _collect_block(self, block: Block) -> None:
        offset = self._output.size
        for (segment, end), (data, digest) in zip(_spans(block), block.output, strict=True):
            after = offset + len(data)
            if segment.member is not None:
                self._collect_chunk(block, segment, Chunk(offset, after, segment.position, segment.payload, digest))
            self._see_segment(block, segment, end)
            for member, _ in segment.followers:
                self._record(member, [], "")
            offset = after
        for data in _gather(data for data, _ in block.output):
            self._output.write(data)
        block.output.clear()  # the block may wait long until it is filled again

    def _collect_chunk(self, block: Block, segment: Segment, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        digest = chunk.digest
        if segment.position or not segment.last:
            if not segment.position:
                self._file_hash = hashlib.sha256()
            self._file_hash.update(block.view[segment.start : segment.start + segment.payload])
            digest = self._file_hash.hexdigest() if segment.last else ""
        if segment.last and segment.member is not None:
            self._record(segment.member, self._chunks, digest)
            self._chunks = []


def _spans(block: Block) -> Iterator[tuple[Segment, int]]:
    """Each segment and where it ends."""
    marks: list[Segment] = block.marks
    for segment, following in itertools.pairwise(marks):
        yield segment, following.start
    if marks:
        yield marks[-1], block.length


def _gather(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces, the large ones uncopied."""
    waiting: list[bytes] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += len(piece)
        if count >= _WRITE_BYTES:
            yield b"".join(waiting)
            waiting.clear()
            count = 0
    yield b"".join(waiting)


def open_spool() -> IO[bytes]:
    """A place for an index that may grow large."""
    return tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)


def tar_name(member: Member) -> bytes:
    """The name as the tar has it: directories end with a slash."""
    return member.name + b"/" if member.kind == DIRECTORY else member.name


def as_text(name: bytes) -> str:
    """A name for JSON, which has no other bytes than UTF-8's; raises ArchiveError for those."""
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError(
            f"member {show(name)}: the name is not UTF-8, which the index of this layer format needs",
            hint='set compression = "gzip" or "zstd"',
        ) from error
