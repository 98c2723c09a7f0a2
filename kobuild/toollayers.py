"""What a tool's layer should hold, and what its tar holds: names under the tool's root, and no others."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Final

from kobuild.errors import Finding
from kobuild.frozen import frozen
from kobuild.layers.estargz import NO_PREFETCH_LANDMARK, PREFETCH_LANDMARK, TOC_NAME
from kobuild.layers.members import show
from kobuild.layers.names import compile_glob
from kobuild.layers.tarreader import TarReader
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Compression

_ESTARGZ_NAMES: Final = frozenset({TOC_NAME, PREFETCH_LANDMARK, NO_PREFETCH_LANDMARK})
_WHITEOUT: Final = re.compile(rb"(?:\A|/)\.wh\.")
_MAX_MEMBERS: Final = 5_000_000
_SHOWN: Final = 3


@frozen
class ToolExpectation:
    """What settings and lock say of one tool's layer."""

    name: str
    """The table under `tools`."""
    root: str
    """Absolute path in the image that all its entries lie under."""
    only: tuple[str, ...] = ()
    """Globs on names in the archive, each of which took something."""
    strip: int = 0
    rename: str = ""
    """The name of a bare binary; empty is the tool's name."""
    compression: Compression = Compression.GZIP
    diff_id: Digest | None = None
    """Of the layer, where it is known from an earlier build of the same recipe."""
    history: str | None = None
    """The line of the image's history that goes with the layer; None does not look."""
    whiteouts: bool = False
    """Whether it may delete files of the base."""
    max_members: int | None = None
    """The bound that the settings raise, if they do."""
    moved: tuple[tuple[str, str], ...] = ()
    """Directories at links of the base, and where those lead: entries stand there instead. No slashes at the ends."""


class Listing:
    """Reads a tool layer's tar, keeping counts and a few names, however long it is."""

    def __init__(self, tool: ToolExpectation, place: str) -> None:
        self._tool = tool
        self._place = place
        root = os.fsencode(tool.root.strip("/"))
        self._prefix = root + b"/" if root else b""
        self._allowed = _ESTARGZ_NAMES if tool.compression is Compression.ESTARGZ else frozenset()
        self._missing = {pattern: compile_glob(rest) for pattern, rest in stripped_patterns(tool.only, tool.strip)}
        self._moved = [
            (os.fsencode(path) + b"/", os.fsencode(place) + b"/" if place else b"") for path, place in tool.moved
        ]
        self._bare = self._prefix + os.fsencode(tool.rename or tool.name)
        self._strays: list[bytes] = []
        self._whiteouts: list[bytes] = []
        self.members = 0
        """Entries under the root."""

    def __call__(self, chunks: Iterator[bytes]) -> None:
        """Look at every entry of the tar in `chunks`; raises ArchiveError where it is no tar."""
        reader = TarReader(chunks, self._place, sealed=True, max_members=max(_MAX_MEMBERS, self._tool.max_members or 0))
        for member in reader:
            name = member.name.rstrip(b"/")
            if name in self._allowed:
                continue
            self.members += 1
            if not self._tool.whiteouts and _WHITEOUT.search(name):
                _note(self._whiteouts, name)
            names = [asked for asked in self._asked_for(name) if asked.startswith(self._prefix)]
            if not names or b".." in name.split(b"/"):
                _note(self._strays, name)
            elif self._missing:
                for asked in names:
                    self._match(asked)

    def _asked_for(self, name: bytes) -> Iterator[bytes]:
        """The name, and those that it had before it was moved to where a link of the base leads."""
        yield name
        for path, place in self._moved:
            if name.startswith(place):
                yield path + name[len(place) :]

    def findings(self) -> Iterator[Finding]:
        """What is wrong with the entries that were seen."""
        remedy = "build the image again from settings and lock"
        if self._strays:
            yield Finding(
                f"{self._place}: names", f"entries under {self._tool.root} alone", _join(self._strays), remedy
            )
        if self._whiteouts:
            found = _join(self._whiteouts)
            yield Finding(f"{self._place}: names", "no whiteouts, which delete the base's files", found, remedy)
        if not self.members:
            yield Finding(f"{self._place}: names", "files", "none", remedy)
        for pattern in self._missing:
            expected = f"a member for {json.dumps(pattern)} of `only`"
            yield Finding(f"{self._place}: names", expected, f"none among {self.members}", remedy)

    def _match(self, name: bytes) -> None:
        if name == self._bare and self.members == 1:
            # A bare binary: `only` chooses among an archive's members, and there was no archive.
            self._missing = {}
            return
        rest = name[len(self._prefix) :]
        for pattern in [pattern for pattern, expression in self._missing.items() if expression.match(rest)]:
            del self._missing[pattern]


def stripped_patterns(patterns: Sequence[str], strip: int) -> Iterator[tuple[str, str]]:
    """Each pattern, and what is left of it on names that `strip` leading parts were dropped from.

    Patterns that this cannot be said of (`**` reaches over any number of parts, and short ones named a folder that is
    dropped) are left out.
    """
    for pattern in patterns:
        parts = pattern.removeprefix("./").strip("/").split("/")
        if strip == 0:
            yield pattern, pattern
        elif len(parts) > strip and not any("**" in part for part in parts[:strip]):
            yield pattern, "/".join(parts[strip:])


def _note(names: list[bytes], name: bytes) -> None:
    if len(names) <= _SHOWN:
        names.append(name)


def _join(names: Sequence[bytes]) -> str:
    more = " and more" if len(names) > _SHOWN else ""
    return ", ".join(show(name) for name in names[:_SHOWN]) + more
