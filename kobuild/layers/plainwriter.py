"""Layers in one compressed stream: gzip, zstd, or none."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import chain
from typing import Final

from kobuild.layers.budget import SPARE_BUFFERS
from kobuild.layers.compressing import GZIP_HEADER, WINDOW_BYTES, crc32, deflate_block, gzip_trailer, open_zstd
from kobuild.layers.members import Member
from kobuild.layers.sparse import Buffer
from kobuild.layers.tarheader import ZERO_BLOCK, encode_header, padding
from kobuild.layers.threads import Block, Pipeline
from kobuild.layers.writer import LayerWriter
from kobuild.streams import Writable

BLOCK_BYTES: Final = 1024 * 1024
"""What is compressed at once. The output depends on this, so changing it needs a new format version."""
_ZSTD_THREAD_BYTES: Final = 8 * 1024 * 1024
"""What the second of zstd's threads needs."""
_SEATS: Final = threading.BoundedSemaphore(2)


class PlainWriter(LayerWriter):
    """Writes members as a tar into blocks of fixed size; other threads hash, compress and write those.

    This class does not compress: its tar is the layer.
    """

    workers = 1
    """How many blocks are compressed at the same time."""

    def __init__(self, sink: Writable) -> None:
        super().__init__(sink)
        self._pipeline = Pipeline(
            block_bytes=BLOCK_BYTES,
            blocks=self.workers + 6,
            digest=self._digest_block,
            encode=self._encode_block,
            workers=self.workers,
            collect=self._collect_block,
        )
        self._block = self._pipeline.take()

    def add(self, member: Member, content: Iterator[Buffer]) -> None:
        """Write one member with its whole content."""
        header = encode_header(member)
        block, size = self._block, member.size
        fill = padding(size)
        if block.length + len(header) + size + fill > BLOCK_BYTES:
            self._add_across(header, size, content)
        elif size:
            block.extend(chain((header,), content, (ZERO_BLOCK[:fill],)))
        else:
            block.extend((header,))

    def _add_across(self, header: bytes, size: int, content: Iterator[Buffer]) -> None:
        """Write a member that does not fit into the block at hand."""
        self._write(header)
        if size:
            for piece in content:
                self._write(piece)
            self._write(ZERO_BLOCK[: padding(size)])

    def finish(self) -> None:
        """Write the end of the archive and wait for the other threads."""
        self._write(ZERO_BLOCK * 2)
        self._block.last = True
        self._submit()
        self._pipeline.close()

    def abort(self, error: BaseException) -> None:
        """Stop the threads; what was written is worthless."""
        self._pipeline.abort(error)

    def _write(self, data: Buffer) -> None:
        block = self._block
        view = memoryview(data)
        while True:
            part = view[: BLOCK_BYTES - block.length]
            block.view[block.length : block.length + len(part)] = part
            block.length += len(part)
            view = view[len(part) :]
            if not view:
                return
            self._submit()
            block = self._block = self._pipeline.take()

    def _submit(self) -> None:
        self._pipeline.submit(self._block)

    def _digest_block(self, block: Block) -> None:
        self._count_tar(block.filled)

    def _encode_block(self, block: Block) -> None:
        block.output.append(bytes(block.filled))

    def _collect_block(self, block: Block) -> None:
        self._output.write(block.output.pop())


class ZstdWriter(PlainWriter):
    """One zstd frame; its compressor has threads of its own: one, or two where there is memory to spare.

    Two may be open at a time, and who opens a third waits: a compressor has some 20 MB.
    """

    def __init__(self, sink: Writable) -> None:
        _SEATS.acquire()
        self._has_two = SPARE_BUFFERS.try_take(_ZSTD_THREAD_BYTES)
        self._compressor = open_zstd(threads=2 if self._has_two else 1)
        super().__init__(sink)

    def close(self) -> None:
        """Give back what was spare."""
        SPARE_BUFFERS.give_back(_ZSTD_THREAD_BYTES if self._has_two else 0)
        _SEATS.release()

    def _encode_block(self, block: Block) -> None:
        output = self._compressor.compress(block.filled)
        block.output.append(output + self._compressor.flush() if block.last else output)


class GzipWriter(PlainWriter):
    """One gzip member whose deflate blocks are made in parallel.

    Each is compressed with the 32 KiB before it as its dictionary and ends on a whole byte, so that together they are
    one deflate stream, hardly larger than one made in one go.
    """

    workers = max(2, min(4, os.cpu_count() or 2))

    def __init__(self, sink: Writable) -> None:
        super().__init__(sink)
        self._window = b""
        self._crc = 0

    def finish(self) -> None:
        """Write the end of the archive, then the checksum and the length that end a gzip member."""
        super().finish()
        self._output.write(gzip_trailer(self._crc, self._tar_size))

    def _submit(self) -> None:
        block = self._block
        block.marks.append(self._window)
        self._window = bytes(block.view[max(0, block.length - WINDOW_BYTES) : block.length])
        super()._submit()

    def _digest_block(self, block: Block) -> None:
        super()._digest_block(block)
        self._crc = crc32(block.filled, self._crc)

    def _encode_block(self, block: Block) -> None:
        block.output.append(deflate_block(block.filled, block.marks[0], last=block.last))

    def _collect_block(self, block: Block) -> None:
        if not self._output.size:
            self._output.write(GZIP_HEADER)
        super()._collect_block(block)
