"""Finding out what an upstream file is, from its bytes, and opening it as members."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final, Protocol

from kobuild.decompress.packing import Packing, sniff
from kobuild.errors import ArchiveError, TruncatedArchive
from kobuild.layers.decompress import decompress
from kobuild.layers.files import SingleFile, read_file
from kobuild.layers.magic import SNIFF_BYTES, unreadable_kind
from kobuild.layers.members import Member, show
from kobuild.layers.names import clean_name
from kobuild.layers.plan import ArchiveInput, LayerPlan, NamedFile
from kobuild.layers.sparse import Buffer
from kobuild.layers.tarheader import BLOCK_BYTES, ZERO_BLOCK, is_header, looks_like_header
from kobuild.layers.tarreader import TarReader
from kobuild.layers.threads import Prefetch
from kobuild.layers.zipreader import ZipReader, open_zip
from kobuild.streams import Readable

_READ_BYTES: Final = 256 * 1024
_PREFETCHED: Final = 8
_TAR_SUFFIXES: Final = (".tar", ".tgz", ".txz", ".tbz", ".tbz2", ".tzst", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst")
_OPAQUE_ZIPS: Final = (".jar", ".war", ".ear")
"""Zips that are programs, run as they are: they go into the layer as one file."""


class MemberReader(Protocol):
    """An archive being read: iterating gives its members."""

    @property
    def plain(self) -> bool:
        """Whether the members so far can stand in a layer as they are in the archive."""

    def __iter__(self) -> Iterator[Member]: ...

    def content(self) -> Iterator[Buffer]:
        """The content of the member last given, at most once."""


def open_archive(source: ArchiveInput, plan: LayerPlan, stack: ExitStack) -> MemberReader:
    """Open `source` for one pass; `stack` closes it. Raises ArchiveError for what cannot be unpacked."""
    raw = stack.enter_context(open_stream(source))
    head, chunks = peek(read_chunks(raw))
    if not head:
        raise TruncatedArchive(f"read {source.name}: it is empty")
    packing = sniff(head)
    if packing is Packing.ZIP and not source.name.lower().endswith(_OPAQUE_ZIPS):
        file = stack.enter_context(open_zip(source.path(), source.name))
        return ZipReader(file, source.name, plan.limits)
    if packing in (Packing.ZIP, Packing.PLAIN):
        if is_tar(head, source.name):
            return _open_tar(stack.enter_context(Prefetch(chunks, _PREFETCHED)), source, plan, sealed=False)
        return _open_bare(head, source, plan)
    joins: list[bool] = []
    parts = decompress(chunks, packing, plan.limits, source.name, on_join=lambda: joins.append(True))
    unpacked = stack.enter_context(Prefetch(parts, _PREFETCHED))
    inner_head, unpacked = peek(unpacked)
    if is_tar(inner_head, source.name):
        return _open_tar(unpacked, source, plan, sealed=lambda: not joins)
    return _open_compressed(head, unpacked, source, plan, packing)


@contextlib.contextmanager
def open_stream(source: ArchiveInput) -> Iterator[Readable]:
    """The source's bytes; where they turn out damaged, they are read to their end.

    So the source can tell whether they are what was promised: a broken download is named as one.
    """
    with source.stream() as raw:
        try:
            yield raw
        except ArchiveError as error:
            if type(error) in (ArchiveError, TruncatedArchive):
                while raw.read(_READ_BYTES):
                    pass
            raise


def read_member(source: ArchiveInput, plan: LayerPlan, name: bytes) -> Iterator[Buffer]:
    """The content of one member of a tar that was opened before, by its clean name: a second pass over the file."""
    with ExitStack() as stack:
        reader = open_archive(NamedFile(source.name, source.path()), plan, stack)
        for member in reader:
            if clean_name(member.name, source.name) == name:
                yield from reader.content()
                return
    raise ArchiveError(f"read {source.name}: {show(name)} is gone: the file changed while it was read")


def _open_tar(
    chunks: Iterator[bytes], source: ArchiveInput, plan: LayerPlan, *, sealed: bool | Callable[[], bool]
) -> TarReader:
    return TarReader(chunks, source.name, sealed=sealed, max_members=plan.limits.members)


def _open_bare(head: bytes, source: ArchiveInput, plan: LayerPlan) -> SingleFile:
    kind = unreadable_kind(head)
    if kind is not None:
        raise ArchiveError(
            f"read {source.name}: it is {kind}, which kobuild cannot unpack",
            hint="choose another file of the release: tar, tar.gz, tar.xz, tar.bz2, tar.zst or zip",
        )
    path = source.path()
    return SingleFile(_single_name(source, plan), path.stat().st_size, None, lambda: read_file(path), source.name)


def _open_compressed(
    head: bytes, unpacked: Iterator[bytes], source: ArchiveInput, plan: LayerPlan, packing: Packing
) -> SingleFile:
    """One compressed file. A tar header needs its size first, so it is unpacked twice: to count, then to write."""
    size = sum(len(chunk) for chunk in unpacked)
    stored_time = int.from_bytes(head[4:8], "little") if packing is Packing.GZIP else 0
    return SingleFile(
        _single_name(source, plan),
        size,
        stored_time or None,
        lambda: decompress(read_file(source.path()), packing, plan.limits, source.name),
        source.name,
    )


def _single_name(source: ArchiveInput, plan: LayerPlan) -> bytes:
    return (plan.rename or source.name.rpartition("/")[2]).encode()


def is_tar(head: bytes, name: str) -> bool:
    """Whether a (decompressed) file that starts so is a tar; raises ArchiveError for one that is damaged."""
    block = head[:BLOCK_BYTES]
    if is_header(block) or block == ZERO_BLOCK:
        return True
    if len(block) < BLOCK_BYTES and name.lower().endswith(_TAR_SUFFIXES):
        raise TruncatedArchive(f"read {name}: it should be a tar, but it is only {len(block)} bytes long")
    if looks_like_header(block) or name.lower().endswith(_TAR_SUFFIXES):
        raise ArchiveError(
            f"read {name}: it should be a tar, but the checksum of its first header is wrong",
            hint="the archive is damaged: fetch it again, or check it with tar",
        )
    return False


def read_chunks(raw: Readable) -> Iterator[bytes]:
    """The bytes in pieces of a size that suits the decompressors."""
    while data := raw.read(_READ_BYTES):
        yield data


def peek(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Enough first bytes to sniff (fewer where there are no more), and all the chunks."""
    seen: list[bytes] = []
    count = 0
    for chunk in chunks:
        seen.append(chunk)
        count += len(chunk)
        if count >= SNIFF_BYTES:
            break
    head = b"".join(seen)
    return head[:SNIFF_BYTES], itertools.chain((head,) if head else (), chunks)
