"""A base's links and directories: an index of what tool layers must not replace, read once and then found in the cache.

The base's layers are streamed for it, and nothing of their content is kept. Of a layer in a registry that has a table
of contents (eStargz, zstd:chunked), which the manifest vouches for, the table is enough.

The index is named by the layers' diff IDs, so the same base through a registry or from a layout is read once. Diff IDs
are only what an image claims: the tars are held to them, or else one image could say in the cache what another one
holds. A table tells nothing of the tar, so where tables are read their own sums are part of the name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from kobuild.errors import ArchiveError, BaseError, DigestMismatch, IntegrityError, MalformedDocument
from kobuild.frozen import frozen
from kobuild.image.blobs import Layer, RangedSource
from kobuild.image.image import Image
from kobuild.layers.entries import Entry, Kind
from kobuild.layers.landing import POSSIBLE_LINKS
from kobuild.layers.members import DIRECTORY, REGULAR, SYMLINK, Member
from kobuild.layers.names import lead
from kobuild.progress import NullReporter, Reporter, Transfer
from kobuild.store.cache import Cache
from kobuild.streams import CHUNK_BYTES, Readable, ReadRange, stoppable

_logger = logging.getLogger(__name__)
RECORD_KIND: Final = "base-trees"
FORMAT_VERSION: Final = 2
"""Raised whenever the index of the same layers would differ."""
_MAX_MEMBERS: Final = 5_000_000
_MAX_LINKS: Final = 40
"""How many links one path may lead through: as many as Linux follows."""
_KINDS: Final = {Kind.DIRECTORY: DIRECTORY, Kind.SYMLINK: SYMLINK} | dict.fromkeys(
    (Kind.FILE, Kind.HARD_LINK, Kind.CHARACTER, Kind.BLOCK, Kind.FIFO), REGULAR
)
"""Members' kinds by entries'; what is neither a directory nor a symlink is all one to a tree."""
_WHITEOUT: Final = b".wh."
_OPAQUE: Final = b".wh..wh..opq"


@frozen
class BaseTree:
    """The directories and links of a base's file system; paths are bytes without slashes at their ends."""

    directories: frozenset[bytes]
    links: Mapping[bytes, bytes]
    """Symlinks that lead to a directory, or stand where one is to be expected, with their targets."""

    def resolve(self, path: bytes) -> bytes:
        """Where the path really is, each link on the way followed, the last part too; raises BaseError for a circle."""
        pending = path.split(b"/")[::-1]
        place: list[bytes] = []
        followed = 0
        while pending:
            part = pending.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                place = place[:-1]
                continue
            target = self.links.get(b"/".join([*place, part]))
            if target is None:
                place.append(part)
                continue
            followed += 1
            if followed > _MAX_LINKS:
                raise BaseError(f"the base's link {path!r} leads in a circle", hint="choose another base, or root")
            place = [] if target.startswith(b"/") else place
            pending += target.split(b"/")[::-1]
        return b"/".join(place)

    def steps(self, path: bytes) -> Iterator[bytes]:
        """The path, and where each link leads on the way when the last part is a link to a link."""
        yield path
        while (target := self.links.get(path)) is not None:
            path = lead(path, target)
            if path not in self.links:
                return
            yield path

    def to_json(self) -> dict[str, Any]:
        """As a record for the cache."""
        links = {_text(path): _text(target) for path, target in sorted(self.links.items())}
        return {"directories": [_text(path) for path in sorted(self.directories)], "links": links}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> BaseTree | None:
        """From a record; None for one that `to_json` did not make."""
        try:
            links = {_bytes(path): _bytes(target) for path, target in record["links"].items()}
            return cls(frozenset(_bytes(path) for path in record["directories"]), links)
        except (KeyError, TypeError, AttributeError):
            return None


def read_base_tree(base: Image, cache: Cache, cancelled: threading.Event, reporter: Reporter | None = None) -> BaseTree:
    """The base's tree, from the cache or else from its layers, which are then read whole.

    Raises what reading and unpacking the layers raise. Who asks for the same one at the same time waits for it.
    """
    if not base.layers:
        return BaseTree(frozenset(), {})
    key = _key(base)
    with cache.exclusive(f"{RECORD_KIND}-{key}", cancelled):
        record = cache.read_record(RECORD_KIND, key)
        known = None if record is None else BaseTree.from_json(record)
        if known is not None:
            return known
        growing = _GrowingTree()
        for layer in base.layers:
            growing.add(_read_layer(layer, cancelled, reporter or NullReporter()))
        tree = growing.tree()
        cache.write_record(RECORD_KIND, key, tree.to_json())
    return tree


def _key(base: Image) -> str:
    text = "\n".join([str(FORMAT_VERSION), *(f"{layer.diff_id}{_table_name(layer)}" for layer in base.layers)])
    return hashlib.sha256(text.encode()).hexdigest()


def _table_name(layer: Layer) -> str:
    """What decides the members of a layer whose table will be read; empty for one that is streamed."""
    if _table_ranges(layer) is None:
        return ""
    notes = json.dumps(dict(layer.descriptor.annotations), sort_keys=True)
    return f" {layer.descriptor.digest} {notes}"


def _table_ranges(layer: Layer) -> ReadRange | None:
    """How to read the table of a layer from afar; None where it has none, or where the whole is at hand."""
    # Most layers have no annotations at all, and most builds need nothing of this.
    ranges = layer.source.ranges() if isinstance(layer.source, RangedSource) and layer.descriptor.annotations else None
    if ranges is None:
        return None
    from kobuild.layers.toc import table_form  # noqa: PLC0415

    return ranges if table_form(layer.descriptor) is not None else None


