"""The tar header block, read in all its dialects and written as POSIX ustar.

Read: v7, POSIX ustar, GNU (base-256 numbers, no prefix). Written: ustar, with a pax extended header before it only
where ustar cannot say it. POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import functools
import struct
import zlib
from typing import Final

from kobuild.errors import ArchiveError
from kobuild.layers import pax
from kobuild.layers.members import DIRECTORY, Member, show

BLOCK_BYTES: Final = 512
ZERO_BLOCK: Final = bytes(BLOCK_BYTES)

_USTAR: Final = b"ustar\x0000"
_GNU: Final = b"ustar  \0"
# Whole archives share a few owners, kinds and devices: those fields are parsed and formatted once and remembered.
_OWNER_LAYOUT: Final = struct.Struct("8s8s8s")
_REST_LAYOUT: Final = struct.Struct("1s100s8s32s32s8s8s155s12x")
"""From the kind on."""
_NAME_END: Final = 100
_SIZE_START: Final = 124
_MTIME_START: Final = 136
_SUM_START: Final = 148
_KIND_START: Final = 156
_ENDS_OF_NUMBERS: Final = b" \0"
_BLANKS: Final = b" " * 8
_MAX_OCTAL_7: Final = 8**7
_MAX_OCTAL_11: Final = 8**11
_SHORT_PARTS: Final = 100
_PREFIX_PART: Final = 155


def padding(size: int) -> int:
    """How many bytes fill the last block of `size` content bytes."""
    return -size % BLOCK_BYTES


def is_header(block: bytes) -> bool:
    """Whether the block is a tar header: its checksum is right, summed unsigned or, as some old writers did, signed."""
    if len(block) != BLOCK_BYTES:
        return False
    expected = _sum_with(block[148:156])
    # Adler-32's low half is one more than the sum of up to 256 bytes, and much faster.
    total = (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2
    if total == expected:
        return True
    high = sum(1 for byte in block[:148] + block[156:] if byte >= 128)
    return expected is not None and total - 256 * high == expected


@functools.lru_cache(maxsize=4096)
def _sum_with(checksum: bytes) -> int | None:
    """What a block's bytes add up to where this is its right checksum field, which counts as blanks; None for none."""
    digits = checksum.split(b"\0", 1)[0].strip(b" ")
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        return None
    return int(digits, 8) + sum(checksum) - sum(_BLANKS)


def looks_like_header(block: bytes) -> bool:
    """Whether the block says that it is a tar header, right checksum or not."""
    return block[257:262] == b"ustar"


def parse_number(field: bytes, what: str, place: str) -> int:
    """An octal number, or GNU's base-256 where the first byte's high bit is set; raises ArchiveError for neither."""
    if field[0] & 0x80:
        return _parse_base_256(field)
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise ArchiveError(f"read {place}: the {what} in the header is not an octal number: {digits!r}")
    return int(digits, 8)


def _parse_base_256(field: bytes) -> int:
    value = int.from_bytes(field, "big")
    bits = 8 * len(field)
    if field[0] & 0x40:
        return value - (1 << bits)  # two's complement: the marker is part of the sign
    return value & ~(0x80 << (bits - 8))


def parse_header(block: bytes, place: str) -> Member:
    """The member that a header block with a right checksum describes; names and sizes as in this block alone."""
    name = block[:_NAME_END].split(b"\0", 1)[0]
    common = _parse_common(block[_NAME_END:_SIZE_START], block[_KIND_START:], place)
    mode, uid, gid, kind, link, uname, gname, prefix, device = common
    if prefix:
        name = prefix + name
    size = _parse_size(block[_SIZE_START:_MTIME_START], place)
    if size < 0:
        raise ArchiveError(f"read {place}: the size in the header of {show(name)} is negative")
    mtime = _parse_time(block[_MTIME_START:_SUM_START], place)
    return Member(name, kind, mode, size, mtime, uid, gid, link, uname, gname, device)


def _parse_size(field: bytes, place: str) -> int:
    if field[:11].isdigit() and field[11] in _ENDS_OF_NUMBERS:
        try:
            return int(field[:11], 8)
        except ValueError:
            pass
    return parse_number(field, "size", place)


@functools.lru_cache(maxsize=256)
def _parse_common(
    owner: bytes, rest: bytes, place: str
) -> tuple[int, int, int, bytes, bytes, bytes, bytes, bytes, tuple[int, int]]:
    """Mode, uid, gid, kind, link, uname, gname, prefix (with its slash) and device, of all but what is a file's own."""
    mode, uid, gid = (
        parse_number(field, what, place)
        for field, what in zip(_OWNER_LAYOUT.unpack(owner), ("mode", "uid", "gid"), strict=True)
    )
    if uid < 0 or gid < 0:
        raise ArchiveError(f"read {place}: an owner in a header is negative")
    kind, link, magic, uname, gname, major, minor, prefix = _REST_LAYOUT.unpack(rest)
    if magic[:5] != b"ustar":  # v7 has none of what follows
        uname = gname = prefix = b""
    elif magic == _GNU:  # which has another use for the prefix
        prefix = b""
    device = (_parse_device(major, place), _parse_device(minor, place)) if kind in b"34" else (0, 0)
    link, uname, gname, prefix = (field.split(b"\0", 1)[0] for field in (link, uname, gname, prefix))
    return mode & 0o7777, uid, gid, kind, link, uname, gname, prefix and prefix + b"/", device


