"""Tables of contents of layers that can be pulled lazily, read by ranges: some kilobytes instead of the whole blob.

    eStargz        …[gzip: tar of stargz.index.json][footer: 51 bytes that end with the table's offset and STARGZ]
    zstd:chunked   …[skippable frame: zstd of the table]…, its position in an annotation of the layer

containerd/stargz-snapshotter, docs/estargz.md; containers/storage, pkg/chunked. A table counts only where an
annotation of the manifest has its digest: the manifest itself is verified, so the table is as good as the blob's bytes.
Layers without that annotation have no table for us.
"""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Mapping
from typing import Any, Final

from kobuild.decompress import Decompressed
from kobuild.errors import ArchiveError, DigestMismatch, MalformedDocument
from kobuild.frozen import frozen
from kobuild.layers.entries import EMPTY_DIGEST, Entry, Kind, clean_path
from kobuild.layers.tarreader import TarReader
from kobuild.oci import jsonio
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.streams import CHUNK_BYTES, ReadRange, read_bounded

ESTARGZ_DIGEST: Final = "containerd.io/snapshot/stargz/toc.digest"
_CHECKSUM: Final = "zstd-chunked.manifest-checksum"
_POSITION: Final = "zstd-chunked.manifest-position"
_PREFIXES: Final = ("io.github.containers.", "io.containers.")
"""Of zstd:chunked's annotations; the second is what containers/storage wrote before 2022."""

MAX_TABLE_BYTES: Final = 256 * 1024 * 1024
"""Of one table, uncompressed: some 300 bytes a file, so about a million files."""
_ESTARGZ_NAME: Final = b"stargz.index.json"
_FOOTER_BYTES: Final = 51
_FOOTER: Final = struct.Struct("<3s7xH2sH16s6s5x8x")
_PLACE: Final = re.compile(r"(\d+):(\d+):(\d+):(\d+)\Z")
_HEX: Final = re.compile(rb"[0-9a-fA-F]{16}")
_CRFS: Final = "1"


@frozen
class Table:
    """One table of contents, verified against the annotation."""

    form: str
    """`estargz` or `zstd:chunked`."""
    entries: tuple[Entry, ...]
    bytes_read: int
    """How much was read of the blob."""


def table_form(descriptor: Descriptor) -> str | None:
    """Which table the layer says it has: `estargz`, `zstd:chunked`, or None."""
    if _zstd_note(descriptor, _CHECKSUM) and _zstd_note(descriptor, _POSITION):
        return "zstd:chunked"
    return "estargz" if ESTARGZ_DIGEST in descriptor.annotations else None


def read_table(descriptor: Descriptor, read_range: ReadRange, place: str) -> Table:
    """Read and verify the layer's table of contents; `table_form` must have named one.

    Raises DigestMismatch, ArchiveError or MalformedDocument for a table that is not what the annotation promises.
    """
    form = table_form(descriptor)
    read = _read_zstd if form == "zstd:chunked" else _read_estargz
    raw, count = read(descriptor, read_range, f"{place}: table of contents")
    return Table(str(form), _parse(raw, f"{place}: table of contents"), count)


def _read_estargz(descriptor: Descriptor, read_range: ReadRange, place: str) -> tuple[bytes, int]:
    footer = read_range(max(0, descriptor.size - _FOOTER_BYTES), _FOOTER_BYTES)
    offset = _parse_footer(footer, place)
    size = descriptor.size - _FOOTER_BYTES - offset
    if size <= 0:
        raise ArchiveError(f"read {place}: its offset {offset} is beyond the blob's end")
    if size > MAX_TABLE_BYTES:
        raise ArchiveError(f"read {place}: {size} bytes are too many for a table of contents")
    packed = read_range(offset, size)
    raw = _only_member(packed, place)
    _check(raw, descriptor.annotations[ESTARGZ_DIGEST], place)
    return raw, size + _FOOTER_BYTES


