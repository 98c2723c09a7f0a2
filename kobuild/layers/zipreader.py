"""Zip files and wheels as members, in the order of their directory."""

from __future__ import annotations

import calendar
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from kobuild.decompress.decompressors import BROKEN_STREAM, open_inflater
from kobuild.errors import ArchiveError, LimitExceeded, TruncatedArchive
from kobuild.layers.compressing import crc32
from kobuild.layers.magic import SNIFF_BYTES, is_executable
from kobuild.layers.members import DIRECTORY, REGULAR, SYMLINK, Member, show
from kobuild.layers.plan import Limits
from kobuild.layers.sparse import Buffer
from kobuild.layers.zipdirectory import DEFLATED, STORED, Window, ZipEntry, find_content, read_directory

_READ_BYTES: Final = 64 * 1024
_OUTPUT_BYTES: Final = 256 * 1024
_MAX_LINK_BYTES: Final = 4096
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_UNIX_SYSTEMS: Final = frozenset({3, 19})
_DOS_DIRECTORY: Final = 0x10


class ZipReader:
    """Iterating gives the members; `content` gives the bytes of the one last given, checked against its sum."""

    plain = False
    """A zip's members never stand in a layer as they are."""

    def __init__(self, file: BinaryIO, place: str, limits: Limits) -> None:
        self._file = file
        self._window = Window(file)
        self._place = place
        self._limits = limits
        self._pieces: Iterator[Buffer] = iter(())
        self._first: Buffer = b""

    def __iter__(self) -> Iterator[Member]:
        total = 0
        packed = self._file.seek(0, 2)
        for count, entry in enumerate(read_directory(self._file, self._place), 1):
            total += entry.size
            self._check_limits(count, total, packed, entry)
            yield self._open(entry)

    def content(self) -> Iterator[Buffer]:
        """The current member's content."""
        if self._first:
            yield self._first
        yield from self._pieces

    def _check_limits(self, count: int, total: int, packed: int, entry: ZipEntry) -> None:
        limits = self._limits
        beyond = count > limits.members or total > limits.total_bytes
        if beyond or (total > limits.ratio_grace_bytes and total > packed * limits.ratio):
            raise LimitExceeded(
                f"read {self._place}: at member {show(entry.name)} ({count} members, {total} bytes) a limit is passed",
                hint="set max-members, max-size or max-ratio if this archive is to be trusted",
            )

    def _open(self, entry: ZipEntry) -> Member:
        place = f"{self._place}, member {show(entry.name)}"
        name = entry.name.replace(b"\\", b"/") if entry.system not in _UNIX_SYSTEMS else entry.name
        mode = entry.attributes >> 16 if entry.system in _UNIX_SYSTEMS else 0
        self._pieces = self._read(entry, place)
        self._first = b""
        if name.endswith(b"/") or (entry.attributes & _DOS_DIRECTORY and not entry.size) or stat.S_ISDIR(mode):
            kind, link, size, default = DIRECTORY, b"", 0, 0o755
        elif stat.S_ISLNK(mode):
            kind, link, size, default = SYMLINK, self._read_link(entry, place), 0, 0o777
        else:
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise ArchiveError(f"read {place}: it is a device, a fifo or a socket")
            kind, link, size = REGULAR, b"", entry.size
            default = 0 if stat.S_IMODE(mode) else self._guess_mode()
        return Member(name, kind, stat.S_IMODE(mode) or default, size, _parse_time(entry.time), link=link)

    def _guess_mode(self) -> int:
        """0755 for a program, told from its first bytes, else 0644."""
        self._first = next(self._pieces, b"")
        return 0o755 if is_executable(bytes(self._first[:SNIFF_BYTES])) else 0o644

    def _read_link(self, entry: ZipEntry, place: str) -> bytes:
        if entry.size > _MAX_LINK_BYTES:
            raise ArchiveError(f"read {place}: its link target is too long")
        target = b"".join(bytes(piece) for piece in self._pieces)
        self._pieces = iter(())
        return target

    def _read(self, entry: ZipEntry, place: str) -> Iterator[Buffer]:
        """The content, whose size and sum must be what the directory says."""
        crc = count = 0
        for piece in self._unpack(entry, place):
            count += len(piece)
            if count > entry.size:
                break
            crc = crc32(piece, crc)
            yield piece
        if count != entry.size:
            raise ArchiveError(f"read {place}: its size is not {entry.size} bytes, as the directory says")
        if crc != entry.crc:
            raise ArchiveError(f"read {place}: its checksum is wrong", hint="the archive is damaged: fetch it again")

    def _unpack(self, entry: ZipEntry, place: str) -> Iterator[bytes]:
        if entry.flags & _ENCRYPTED:
            raise ArchiveError(f"read {place}: it is encrypted")
        stored = self._read_stored(entry, place)
        if entry.method == STORED or not entry.compressed_size:
            yield from stored
            return
        if entry.method != DEFLATED:
            raise ArchiveError(f"read {place}: its compression method {entry.method} is not supported")
        stream = open_inflater()
        try:
            for data in stored:
                output = stream.decompress(data, _OUTPUT_BYTES)
                while output:
                    yield output
                    if stream.eof or stream.needs_input:
                        break
                    output = stream.decompress(b"", _OUTPUT_BYTES)
                if stream.eof:
                    return
        except BROKEN_STREAM as error:
            raise ArchiveError(f"read {place}: its deflate stream is damaged: {error}") from error
        raise TruncatedArchive(f"read {place}: its deflate stream ends too early")

    def _read_stored(self, entry: ZipEntry, place: str) -> Iterator[bytes]:
        position = find_content(self._window, entry, place)
        left = entry.compressed_size
        while left > 0:
            data = self._window.read(position, min(left, _READ_BYTES))
            if not data:
                raise TruncatedArchive(f"read {place}: the archive ends within it")
            position += len(data)
            left -= len(data)
            yield data


def open_zip(path: Path, place: str) -> BinaryIO:
    """The file, for a ZipReader."""
    try:
        return path.open("rb")
    except OSError as error:
        raise ArchiveError(f"read {place}: {error.strerror}") from error


def _parse_time(date_time: tuple[int, int]) -> int | None:
    """Seconds since 1970 of a DOS date and time, which have no zone and are taken as UTC; None for an unset date."""
    date, time = date_time
    year, month, day = 1980 + (date >> 9), date >> 5 & 0xF, date & 0x1F
    if not 1 <= month <= 12 or day < 1:
        return None
    return calendar.timegm((year, month, day, time >> 11, time >> 5 & 0x3F, (time & 0x1F) * 2, 0, 0, 0))