@functools.lru_cache(maxsize=256)
def _parse_time(field: bytes, place: str) -> int:
    return parse_number(field, "mtime", place)


def _parse_device(field: bytes, place: str) -> int:
    number = parse_number(field, "device number", place)
    if not 0 <= number < _MAX_OCTAL_7:
        raise ArchiveError(f"read {place}: the device number {number} is out of range")
    return number


def encode_header(member: Member) -> bytes:
    """The member's header blocks: one of ustar, after a pax header where a field needs it. No `mtime` is 1970."""
    name = member.name + b"/" if member.kind == DIRECTORY else member.name
    prefix = b""
    records: list[tuple[bytes, bytes]] | None = None
    if len(name) > _SHORT_PARTS:
        split = _split_name(name)
        if split is None:
            records = [(b"path", name)]
            name = name[:_SHORT_PARTS]
        else:
            prefix, name = split
    mtime = member.mtime or 0
    if (
        member.records
        or len(member.link) > _SHORT_PARTS
        or member.size >= _MAX_OCTAL_11
        or not 0 <= mtime < _MAX_OCTAL_11
        or member.uid >= _MAX_OCTAL_7
        or member.gid >= _MAX_OCTAL_7
        or len(member.uname) > 31
        or len(member.gname) > 31
    ):
        records = (records or []) + _extra_records(member, mtime)
    block = _encode_block(member, name, prefix, mtime)
    return block if records is None else _encode_extended(member.name, records) + block


def _split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name, parted at a slash so that both fit; None where they cannot."""
    slash = name.find(b"/", max(1, len(name) - _SHORT_PARTS - 1), len(name) - 1)
    return None if slash < 0 or slash > _PREFIX_PART else (name[:slash], name[slash + 1 :])


def _extra_records(member: Member, mtime: int) -> list[tuple[bytes, bytes]]:
    kept = member.records or {}
    records: list[tuple[bytes, bytes]] = []
    if len(member.link) > _SHORT_PARTS:
        records.append((b"linkpath", member.link))
    if member.size >= _MAX_OCTAL_11:
        records.append((b"size", b"%d" % member.size))
    if not 0 <= mtime < _MAX_OCTAL_11 and b"mtime" not in kept:
        records.append((b"mtime", b"%d" % mtime))
    for keyword, number in ((b"uid", member.uid), (b"gid", member.gid)):
        if number >= _MAX_OCTAL_7:
            records.append((keyword, b"%d" % number))
    for keyword, text in ((b"uname", member.uname), (b"gname", member.gname)):
        if len(text) > 31:
            records.append((keyword, text))
    records.extend(kept.items())
    return records


def _encode_extended(name: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    """A pax extended header and its content; its own name is only a label for readers that do not know pax."""
    content = pax.format_records(records)
    label = b"PaxHeaders/" + name.rpartition(b"/")[2][:80]
    holder = Member(label, b"x", 0o644, size=len(content))
    return _encode_block(holder, label, b"", 0) + content + bytes(padding(len(content)))


def _encode_block(member: Member, name: bytes, prefix: bytes, mtime: int) -> bytes:
    """One ustar block. A number too large for its field is written as zero: a pax record holds it."""
    numbers = b"%011o\0%011o\0" % (
        member.size if member.size < _MAX_OCTAL_11 else 0,
        mtime if 0 <= mtime < _MAX_OCTAL_11 else 0,
    )
    owner, owner_sum = _format_owner(member.mode, member.uid, member.gid)
    rest, rest_sum = _format_rest(member.kind, member.link, (member.uname, member.gname), member.device, prefix)
    total = (zlib.adler32(name) & 0xFFFF) + owner_sum + (zlib.adler32(numbers) & 0xFFFF) + rest_sum - 2  # as is_header
    return b"".join((name.ljust(_NAME_END, b"\0"), owner, numbers, b"%06o\0 " % total, rest))


@functools.lru_cache(maxsize=256)
def _format_owner(mode: int, uid: int, gid: int) -> tuple[bytes, int]:
    """The fields, and what their bytes add up to."""
    uid = uid if uid < _MAX_OCTAL_7 else 0
    gid = gid if gid < _MAX_OCTAL_7 else 0
    fields = b"%07o\0%07o\0%07o\0" % (mode, uid, gid)
    return fields, sum(fields)


@functools.lru_cache(maxsize=256)
def _format_rest(
    kind: bytes, link: bytes, names: tuple[bytes, bytes], device: tuple[int, int], prefix: bytes
) -> tuple[bytes, int]:
    """The fields from the kind on, and what their bytes and a blank checksum add up to."""
    uname, gname = names
    numbers = (b"%07o" % device[0], b"%07o" % device[1])
    fields = _REST_LAYOUT.pack(kind, link[:_SHORT_PARTS], _USTAR, uname[:31], gname[:31], *numbers, prefix)
    return fields, sum(fields) + sum(_BLANKS)
