"""The files of a layer as values, whether a tar or a table of contents told of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

WHITEOUT: Final = ".wh."
"""What a name begins with that takes a file of lower layers away: image-spec, layer.md, "Whiteouts"."""
OPAQUE: Final = ".wh..wh..opq"
"""The name that takes all away that lower layers have in its directory."""
EMPTY_DIGEST: Final = f"sha256:{hashlib.sha256().hexdigest()}"
"""Of a file with no content."""
_INDEX_FILES: Final = frozenset({"stargz.index.json", ".prefetch.landmark", ".no.prefetch.landmark"})


class Kind(str, Enum):
    """What an entry is, in the words of eStargz's table of contents."""

    FILE = "reg"
    DIRECTORY = "dir"
    SYMLINK = "symlink"
    HARD_LINK = "hardlink"
    CHARACTER = "char"
    BLOCK = "block"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer."""

    path: str
    """No slash at either end; the root itself is empty. Bytes that are not UTF-8 stand as surrogate escapes."""
    kind: Kind
    size: int = 0
    """Of the content, in bytes."""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    link: str = ""
    """A symlink's target as it stands; a hard link's as a path."""
    digest: str = ""
    """`sha256:…` of a regular file's content; empty where it was not asked for."""
    xattrs: tuple[tuple[str, str], ...] = ()
    """Extended attributes, sorted; values in base64."""

    def to_json(self) -> dict[str, Any]:
        """The entry for machines; what is empty is left out."""
        value: dict[str, Any] = {"path": f"/{self.path}", "type": self.kind.value, "size": self.size}
        value |= {"mode": f"{self.mode:04o}", "uid": self.uid, "gid": self.gid}
        if self.link:
            value["link"] = self.link
        if self.digest:
            value["digest"] = self.digest
        if self.xattrs:
            value["xattrs"] = dict(self.xattrs)
        return value


@dataclass(frozen=True, slots=True)
class LayerListing:
    """What one layer holds."""

    entries: tuple[Entry, ...]
    """In the layer's order, whiteouts left out."""
    removed: tuple[str, ...] = ()
    """Paths of lower layers that it takes away."""
    opaque: tuple[str, ...] = ()
    """Directories of which it takes away all that lower layers have in them."""
    bytes_read: int = 0
    """How much of the blob was read for this."""

    @property
    def size(self) -> int:
        """Bytes of content."""
        return sum(entry.size for entry in self.entries)


def clean_path(name: str) -> str:
    """`./usr//bin/` → `usr/bin`."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def is_index_file(path: str) -> bool:
    """Whether the path is one of eStargz's own, which no container sees."""
    return path in _INDEX_FILES


def sort_out(entries: list[Entry], *, bytes_read: int) -> LayerListing:
    """Part whiteouts from files, and leave out what belongs to the layer's format."""
    kept: list[Entry] = []
    removed: list[str] = []
    opaque: list[str] = []
    for entry in entries:
        folder, _, name = entry.path.rpartition("/")
        if name == OPAQUE:
            opaque.append(folder)
        elif name.startswith(WHITEOUT):
            removed.append(clean_path(f"{folder}/{name[len(WHITEOUT) :]}"))
        elif not is_index_file(entry.path):
            kept.append(entry)
    return LayerListing(tuple(kept), tuple(removed), tuple(opaque), bytes_read)


def printable(text: str) -> str:
    """A text from outside for a terminal: control characters, undecodable bytes and lone surrogates are escaped."""
    return (
        text if text.isprintable() else "".join(letter if letter.isprintable() else _escape(letter) for letter in text)
    )


def _escape(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte that was not UTF-8 (PEP 383)
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()
