"""Sparse files: where a member's data lies between its holes. GNU tar manual, "Storing Sparse Files".

A map is a list of (offset, length) in the expanded file, in bytes; what it does not name is zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from kobuild.errors import ArchiveError
from kobuild.layers import pax
from kobuild.layers.tarheader import BLOCK_BYTES, parse_number

SparseMap = list[tuple[int, int]]
Buffer = bytes | bytearray | memoryview

_ENTRY_BYTES: Final = 24
_MAX_ENTRIES: Final = 1_000_000
_ZEROS: Final = memoryview(bytes(1024 * 1024))


def check_map(entries: SparseMap, stored: int, size: int, place: str) -> None:
    """Raise ArchiveError unless the pieces are in order, apart, inside the file, and as long as what is stored."""
    position = 0
    for offset, length in entries:
        if offset < position or length < 0:
            raise ArchiveError(f"read {place}: its sparse map is out of order")
        position = offset + length
    if position > size or sum(length for _, length in entries) != stored:
        raise ArchiveError(f"read {place}: its sparse map does not fit its size")


def parse_old_gnu(block: bytes, take: Callable[[int], bytes], place: str) -> tuple[SparseMap, int]:
    """The map and the expanded size of an `S` member: in its header, then in blocks of their own (read by `take`)."""
    size = parse_number(block[483:495], "sparse size", place)
    entries = _parse_entries(block[386:482], place)
    more = block[482]
    while more:
        block = take(BLOCK_BYTES)
        entries += _parse_entries(block[:504], place)
        more = block[504]
        _check_count(entries, place)
    return entries, size


def _parse_entries(data: bytes, place: str) -> SparseMap:
    entries: SparseMap = []
    for start in range(0, len(data), _ENTRY_BYTES):
        if not data[start]:
            break  # an unused slot ends the list
        offset = parse_number(data[start : start + 12], "sparse offset", place)
        entries.append((offset, parse_number(data[start + 12 : start + 24], "sparse length", place)))
    return entries


def parse_pax_0(records: Sequence[tuple[bytes, bytes]], place: str) -> SparseMap:
    """The map of formats 0.0 (repeated offset and numbytes records) and 0.1 (one record with commas)."""
    numbers: list[int] = []
    for keyword, value in records:
        if keyword in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            numbers.append(pax.parse_integer(value, keyword.decode(), place))
        elif keyword == b"GNU.sparse.map" and value:
            numbers = [pax.parse_integer(part, keyword.decode(), place) for part in value.split(b",")]
    return _pair_up(numbers, place)


def parse_pax_1(take: Callable[[int], bytes], place: str) -> SparseMap:
    """The map of format 1.0, which stands before the data, one number a line."""
    text = bytearray()
    lines = 0
    wanted: int | None = None
    while wanted is None or lines < wanted:
        if wanted is None and text:
            raise ArchiveError(f"read {place}: its sparse map does not start with a number")
        block = take(BLOCK_BYTES)
        text += block
        lines += block.count(b"\n")
        if wanted is None and lines:
            count = pax.parse_integer(bytes(text[: text.index(b"\n")]), "GNU.sparse.map", place)
            if count > _MAX_ENTRIES:
                raise ArchiveError(f"read {place}: its sparse map has too many pieces")
            wanted = 1 + 2 * count
    numbers = [pax.parse_integer(line, "GNU.sparse.map", place) for line in bytes(text).split(b"\n")[1:wanted]]
    return _pair_up(numbers, place)


def _pair_up(numbers: list[int], place: str) -> SparseMap:
    if len(numbers) % 2:
        raise ArchiveError(f"read {place}: its sparse map has an odd number of parts")
    entries = list(zip(numbers[::2], numbers[1::2], strict=True))
    _check_count(entries, place)
    return entries


def _check_count(entries: SparseMap, place: str) -> None:
    if len(entries) > _MAX_ENTRIES:
        raise ArchiveError(f"read {place}: its sparse map has too many pieces")


def is_pax_sparse(records: Mapping[bytes, bytes]) -> bool:
    """Whether the records describe a sparse file in any of the pax formats."""
    return b"GNU.sparse.major" in records or b"GNU.sparse.map" in records or b"GNU.sparse.size" in records


def expand(entries: SparseMap, size: int, read: Callable[[int], Iterator[Buffer]]) -> Iterator[Buffer]:
    """The whole file: `read` gives the stored bytes piece by piece, zeros fill the rest."""
    position = 0
    for offset, length in entries:
        yield from _zeros(offset - position)
        yield from read(length)
        position = offset + length
    yield from _zeros(size - position)


def _zeros(count: int) -> Iterator[Buffer]:
    while count > 0:
        piece = _ZEROS[:count]
        yield piece
        count -= len(piece)
