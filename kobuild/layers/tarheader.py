"""The tar header block, read in all its dialects and written as POSIX ustar.

Read: v7, POSIX ustar, GNU (base-256 numbers, no prefix). Written: ustar, with a pax extended header before it only
where ustar cannot say it. POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import functools
import re
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
# Mode and owners in one field, and all from the magic to the device numbers in one: whole archives share a few of
# these, so they are parsed and formatted once and remembered.
_LAYOUT: Final = struct.Struct("100s24s12s12s8s1s100s88s155s12x")
_OWNER_LAYOUT: Final = struct.Struct("8s8s8s")
_TAIL_LAYOUT: Final = struct.Struct("8s32s32s8s8s")
_PLAIN_SIZE: Final = re.compile(rb"[0-7]{11}[ \0]")
_BLANKS: Final = b" " * 8
_MAX_OCTAL_7: Final = 8**7
_MAX_OCTAL_11: Final = 8**11
_SHORT_PARTS: Final = 100
_PREFIX_PART: Final = 155


def padding(size: int) -> int:
    """How many bytes fill the last block of `size` content bytes."""
    return -size % BLOCK_BYTES


def _sum_bytes(block: bytes) -> int:
    """The sum of a block's bytes: Adler-32's low half is one more than that, for up to 256 bytes, and much faster."""
    return (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2


def is_header(block: bytes) -> bool:
    """Whether the block is a tar header: its checksum is right, summed unsigned or, as some old writers did, signed."""
    checksum = block[148:156]
    stored = checksum.split(b"\0", 1)[0].strip(b" ")
    if len(block) != BLOCK_BYTES or not stored.isdigit() or b"8" in stored or b"9" in stored:
        return False
    expected = int(stored, 8)
    total = _sum_bytes(block) - sum(checksum) + sum(_BLANKS)
    if total == expected:
        return True
    high = sum(1 for byte in block[:148] + block[156:] if byte >= 128)
    return total - 256 * high == expected


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
    name, owner, size_field, mtime, _, kind, link, tail, prefix = _LAYOUT.unpack(block)
    name = name.split(b"\0", 1)[0]
    mode, uid, gid = _parse_owner(owner, place)
    has_prefix, uname, gname = _parse_tail(tail)
    if has_prefix and prefix[0]:
        name = prefix.split(b"\0", 1)[0] + b"/" + name
    size = int(size_field[:11], 8) if _PLAIN_SIZE.match(size_field) else parse_number(size_field, "size", place)
    if size < 0:
        raise ArchiveError(f"read {place}: the size in the header of {show(name)} is negative")
    member = Member(name, kind, mode, size, _parse_time(mtime, place), uid, gid, link.split(b"\0", 1)[0], uname, gname)
    if kind in b"34":
        member.device = (_parse_device(tail[72:80], place), _parse_device(tail[80:88], place))
    return member


@functools.lru_cache(maxsize=256)
def _parse_owner(field: bytes, place: str) -> tuple[int, int, int]:
    mode, uid, gid = _OWNER_LAYOUT.unpack(field)
    numbers = (parse_number(mode, "mode", place), parse_number(uid, "uid", place), parse_number(gid, "gid", place))
    if numbers[1] < 0 or numbers[2] < 0:
        raise ArchiveError(f"read {place}: an owner in a header is negative")
    return (numbers[0] & 0o7777, *numbers[1:])


@functools.lru_cache(maxsize=256)
def _parse_time(field: bytes, place: str) -> int:
    return parse_number(field, "mtime", place)


@functools.lru_cache(maxsize=256)
def _parse_tail(field: bytes) -> tuple[bool, bytes, bytes]:
    """Whether the prefix field is one, and the owners' names: v7 has none of these, GNU another use for the prefix."""
    magic, uname, gname, _, _ = _TAIL_LAYOUT.unpack(field)
    if magic[:5] != b"ustar":
        return False, b"", b""
    return magic != _GNU, uname.split(b"\0", 1)[0], gname.split(b"\0", 1)[0]


def _parse_device(field: bytes, place: str) -> int:
    number = parse_number(field, "device number", place)
    if not 0 <= number < _MAX_OCTAL_7:
        raise ArchiveError(f"read {place}: the device number {number} is out of range")
    return number


def encode_header(member: Member) -> bytes:
    """The member's header blocks: one of ustar, after a pax header where a field needs it. `mtime` must be set."""
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
    size = member.size
    block = _LAYOUT.pack(
        name,
        _format_owner(member.mode, member.uid, member.gid),
        b"%011o" % (size if size < _MAX_OCTAL_11 else 0),
        b"%011o" % (mtime if 0 <= mtime < _MAX_OCTAL_11 else 0),
        _BLANKS,
        member.kind,
        member.link[:_SHORT_PARTS],
        _format_tail(member.uname, member.gname, member.device),
        prefix,
    )
    return b"%b%06o\0 %b" % (block[:148], _sum_bytes(block), block[156:])


@functools.lru_cache(maxsize=256)
def _format_owner(mode: int, uid: int, gid: int) -> bytes:
    uid = uid if uid < _MAX_OCTAL_7 else 0
    gid = gid if gid < _MAX_OCTAL_7 else 0
    return b"%07o\0%07o\0%07o\0" % (mode, uid, gid)


@functools.lru_cache(maxsize=256)
def _format_tail(uname: bytes, gname: bytes, device: tuple[int, int]) -> bytes:
    return _TAIL_LAYOUT.pack(_USTAR, uname[:31], gname[:31], b"%07o" % device[0], b"%07o" % device[1])
