"""The files of one layer: from its table of contents where that spares a download, or else from its tar, streamed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from kobuild.decompress import Decompressed
from kobuild.explain.entries import LayerListing, sort_out
from kobuild.image.store import ImageStore, RangedStore
from kobuild.layers.entries import EMPTY_DIGEST, Entry, Kind, clean_path
from kobuild.layers.members import BLOCK, CHARACTER, DIRECTORY, FIFO, HARD_LINK, REGULAR, SYMLINK, Member
from kobuild.layers.tarreader import TarReader
from kobuild.layers.toc import read_table, table_form
from kobuild.oci.descriptor import Descriptor
from kobuild.progress import NullReporter, Reporter
from kobuild.streams import CHUNK_BYTES, Readable

MAX_MEMBERS: Final = 5_000_000
"""Of one layer; each costs some 500 bytes of memory here."""
_XATTR: Final = b"SCHILY.xattr."
_KINDS: Final = {
    REGULAR: Kind.FILE,
    HARD_LINK: Kind.HARD_LINK,
    SYMLINK: Kind.SYMLINK,
    CHARACTER: Kind.CHARACTER,
    BLOCK: Kind.BLOCK,
    DIRECTORY: Kind.DIRECTORY,
    FIFO: Kind.FIFO,
}


def list_layer(
    store: ImageStore,
    descriptor: Descriptor,
    *,
    digests: bool = False,
    whole: bool = False,
    reporter: Reporter | None = None,
) -> LayerListing:
    """What the layer holds; with `digests`, with the sha256 of each file's content.

    Where the store can read ranges and the manifest vouches for a table of contents, only that is read, unless `whole`
    asks for the tar: a table is its maker's word for what the tar holds, and most runtimes unpack the tar. Otherwise
    the blob is read to its end, which verifies it. Raises IntegrityError, ArchiveError, and what the store raises.
    """
    place = f"layer {descriptor.digest} of {store.name}"
    if not whole and isinstance(store, RangedStore) and table_form(descriptor) is not None:
        table = read_table(descriptor, lambda start, size: store.read_range(descriptor, start, size), place)
        return sort_out(list(table.entries), bytes_read=table.bytes_read)
    transfer = (reporter or NullReporter()).transfer(f"read {descriptor.digest.short}", descriptor.size)
    with store.open(descriptor) as file:
        counted = _Counted(file, transfer.advance)
        entries = list(read_tar(Decompressed(counted, place), place, digests=digests))
        while counted.read(CHUNK_BYTES):  # what follows the tar's end counts for the blob's digest
            pass
    transfer.done()
    return sort_out(entries, bytes_read=counted.count)


def read_tar(source: Readable, place: str, *, digests: bool) -> Iterator[Entry]:
    """Each member of a tar, in order; raises ArchiveError."""
    chunks = iter(lambda: source.read(CHUNK_BYTES), b"")
    members = TarReader(chunks, place, sealed=True, max_members=MAX_MEMBERS)
    for member in members:
        yield _entry(member, _content_digest(members, member) if digests and member.kind == REGULAR else "")


def _content_digest(members: TarReader, member: Member) -> str:
    if member.size == 0:
        return EMPTY_DIGEST
    hasher = hashlib.sha256()
    for piece in members.content():
        hasher.update(piece)
    return f"sha256:{hasher.hexdigest()}"


def _entry(member: Member, digest: str) -> Entry:
    link = member.link.decode("utf-8", "surrogateescape")
    return Entry(
        path=clean_path(member.name.decode("utf-8", "surrogateescape")),
        kind=_KINDS[member.kind],
        size=member.size,
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        link=clean_path(link) if member.kind == HARD_LINK else link,
        digest=digest,
        xattrs=_xattrs(member),
    )


def _xattrs(member: Member) -> tuple[tuple[str, str], ...]:
    found = ((key, value) for key, value in (member.records or {}).items() if key.startswith(_XATTR))
    named = ((key[len(_XATTR) :].decode("utf-8", "replace"), base64.b64encode(value).decode()) for key, value in found)
    return tuple(sorted(named))


class _Counted:
    """A reader that counts what passes."""

    def __init__(self, source: Readable, tell: Callable[[int], None]) -> None:
        self._source = source
        self._tell = tell
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self.count += len(data)
        self._tell(len(data))
        return data