def _read_layer(layer: Layer, cancelled: threading.Event, reporter: Reporter) -> Iterator[Member]:
    """The members of one layer: by its table of contents from afar, else by its tar."""
    listed = _list_by_table(layer)
    return _stream_layer(layer, cancelled, reporter) if listed is None else iter(listed)


def _list_by_table(layer: Layer) -> list[Member] | None:
    """The members by the layer's table where that spares a download; None where it has none, or none that is right."""
    # Here, as below: most builds know the tree from the cache, or never ask for it.
    from kobuild.layers.toc import read_table  # noqa: PLC0415

    ranges = _table_ranges(layer)
    if ranges is None:
        return None
    try:
        table = read_table(layer.descriptor, ranges, f"layer {layer.descriptor.digest} of the base")
        return [_as_member(entry) for entry in table.entries]
    except (ArchiveError, IntegrityError, MalformedDocument, UnicodeError) as error:
        _logger.debug("%s; the tar is read instead", error)
        return None


def _as_member(entry: Entry) -> Member:
    """The entry with all that matters here."""
    return Member(_bytes(entry.path), _KINDS[entry.kind], entry.mode, link=_bytes(entry.link))


def _stream_layer(layer: Layer, cancelled: threading.Event, reporter: Reporter) -> Iterator[Member]:
    """The members of one layer, whose blob is read to its end and so verified, and its tar with it.

    Raises DigestMismatch for a tar that has not the diff ID that the image says.
    """
    from kobuild.decompress import Decompressed  # noqa: PLC0415
    from kobuild.layers.tarreader import TarReader  # noqa: PLC0415

    digest = layer.descriptor.digest
    place = f"layer {digest} of the base"
    transfer = reporter.transfer(f"look into the base {digest.short}", layer.descriptor.size)
    with stoppable(layer.source.open(), cancelled) as opened:
        blob = _Counted(opened, transfer)
        plain = Decompressed(blob, place)
        hasher = layer.diff_id.hasher()
        chunks = _hashed(iter(lambda: plain.read(CHUNK_BYTES), b""), hasher)
        yield from TarReader(chunks, place, sealed=True, max_members=_MAX_MEMBERS)
        for _ in chunks:  # what follows the tar's end counts for both sums
            pass
        while blob.read(CHUNK_BYTES):
            pass
    if hasher.hexdigest() != layer.diff_id.hex:
        found = f"{layer.diff_id.algorithm}:{hasher.hexdigest()}"
        raise DigestMismatch(
            f"{place}, unpacked", expected=str(layer.diff_id), actual=found, hint="choose another base"
        )
    transfer.done()


def _hashed(chunks: Iterable[bytes], hasher: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk


class _GrowingTree:
    """Layers put on one another, as a runtime does (image-spec, layer.md, "Applying Changesets")."""

    def __init__(self) -> None:
        self._directories: set[bytes] = set()
        self._links: dict[bytes, bytes] = {}

    def add(self, members: Iterable[Member]) -> None:
        """Put a layer on top."""
        directories: set[bytes] = set()
        links: dict[bytes, bytes] = {}
        gone: set[bytes] = set()
        emptied: set[bytes] = set()
        for member in members:
            path = _clean(member.name)
            folder, _, name = path.rpartition(b"/")
            if name == _OPAQUE:
                emptied.add(folder)
            elif name.startswith(_WHITEOUT):
                gone.add(_join(folder, name[len(_WHITEOUT) :]))
            else:
                self._note(member, path, directories, links, gone)
                self._imply(folder, directories, links)
        self._drop(gone, emptied)
        self._directories |= directories
        self._links.update(links)

    def _note(
        self, member: Member, path: bytes, directories: set[bytes], links: dict[bytes, bytes], gone: set[bytes]
    ) -> None:
        """One entry; it replaces what was there, unless both are directories."""
        directories.discard(path)
        links.pop(path, None)
        if member.kind == DIRECTORY:
            directories.add(path)
            if path in self._links:
                gone.add(path)
        else:
            if member.kind == SYMLINK:
                links[path] = member.link
            if path in self._directories or path in self._links:
                gone.add(path)

    def _imply(self, folder: bytes, directories: set[bytes], links: dict[bytes, bytes]) -> None:
        """Directories that have no entry of their own."""
        while folder and folder not in directories and folder not in self._directories:
            if folder in links or folder in self._links:
                return
            directories.add(folder)
            folder = folder.rpartition(b"/")[0]

    def _drop(self, gone: set[bytes], emptied: set[bytes]) -> None:
        """Take away what the layer's whiteouts and replacements take from those below."""
        if not gone and not emptied:
            return
        self._directories = {path for path in self._directories if not _is_under(path, gone, emptied)}
        self._links = {path: target for path, target in self._links.items() if not _is_under(path, gone, emptied)}

    def tree(self) -> BaseTree:
        """All that matters of it."""
        whole = BaseTree(frozenset(self._directories), self._links)
        links = {
            path: target
            for path, target in self._links.items()
            if path in POSSIBLE_LINKS or self._leads_to_directory(whole, path)
        }
        return BaseTree(whole.directories, links)

    @staticmethod
    def _leads_to_directory(whole: BaseTree, path: bytes) -> bool:
        try:
            return whole.resolve(path) in whole.directories
        except BaseError:
            return False


class _Counted:
    """A reader that tells how far it is."""

    def __init__(self, source: Readable, transfer: Transfer) -> None:
        self._source = source
        self._transfer = transfer

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._transfer.advance(len(data))
        return data


def _is_under(path: bytes, gone: set[bytes], emptied: set[bytes]) -> bool:
    if path in gone:
        return True
    while path:
        path = path.rpartition(b"/")[0]
        if path in gone or path in emptied:
            return True
    return False


def _clean(name: bytes) -> bytes:
    return b"/".join(part for part in name.split(b"/") if part not in (b"", b".", b".."))


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