def _parse_footer(footer: bytes, place: str) -> int:
    """The table's offset: an empty gzip member's extra field, subfield `SG`."""
    if len(footer) == _FOOTER_BYTES:
        magic, extra, name, length, digits, mark = _FOOTER.unpack(footer)
        fields = (b"\x1f\x8b\x08", 26, b"SG", 22, b"STARGZ")
        if (magic, extra, name, length, mark) == fields and _HEX.fullmatch(digits):
            return int(digits, 16)
    raise ArchiveError(f"read {place}: the layer has no eStargz footer, though its annotation says so")


def _only_member(packed: bytes, place: str) -> bytes:
    """The content of `stargz.index.json` in its own small tar.gz."""
    reader = Decompressed(io.BytesIO(packed), place)
    members = TarReader(iter(lambda: reader.read(CHUNK_BYTES), b""), place, sealed=True, max_members=1)
    for member in members:
        if member.name != _ESTARGZ_NAME or member.size > MAX_TABLE_BYTES:
            raise ArchiveError(f"read {place}: expected {_ESTARGZ_NAME.decode()}, found {member.name[:80]!r}")
        return b"".join(members.content())
    raise ArchiveError(f"read {place}: it is empty")


def _read_zstd(descriptor: Descriptor, read_range: ReadRange, place: str) -> tuple[bytes, int]:
    position = _zstd_note(descriptor, _POSITION)
    found = _PLACE.match(position)
    if found is None or found[4] != _CRFS:
        raise ArchiveError(f"read {place}: the annotation {_POSITION} cannot be read: {position!r}")
    offset, size, raw_size = (int(found[group]) for group in (1, 2, 3))
    if offset + size > descriptor.size or max(size, raw_size) > MAX_TABLE_BYTES:
        raise ArchiveError(f"read {place}: {size} bytes at {offset} cannot be one in {descriptor.size} bytes")
    packed = read_range(offset, size)
    _check(packed, _zstd_note(descriptor, _CHECKSUM), place)
    raw = read_bounded(Decompressed(io.BytesIO(packed), place), raw_size, place)
    return raw, size


def _zstd_note(descriptor: Descriptor, name: str) -> str:
    return next(
        (
            descriptor.annotations[key]
            for key in (f"{prefix}{name}" for prefix in _PREFIXES)
            if key in descriptor.annotations
        ),
        "",
    )


def _check(data: bytes, expected: str, place: str) -> None:
    digest = Digest.parse(expected)
    hasher = digest.hasher()
    hasher.update(data)
    if hasher.hexdigest() != digest.hex:
        raise DigestMismatch(place, expected=expected, actual=f"{digest.algorithm}:{hasher.hexdigest()}")


def _parse(raw: bytes, place: str) -> tuple[Entry, ...]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedDocument(f"{place}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedDocument(f"{place}: expected a JSON object")
    items = jsonio.get_objects(value, "entries", place)
    return tuple(_entry(item, place) for item in items if item.get("type") != "chunk")


def _entry(item: Mapping[str, Any], place: str) -> Entry:
    name = jsonio.get_str(item, "name", place)
    what = f"{place}: {name!r}"
    try:
        kind = Kind(jsonio.get_str(item, "type", what))
    except ValueError as error:
        raise MalformedDocument(f"{what}: type: {item.get('type')!r} is unknown") from error
    numbers = {key: jsonio.get_int({key: 0, **item}, key, what) for key in ("size", "mode", "uid", "gid")}
    link = jsonio.get_str(item, "linkName", what, "")
    is_file = kind is Kind.FILE
    # Some writers leave out the digest of what is empty.
    digest = jsonio.get_str(item, "digest", what, "") if numbers["size"] else EMPTY_DIGEST
    return Entry(
        path=clean_path(name),
        kind=kind,
        size=numbers["size"] if is_file else 0,
        mode=numbers["mode"] & 0o7777,
        uid=numbers["uid"],
        gid=numbers["gid"],
        link=clean_path(link) if kind is Kind.HARD_LINK else link,
        digest=digest if is_file else "",
        xattrs=tuple(sorted(jsonio.get_string_map(item, "xattrs", what).items())),
    )
