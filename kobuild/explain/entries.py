"""What one layer holds, and takes away from those below it."""

from __future__ import annotations

from typing import Final

from kobuild.frozen import frozen
from kobuild.layers.entries import Entry, clean_path

WHITEOUT: Final = ".wh."
"""What a name begins with that takes a file of lower layers away: image-spec, layer.md, "Whiteouts"."""
OPAQUE: Final = ".wh..wh..opq"
"""The name that takes all away that lower layers have in its directory."""
_INDEX_FILES: Final = frozenset({"stargz.index.json", ".prefetch.landmark", ".no.prefetch.landmark"})


@frozen
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
