"""The central directory of a zip file, one entry at a time. PKWARE APPNOTE 6.3.10, sections 4.3.12 to 4.5.3.

The directory alone says what a zip holds: local headers may leave out sizes and sums. Entries are read as they come,
so that an archive of any number of members takes the same memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from kobuild.errors import ArchiveError, TruncatedArchive
from kobuild.frozen import frozen
from kobuild.layers.members import show

STORED: Final = 0
DEFLATED: Final = 8

_END: Final = struct.Struct("<4s4H2LH")
_END64_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_WINDOW_BYTES: Final = 256 * 1024
_MAX_COMMENT: Final = 65535
_FULL_32: Final = 0xFFFFFFFF
_ZIP64_EXTRA: Final = 1
_UNICODE_PATH_EXTRA: Final = 0x7075


@frozen
class ZipEntry:
    """One entry of the central directory."""

    name: bytes
    """UTF-8 where the flag says so or an extra field gives it, else the bytes as stored."""
    system: int
    """Which system made it: 3 is Unix, 19 is macOS."""
    flags: int
    method: int
    time: tuple[int, int]
    """MS-DOS date and time, as stored."""
    crc: int
    compressed_size: int
    size: int
    attributes: int
    offset: int
    """Of the local header, in bytes from the start of the archive."""


def read_directory(file: BinaryIO, place: str) -> Iterator[ZipEntry]:
    """The entries in the directory's order; raises TruncatedArchive or ArchiveError."""
    count, start, shift = _find_directory(file, place)
    file.seek(start)
    position = start
    for _ in range(count):
        file.seek(position)
        fixed = file.read(_ENTRY.size)
        if len(fixed) < _ENTRY.size or fixed[:4] != b"PK\x01\x02":
            raise ArchiveError(f"read {place}: its central directory is damaged")
        fields = _ENTRY.unpack(fixed)
        lengths = fields[10:13]
        rest = file.read(sum(lengths))
        if len(rest) < sum(lengths):
            raise TruncatedArchive(f"read {place}: its central directory is cut short")
        position += _ENTRY.size + len(rest)
        yield _make_entry(fields, rest, shift, place)


def _make_entry(fields: tuple[int, ...], rest: bytes, shift: int, place: str) -> ZipEntry:
    _, made_by, _, flags, method, time, date, crc, packed, size, name_length, extra_length, *more = fields
    _, _, _, attributes, offset = more
    name = rest[:name_length]
    extra = _parse_extra(rest[name_length : name_length + extra_length])
    values = [size, packed, offset]
    wide = extra.get(_ZIP64_EXTRA, b"")
    for index, value in enumerate(values):
        if value == _FULL_32 and _ZIP64_EXTRA in extra:
            if len(wide) < 8:
                raise ArchiveError(f"read {place}: the zip64 sizes of {show(name)} are missing")
            values[index] = int.from_bytes(wide[:8], "little")
            wide = wide[8:]
    unicode_name = extra.get(_UNICODE_PATH_EXTRA, b"")[5:]
    return ZipEntry(
        name=unicode_name or name,
        system=made_by >> 8,
        flags=flags,
        method=method,
        time=(date, time),
        crc=crc,
        compressed_size=values[1],
        size=values[0],
        attributes=attributes,
        offset=values[2] + shift,
    )


def _parse_extra(data: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    position = 0
    while position + 4 <= len(data):
        kind, length = struct.unpack_from("<HH", data, position)
        fields.setdefault(kind, data[position + 4 : position + 4 + length])
        position += 4 + length
    return fields


def _find_directory(file: BinaryIO, place: str) -> tuple[int, int, int]:
    """How many entries, where the directory starts, and by how much offsets are shifted by bytes put before the zip."""
    size = file.seek(0, 2)
    tail_start = max(0, size - _END.size - _MAX_COMMENT)
    file.seek(tail_start)
    tail = file.read(_END.size + _MAX_COMMENT)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) - found < _END.size:
        raise TruncatedArchive(f"read {place}: the zip has no end of its central directory", hint="fetch it again")
    _, disk, _, here, count, length, offset, comment = _END.unpack_from(tail, found)
    if found + _END.size + comment != len(tail):
        raise ArchiveError(f"read {place}: there is data after the end of the zip, or its comment is cut short")
    end = tail_start + found
    if found >= _END64_LOCATOR.size and tail[found - _END64_LOCATOR.size :].startswith(b"PK\x06\x07"):
        _, _, end64, _ = _END64_LOCATOR.unpack_from(tail, found - _END64_LOCATOR.size)
        file.seek(min(end64, size))
        data = file.read(_END64.size)
        if len(data) < _END64.size or data[:4] != b"PK\x06\x06":
            raise ArchiveError(f"read {place}: its zip64 end record is damaged")
        _, _, _, _, disk, _, here, count, length, offset = _END64.unpack(data)
        end = end64
    if disk or here != count:
        raise ArchiveError(f"read {place}: it is one part of a zip of several disks")
    start = end - length
    if start < offset:
        raise ArchiveError(f"read {place}: its central directory lies outside the file")
    return count, start, start - offset


class Window:
    """A file read at any place, by large pieces: members mostly follow each other, and calls to the system cost."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._start = 0
        self._data = b""

    def read(self, position: int, count: int) -> bytes:
        """At most `count` bytes from `position`, at most a window's worth; empty only at the end of the file."""
        offset = position - self._start
        if offset < 0 or offset + count > len(self._data):
            self._data = os.pread(self._descriptor, _WINDOW_BYTES, position)
            self._start, offset = position, 0
        return self._data[offset : offset + count]


def find_content(window: Window, entry: ZipEntry, place: str) -> int:
    """Where the entry's content starts: after its local header, of which only the lengths count."""
    fixed = window.read(entry.offset, _LOCAL.size)
    if len(fixed) < _LOCAL.size or fixed[:4] != b"PK\x03\x04":
        raise ArchiveError(f"read {place}: its local header is damaged")
    *_, name_length, extra_length = _LOCAL.unpack(fixed)
    return entry.offset + _LOCAL.size + int(name_length) + int(extra_length)
