"""Making a layer: one pass from an upstream file to a compressed layer, its diff ID and its digest.

read + decompress │ rewrite headers │ sha256 of the tar │ compress + sha256 of the layer
(a thread)        │ (the caller)    │ (a thread)        │ (a thread, or several)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from kobuild.errors import ArchiveError
from kobuild.layers.estargz import EstargzWriter
from kobuild.layers.files import DirectoryReader
from kobuild.layers.members import show
from kobuild.layers.opening import MemberReader, open_archive, read_member
from kobuild.layers.placement import Placed, Placer
from kobuild.layers.plainwriter import GzipWriter, PlainWriter, ZstdWriter
from kobuild.layers.plan import ArchiveInput, LayerPlan, LayerResult, NamedFile
from kobuild.layers.prioritized import Prioritized
from kobuild.layers.sparse import Buffer
from kobuild.layers.verbatim import keep_bytes, may_keep_bytes
from kobuild.layers.writer import LayerWriter
from kobuild.layers.zstdchunked import ZstdChunkedWriter
from kobuild.oci.mediatypes import Compression
from kobuild.streams import Writable

_WRITERS: Final[Mapping[Compression, Callable[[Writable], LayerWriter]]] = {
    Compression.NONE: PlainWriter,
    Compression.GZIP: GzipWriter,
    Compression.ESTARGZ: EstargzWriter,
    Compression.ZSTD: ZstdWriter,
    Compression.ZSTD_CHUNKED: ZstdChunkedWriter,
}

_Opener = Callable[[ExitStack], MemberReader]


def make_layer(source: ArchiveInput, plan: LayerPlan, sink: Writable) -> LayerResult:
    """Write the layer that `plan` makes of `source` to `sink`, in constant memory.

    Raises ArchiveError (and its kinds) for an archive that is damaged, hostile or not what the plan needs, and whatever
    the source or the sink raise. What the sink got before an error is worthless.
    """
    if may_keep_bytes(plan):
        kept = keep_bytes(source, plan, sink)
        if kept is not None:
            return kept
        source = NamedFile(source.name, source.path())
    return _Maker(plan, source.name, source).make(lambda stack: open_archive(source, plan, stack), sink)


def pack_directory(folder: Path, plan: LayerPlan, sink: Writable) -> LayerResult:
    """Write a layer of everything below a directory of this machine; see DirectoryReader for what is kept of it."""
    return _Maker(plan, str(folder), None).make(lambda _: DirectoryReader(folder), sink)


class _Maker:
    """One layer being made."""

    def __init__(self, plan: LayerPlan, place: str, source: ArchiveInput | None) -> None:
        self._plan = plan
        self._place = place
        self._source = source
        self._placer = Placer(plan, place)

    def make(self, opener: _Opener, sink: Writable) -> LayerResult:
        with ExitStack() as stack:
            first = self._collect_prioritized(opener, stack)
            writer = _WRITERS[self._plan.compression](sink)
            stack.callback(writer.close)
            try:
                self._write(writer, first, opener, stack)
                writer.finish()
            except BaseException as error:
                writer.abort(error)
                raise
        return LayerResult(
            diff_id=writer.diff_id,
            digest=writer.digest,
            size=writer.size,
            uncompressed_size=writer.uncompressed_size,
            members=self._placer.members,
            newest_mtime=self._placer.newest_mtime,
            landing=self._placer.landing(),
            annotations=writer.annotations,
        )

    def _collect_prioritized(self, opener: _Opener, stack: ExitStack) -> Prioritized | None:
        if self._plan.compression is not Compression.ESTARGZ or not self._plan.prioritized:
            return None
        first = Prioritized(self._plan.prioritized, self._plan.moved, stack)
        first.collect(lambda inner: self._place_all(Placer(self._plan, self._place), opener(inner)))
        return first

    def _write(self, writer: LayerWriter, first: Prioritized | None, opener: _Opener, stack: ExitStack) -> None:
        skipped: frozenset[bytes] = frozenset()
        if isinstance(writer, EstargzWriter):
            if first is not None:
                skipped = first.names
                for member, content in first.members():
                    writer.add(member, content)
            writer.add_landmark(prefetch=bool(skipped))
        for placed, content in self._place_all(self._placer, opener(stack)):
            if placed.member.name not in skipped:
                writer.add(placed.member, content)

    def _place_all(self, placer: Placer, reader: MemberReader) -> Iterator[tuple[Placed, Iterator[Buffer]]]:
        """Every member that goes into the layer, with its content, to be used before the next is taken."""
        for member in reader:
            placed = placer.place(member)
            if placed is not None:
                yield placed, self._open_content(placed, reader)
        placer.finish()

    def _open_content(self, placed: Placed, reader: MemberReader) -> Iterator[Buffer]:
        """The member's own content, or for a hard link to a left-out member that one's."""
        if placed.borrowed_from is None:
            return reader.content()
        if self._source is None:
            raise ArchiveError(f"the hard link {show(placed.member.name)} has no archive to take its content from")
        return read_member(self._source, self._plan, placed.borrowed_from)
