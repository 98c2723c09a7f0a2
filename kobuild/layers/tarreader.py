"""Reading a tar stream member by member, in constant memory, believing nothing that it says.

The reader is strict where a short or damaged archive could pass for a whole one: header checksums must be right, every
member must be complete, and only zeros may follow the end-of-archive blocks. An archive may lack those blocks only when
`sealed`: when it came out of one compressed stream whose own end and checksum were verified, as GNU tar and Go allow
for any. Of several streams in a row the last could be missing. A lone zero block counts as the end, as for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from kobuild.errors import ArchiveError, LimitExceeded, TruncatedArchive, UnsafeMember
from kobuild.layers import pax, sparse
from kobuild.layers.members import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Member, show
from kobuild.layers.sparse import Buffer, SparseMap
from kobuild.layers.tarheader import BLOCK_BYTES, is_header, padding, parse_header

_MAX_EXTENDED_BYTES: Final = 1024 * 1024
"""Of one pax header or long name: Linux allows 64 KiB for an attribute, 4 KiB for a path."""
_FIELD_RECORDS: Final = frozenset({b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname"})
_PLAIN_KINDS: Final = frozenset({b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"\0"})
_KNOWN_KINDS: Final = _PLAIN_KINDS | {b"S"}
_EMPTY_KINDS: Final = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
_LINKS: Final = frozenset({SYMLINK, HARD_LINK})


class TarReader:
    """Iterating gives the members in order; `content` gives the bytes of the one last given, at most once."""

    def __init__(
        self, chunks: Iterator[bytes], place: str, *, sealed: bool | Callable[[], bool], max_members: int
    ) -> None:
        self._chunks = chunks
        self._place = place
        self._sealed = sealed if callable(sealed) else lambda: sealed
        self._max_members = max_members
        self._chunk = b""
        self._view = memoryview(self._chunk)
        self._position = 0
        self._left = 0  # stored bytes of the current member that were not read yet
        self._padding = 0
        self._member: Member | None = None
        self._name = b""  # the member's own: who uses it may rename it
        self._map: SparseMap | None = None
        self._globals: dict[bytes, bytes] = {}
        self.plain = True
        """Whether a layer may hold the archive as it stands, so far: no sparse or global headers, and an end mark."""

    def __iter__(self) -> Iterator[Member]:
        count = 0
        while (member := self._next_member()) is not None:
            count += 1
            if count > self._max_members:
                raise LimitExceeded(
                    f"read {self._place}: more than {self._max_members} members, at {show(member.name)}",
                    hint="set max-members if this archive is to be trusted",
                )
            self._member, self._name = member, member.name
            yield member

    def content(self) -> Iterator[Buffer]:
        """The current member's content, expanded where it is sparse."""
        if self._map is None or self._member is None:
            start, end = self._position, self._position + self._left
            if end > len(self._chunk):
                return self._read(self._left)
            self._position, self._left = end, 0
            return iter((self._view[start:end],))
        return sparse.expand(self._map, self._member.size, self._read)

    def _read(self, count: int) -> Iterator[Buffer]:
        while count > 0:
            if self._position >= len(self._chunk) and not self._fill():
                raise TruncatedArchive(
                    f"read {self._place}: the archive ends within {show(self._name)}, {self._left} bytes short"
                )
            start = self._position
            piece = self._view[start : start + count]
            taken = len(piece)
            self._position = start + taken
            self._left -= taken
            count -= taken
            yield piece

    def _fill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._chunk, self._view = chunk, memoryview(chunk)
                self._position = 0
                return True
        return False

    def _skip_rest(self) -> None:
        total = self._left + self._padding
        self._padding = 0
        if self._position + total <= len(self._chunk):
            self._position += total
            self._left = 0
            return
        self._left = total
        for _ in self._read(total):
            pass

    def _take(self, count: int) -> bytes:
        """Exactly `count` bytes of structure; raises TruncatedArchive."""
        start = self._position
        if start + count <= len(self._chunk):
            self._position = start + count
            return self._chunk[start : start + count]
        data = self._take_up_to(count)
        if len(data) < count:
            raise TruncatedArchive(f"read {self._place}: the archive ends within a header")
        return data

    def _take_up_to(self, count: int) -> bytes:
        parts = []
        while count > 0 and (self._position < len(self._chunk) or self._fill()):
            part = self._chunk[self._position : self._position + count]
            self._position += len(part)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _next_member(self) -> Member | None:
        """The next member with its extended headers applied; None at the end, once that was checked."""
        self._skip_rest()
        block = self._take_block(inside=False)
        if block is None:
            return None
        member = parse_header(block, self._place)
        if self._globals or member.kind not in _PLAIN_KINDS:
            return self._next_extended(member, block)
        return self._settle(member)

    def _next_extended(self, member: Member, block: bytes) -> Member | None:
        """The same, from a first header that may be an extended one."""
        own: list[tuple[bytes, bytes]] = []
        long_name = long_link = None
        awaits_member = False
        while member.kind not in _KNOWN_KINDS:
            kind = member.kind
            awaits_member = awaits_member or kind in b"xXLK"
            if kind in b"xX":
                own += pax.parse_records(self._take_extended(member), self._place)
            elif kind == b"g":
                self._apply_globals(pax.parse_records(self._take_extended(member), self._place))
            elif kind == b"L":
                long_name = self._take_long(member)
            elif kind == b"K":
                long_link = self._take_long(member)
            elif kind == b"V":
                self.plain = False  # a volume label says nothing about files
            else:
                raise ArchiveError(f"read {self._place}: member {show(member.name)} is of unknown kind {show(kind)}")
            following = self._take_block(inside=awaits_member)
            if following is None:
                return None
            block = following
            member = parse_header(block, self._place)
        if long_name is not None:
            member.name = long_name
        if long_link is not None:
            member.link = long_link
        return self._finish(member, block, own)

    def _take_block(self, *, inside: bool) -> bytes | None:
        """The next header block; None at the end of the archive."""
        start = self._position
        if start + BLOCK_BYTES <= len(self._chunk):
            self._position = start + BLOCK_BYTES
            block = self._chunk[start : start + BLOCK_BYTES]
        else:
            block = self._take_up_to(BLOCK_BYTES)
        if is_header(block):
            return block
        if len(block) not in (0, BLOCK_BYTES) or (not block and (inside or not self._sealed())):
            raise TruncatedArchive(f"read {self._place}: the archive ends before its own end mark")
        if not block:
            self.plain = False
        if block.strip(b"\0"):
            raise ArchiveError(
                f"read {self._place}: the checksum of the header after {self._last_name()} is wrong",
                hint="the archive is damaged: fetch it again, or check it with tar",
            )
        if inside:
            raise TruncatedArchive(f"read {self._place}: the archive ends after an extended header")
        self._check_end()
        return None

    def _last_name(self) -> str:
        return show(self._name) if self._member else "the start"

    def _check_end(self) -> None:
        """Read to the end: only zeros may follow the end mark's first block, in any number."""
        following = 0
        while self._position < len(self._chunk) or self._fill():
            rest = self._chunk[self._position :] if self._position else self._chunk
            self._position = len(self._chunk)
            following += len(rest)
            if rest.count(0) != len(rest):
                raise ArchiveError(
                    f"read {self._place}: there is data after the end of the archive",
                    hint="two archives joined into one file must be parted, or packed again",
                )
        if following < BLOCK_BYTES:
            self.plain = False  # some readers insist on both blocks of the end mark

    def _take_extended(self, holder: Member) -> bytes:
        if not 0 <= holder.size <= _MAX_EXTENDED_BYTES:
            raise LimitExceeded(f"read {self._place}: an extended header of {holder.size} bytes is too large")
        data = self._take(holder.size)
        self._take(padding(holder.size))
        return data

    def _take_long(self, holder: Member) -> bytes:
        name = self._take_extended(holder).rstrip(b"\0")
        if b"\0" in name:
            raise UnsafeMember(f"read {self._place}: the long name {show(name)} has a NUL in it")
        return name

    def _apply_globals(self, records: list[tuple[bytes, bytes]]) -> None:
        self.plain = False
        for keyword, value in records:
            if keyword == b"comment":
                continue  # it describes the archive, as git's commit does, and not its members
            if value:
                self._globals[keyword] = value
            else:
                self._globals.pop(keyword, None)

    def _finish(self, member: Member, block: bytes, own: list[tuple[bytes, bytes]]) -> Member:
        """Apply pax records, and open the map of a sparse file."""
        records: dict[bytes, bytes] = {}
        if own or self._globals:
            records = {**self._globals, **dict(own)}
            self._apply_records(member, records)
        is_old_sparse = member.kind == b"S"
        self._settle(member)
        if is_old_sparse or (member.kind == REGULAR and records and sparse.is_pax_sparse(records)):
            self._open_sparse(member, block, own, records)
        return member

    def _settle(self, member: Member) -> Member:
        """Settle the kind, and how much content follows."""
        self._map = None
        kind = member.kind
        if kind in _EMPTY_KINDS:
            member.size = 0  # only regular files have content, whatever the header says
        elif member.name.endswith(b"/") and kind != b"S":
            if member.size:
                raise ArchiveError(f"read {self._place}: the directory {show(member.name)} has content")
            kind = member.kind = DIRECTORY  # how v7 writes directories
        else:
            kind = member.kind = REGULAR
        if kind not in _LINKS:
            member.link = b""
        self._left = member.size
        self._padding = padding(member.size)
        return member

    def _apply_records(self, member: Member, records: Mapping[bytes, bytes]) -> None:
        place = self._place
        for keyword, value in records.items():
            if keyword in (b"path", b"linkpath") and b"\0" in value:
                raise UnsafeMember(f"read {place}: the name {show(value)} has a NUL in it")
        member.name = records.get(b"path") or member.name
        member.link = records.get(b"linkpath") or member.link
        member.uname = records.get(b"uname", member.uname)
        member.gname = records.get(b"gname", member.gname)
        if size := records.get(b"size"):
            member.size = pax.parse_integer(size, "size", place)
        if uid := records.get(b"uid"):
            member.uid = pax.parse_integer(uid, "uid", place)
        if gid := records.get(b"gid"):
            member.gid = pax.parse_integer(gid, "gid", place)
        fraction = False
        if mtime := records.get(b"mtime"):
            member.mtime, fraction = pax.parse_time(mtime, place)
        kept = {
            keyword: value
            for keyword, value in records.items()
            if value
            and keyword not in _FIELD_RECORDS
            and (fraction or keyword != b"mtime")
            and not keyword.startswith(b"GNU.sparse.")
        }
        member.records = kept or None

    def _open_sparse(
        self, member: Member, block: bytes, own: list[tuple[bytes, bytes]], records: Mapping[bytes, bytes]
    ) -> None:
        """Read the map; the member's size becomes the expanded one."""
        self.plain = False
        place = f"{self._place}, member {show(member.name)}"
        member.name = records.get(b"GNU.sparse.name") or member.name
        if block[156:157] == b"S":
            entries, size = sparse.parse_old_gnu(block, self._take, place)
        elif records.get(b"GNU.sparse.major", b"0") == b"0":
            entries, size = sparse.parse_pax_0(own, place), _sparse_size(records, place)
        elif records.get(b"GNU.sparse.major") == b"1":
            entries = sparse.parse_pax_1(self._take_content, place)
            size = _sparse_size(records, place)
        else:
            raise ArchiveError(f"read {place}: its sparse format is unknown")
        sparse.check_map(entries, self._left, size, place)
        self._map = entries
        member.kind = REGULAR
        member.size = size

    def _take_content(self, count: int) -> bytes:
        if count > self._left:
            raise ArchiveError(f"read {self._place}: a sparse map is longer than its member")
        self._left -= count
        return self._take(count)


def _sparse_size(records: Mapping[bytes, bytes], place: str) -> int:
    value = records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size") or b""
    return pax.parse_integer(value, "GNU.sparse.size", place)
