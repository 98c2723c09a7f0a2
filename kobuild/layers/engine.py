"""Making a layer: one pass from an upstream file to a compressed layer, its diff ID and its digest.

read + decompress │ rewrite headers │ sha256 of the tar │ compress + sha256 of the layer
(a thread)        │ (the caller)    │ (a thread)        │ (a thread, or several)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from kobuild.errors import ArchiveError
from kobuild.layers.files import DirectoryReader
from kobuild.layers.members import Member, show
from kobuild.layers.opening import MemberReader, open_archive, read_member
from kobuild.layers.placement import Placed, Placer
from kobuild.layers.plainwriter import PlainWriter
from kobuild.layers.plan import ArchiveInput, LayerPlan, LayerResult
from kobuild.layers.sparse import Buffer
from kobuild.streams import Writable


class LayerWriter(Protocol):
    """A layer being written."""

    def add(self, member: Member, content: Iterator[Buffer]) -> None:
        """Write one member."""

    def finish(self) -> None:
        """Write the end."""

    def abort(self, error: BaseException) -> None:
        """Stop the threads."""


def make_layer(source: ArchiveInput, plan: LayerPlan, sink: Writable) -> LayerResult:
    """Write the layer that `plan` makes of `source` to `sink`, in constant memory.

    Raises ArchiveError (and its kinds) for an archive that is damaged, hostile or not what the plan needs, and whatever
    the source or the sink raise. What the sink got before an error is worthless.
    """
    with ExitStack() as stack:
        reader = open_archive(source, plan, stack)
        return _write_layer(reader, plan, sink, source)


def pack_directory(folder: Path, plan: LayerPlan, sink: Writable) -> LayerResult:
    """Write a layer of everything below a directory of this machine; see DirectoryReader for what is kept of it."""
    return _write_layer(DirectoryReader(folder), plan, sink, None, place=str(folder))


def _write_layer(
    reader: MemberReader, plan: LayerPlan, sink: Writable, source: ArchiveInput | None, place: str = ""
) -> LayerResult:
    placer = Placer(plan, source.name if source else place)
    writer = PlainWriter(sink, plan.compression)
    try:
        for member in reader:
            placed = placer.place(member)
            if placed is not None:
                writer.add(placed.member, _open_content(placed, reader, source, plan))
        placer.finish()
        writer.finish()
    except BaseException as error:
        writer.abort(error)
        raise
    return LayerResult(
        diff_id=writer.diff_id,
        digest=writer.digest,
        size=writer.size,
        uncompressed_size=writer.uncompressed_size,
        members=placer.members,
        newest_mtime=placer.newest_mtime,
        annotations=writer.annotations,
    )


def _open_content(
    placed: Placed, reader: MemberReader, source: ArchiveInput | None, plan: LayerPlan
) -> Iterator[Buffer]:
    """The member's own content, or for a hard link to a left-out member that one's."""
    if placed.borrowed_from is None:
        return reader.content()
    if source is None:
        raise ArchiveError(f"hard link {show(placed.member.name)} has no archive to take its content from")
    return read_member(source, plan, placed.borrowed_from)
