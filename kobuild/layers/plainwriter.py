"""Layers in one compressed stream: gzip, zstd, or none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kobuild.layers.codecs import Compressor, open_gzip, open_zstd
from kobuild.layers.members import Member
from kobuild.layers.sparse import Buffer
from kobuild.layers.tarheader import ZERO_BLOCK, encode_header, padding
from kobuild.layers.threads import Block, Pipeline
from kobuild.layers.writer import LayerWriter
from kobuild.oci.mediatypes import Compression
from kobuild.streams import Writable

BLOCK_BYTES: Final = 1024 * 1024
"""What the compressor is given at once. Its output depends on this, so changing it needs a new format version."""
_BLOCKS: Final = 8


class _Stored:
    """No compression."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


def _open_compressor(compression: Compression) -> Compressor:
    if compression is Compression.GZIP:
        return open_gzip()
    if compression is Compression.ZSTD:
        return open_zstd(threads=2)
    return _Stored()


class PlainWriter(LayerWriter):
    """Writes members as a tar into blocks of fixed size; other threads hash, compress and write those."""

    def __init__(self, sink: Writable, compression: Compression) -> None:
        super().__init__(sink)
        self._compressor = _open_compressor(compression)
        self._pipeline = Pipeline(
            block_bytes=BLOCK_BYTES, blocks=_BLOCKS, digest=self._digest_block, collect=self._compress_block
        )
        self._block = self._pipeline.take()

    def add(self, member: Member, content: Iterator[Buffer]) -> None:
        """Write one member with its whole content."""
        self._write(encode_header(member))
        if member.size:
            for piece in content:
                self._write(piece)
            if fill := padding(member.size):
                self._write(ZERO_BLOCK[:fill])

    def finish(self) -> None:
        """Write the end of the archive and wait for the other threads."""
        self._write(ZERO_BLOCK * 2)
        self._pipeline.submit(self._block)
        self._pipeline.close()
        self._output.write(self._compressor.flush())

    def abort(self, error: BaseException) -> None:
        """Stop the threads; what was written is worthless."""
        self._pipeline.abort(error)

    def _write(self, data: Buffer) -> None:
        block = self._block
        start = block.length
        end = start + len(data)
        if end <= BLOCK_BYTES:
            block.view[start:end] = data
            block.length = end
            return
        view = memoryview(data)
        while True:
            room = BLOCK_BYTES - block.length
            part = view[:room]
            block.view[block.length : block.length + len(part)] = part
            block.length += len(part)
            view = view[room:]
            if not view:
                return
            self._pipeline.submit(block)
            block = self._block = self._pipeline.take()

    def _digest_block(self, block: Block) -> None:
        self._count_tar(block.filled)

    def _compress_block(self, block: Block) -> None:
        if output := self._compressor.compress(block.filled):
            self._output.write(output)
