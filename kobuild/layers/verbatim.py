"""Keeping a tar's compressed bytes where they can be the layer as they stand: nothing is compressed twice.

The archive is read through once all the same: every rule for members holds, and the diff ID is computed. Only when not
one member would be renamed, dropped or written otherwise are the bytes copied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from kobuild.decompress.packing import Packing, sniff
from kobuild.layers.decompress import decompress
from kobuild.layers.opening import is_tar, open_stream, peek, read_chunks
from kobuild.layers.placement import Placer
from kobuild.layers.plan import ArchiveInput, LayerPlan, LayerResult
from kobuild.layers.tarheader import BLOCK_BYTES
from kobuild.layers.tarreader import TarReader
from kobuild.layers.threads import Prefetch
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Compression
from kobuild.streams import HashingWriter, Writable, copy

_PACKINGS: Final = {
    Compression.NONE: Packing.PLAIN,
    Compression.GZIP: Packing.GZIP,
    Compression.ZSTD: Packing.ZSTD,
}
_PREFETCHED: Final = 8


def may_keep_bytes(plan: LayerPlan) -> bool:
    """Whether the plan asks for no change."""
    return (
        plan.compression in _PACKINGS
        and plan.root.strip("/") == ""
        and not plan.only
        and plan.strip == 0
        and plan.mode is None
    )


def keep_bytes(source: ArchiveInput, plan: LayerPlan, sink: Writable) -> LayerResult | None:
    """Copy the archive to the sink as the layer; None, and nothing written, where it is not one as it stands."""
    padding: list[bool] = []
    joins: list[bool] = []
    with ExitStack() as stack:
        raw = stack.enter_context(open_stream(source))
        head, chunks = peek(read_chunks(raw))
        packing = _PACKINGS[plan.compression]
        if not head or sniff(head) is not packing:
            return None
        if packing is not Packing.PLAIN:
            chunks = decompress(
                chunks,
                packing,
                plan.limits,
                source.name,
                on_padding=lambda: padding.append(True),
                on_join=lambda: joins.append(True),
            )
        tar_hash = _HashedChunks(stack.enter_context(Prefetch(chunks, _PREFETCHED)))
        head, unpacked = peek(iter(tar_hash))
        if not is_tar(head, source.name):
            return None
        placer = Placer(plan, source.name)
        reader = TarReader(
            unpacked,
            source.name,
            sealed=lambda: packing is not Packing.PLAIN and not joins,
            max_members=plan.limits.members,
        )
        for member in reader:
            if placer.place(member) is None:
                return None
        if padding or tar_hash.size % BLOCK_BYTES or not (reader.plain and placer.plain):
            return None
    output = HashingWriter(sink)
    with source.path().open("rb") as file:
        copy(file, output)
    return LayerResult(
        diff_id=tar_hash.digest,
        digest=output.digest,
        size=output.size,
        uncompressed_size=tar_hash.size,
        members=placer.members,
        newest_mtime=placer.newest_mtime,
        landing=placer.landing(),
    )


class _HashedChunks:
    """Chunks that are hashed as they pass."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def digest(self) -> Digest:
        return Digest("sha256", self._hash.hexdigest())
