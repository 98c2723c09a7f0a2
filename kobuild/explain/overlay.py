"""What several layers come to when they lie on each other: image-spec, layer.md, "Applying Changesets"."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from kobuild.explain.entries import LayerListing
from kobuild.layers.entries import Entry, Kind


@dataclass(slots=True)
class Overlay:
    """The files of some layers, and what they take away from what lies below all of them."""

    files: dict[str, Entry] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    """Paths that are not in `files` and must not be below either."""
    opaque: set[str] = field(default_factory=set)
    """Directories of which nothing below is seen."""

    def add(self, listing: LayerListing) -> None:
        """Lay one more layer on top."""
        replaced = {entry.path for entry in listing.entries if entry.kind is not Kind.DIRECTORY}
        self._drop({*listing.removed, *replaced}, listing.opaque)
        self.removed.update(listing.removed)
        self.opaque.update(listing.opaque)
        for entry in listing.entries:
            self.files[entry.path] = entry
        self.removed.difference_update(entry.path for entry in listing.entries)

    def _drop(self, paths: Collection[str], folders: Collection[str]) -> None:
        """Forget `paths` with all below them, and all below `folders`."""
        if not paths and not folders:
            return
        gone = [
            path
            for path in self.files
            if path in paths or any(parent in paths or parent in folders for parent in parents(path))
        ]
        for path in gone:
            del self.files[path]


def lay(listings: Iterable[LayerListing], *, whole: bool = False) -> Overlay:
    """All layers, the lowest first; `whole` where there is nothing below them to be taken away."""
    overlay = Overlay()
    for listing in listings:
        overlay.add(listing)
    return Overlay(overlay.files) if whole else overlay


def parents(path: str) -> Iterator[str]:
    """`a/b/c` → `a/b`, `a` and the root, which is empty."""
    while path:
        path = path.rpartition("/")[0]
        yield path
