"""The members that an eStargz layer puts first, with what they need: their directories, and their links' targets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from kobuild.layers.indexed import open_spool
from kobuild.layers.members import DIRECTORY, HARD_LINK, Member
from kobuild.layers.names import compile_glob
from kobuild.layers.placement import Placed
from kobuild.layers.sparse import Buffer
from kobuild.streams import CHUNK_BYTES

PlacedStream = Callable[[ExitStack], Iterator[tuple[Placed, Iterator[Buffer]]]]
"""A fresh pass over the archive: every placed member with its content."""


@dataclass(slots=True)
class Kept:
    """A prioritized member, its content in the spool."""

    member: Member
    offset: int


class Prioritized:
    """The members that `patterns` (image paths, in order of urgency) name, kept aside in a temporary file.

    `moved` says where directories really are, as a plan has it: who asks for `/bin/x` means what is found there.
    """

    def __init__(self, patterns: Sequence[str], moved: Sequence[tuple[str, str]], stack: ExitStack) -> None:
        self._expressions = [compile_glob(path) for pattern in patterns for path in _places(pattern, moved)]
        self._spool = stack.enter_context(open_spool())
        self._targets: set[bytes] = set()
        self._folders: dict[bytes, Kept] = {}
        self._kept: dict[bytes, Kept] = {}
        self.names: frozenset[bytes] = frozenset()
        """The image names of the members kept aside, once collected."""

    def collect(self, open_stream: PlacedStream) -> None:
        """Keep them aside; goes over the archive again as long as a link's target turns out to be needed, too."""
        while True:
            missing = self._collect_once(open_stream)
            if not missing:
                break
            self._targets |= missing
        order = self._order()
        self.names = frozenset(kept.member.name for kept in order)
        self._sequence = order

    def members(self) -> Iterator[tuple[Member, Iterator[Buffer]]]:
        """The members in order, each after its directories and its link's target."""
        for kept in self._sequence:
            yield kept.member, self._read(kept)

    def _collect_once(self, open_stream: PlacedStream) -> set[bytes]:
        self._spool.seek(0)
        self._spool.truncate()
        self._folders.clear()
        self._kept.clear()
        missing: set[bytes] = set()
        with ExitStack() as stack:
            for placed, content in open_stream(stack):
                member = placed.member
                if member.kind == DIRECTORY:
                    self._folders[member.name] = Kept(member, 0)
                if not self._wants(member.name):
                    continue
                self._kept[member.name] = Kept(member, self._spool.tell())
                if member.size:
                    for piece in content:
                        self._spool.write(piece)
                if member.kind == HARD_LINK and member.link not in self._kept:
                    missing.add(member.link)
        return missing

    def _wants(self, name: bytes) -> bool:
        return name in self._targets or any(expression.match(name) for expression in self._expressions)

    def _order(self) -> list[Kept]:
        order: dict[bytes, Kept] = {}
        for expression in self._expressions:
            for name, kept in self._kept.items():
                if expression.match(name):
                    self._append(name, kept, order)
        return list(order.values())

    def _append(self, name: bytes, kept: Kept, order: dict[bytes, Kept]) -> None:
        parts = name.split(b"/")
        for count in range(1, len(parts)):
            folder = b"/".join(parts[:count])
            if folder in self._folders:
                order.setdefault(folder, self._folders[folder])
        if kept.member.kind == HARD_LINK and kept.member.link not in order:
            self._append(kept.member.link, self._kept[kept.member.link], order)
        order.setdefault(name, kept)

    def _read(self, kept: Kept) -> Iterator[Buffer]:
        position, left = kept.offset, kept.member.size
        while left > 0:
            self._spool.seek(position)
            data = self._spool.read(min(left, CHUNK_BYTES))
            position += len(data)
            left -= len(data)
            yield data


def _places(pattern: str, moved: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The pattern as it is, and with each moved directory that its first parts name replaced by the place it is in."""
    parts = pattern.strip("/").split("/")
    yield "/".join(parts)
    for path, place in moved:
        count = path.count("/") + 1
        head = "/".join(parts[:count])
        if "**" not in head and compile_glob(head).fullmatch(os.fsencode(path)):
            yield "/".join([*(_escape(part) for part in place.split("/") if part), *parts[count:]])


def _escape(part: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", part)
