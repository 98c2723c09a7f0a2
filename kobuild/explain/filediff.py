"""Files added, changed and removed between two overlays; what does not differ costs nothing but a look."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

from kobuild.explain.overlay import Overlay
from kobuild.frozen import frozen
from kobuild.layers.entries import Entry


class Change(str, Enum):
    """What became of a file."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@frozen
class FileChange:
    """One file that differs."""

    path: str
    change: Change
    old: Entry | None
    """None where it was added, or where it lies in a layer that both images share."""
    new: Entry | None
    what: tuple[str, ...] = ()
    """Of a changed file: `type`, `content`, `mode`, `owner`, `link`, `xattrs`."""

    @property
    def growth(self) -> int:
        """Bytes of content that it adds; negative where it got smaller."""
        return (self.new.size if self.new else 0) - (self.old.size if self.old else 0)

    def to_json(self) -> dict[str, Any]:
        """The change for machines."""
        value: dict[str, Any] = {"path": f"/{self.path}", "change": self.change.value}
        if self.what:
            value["what"] = list(self.what)
        value["old_size"] = self.old.size if self.old else None
        value["new_size"] = self.new.size if self.new else None
        return value


def compare_files(old: Overlay, new: Overlay) -> tuple[FileChange, ...]:
    """Every path that differs, sorted.

    Modification times are no difference: they change with every release and mean nothing to a program.
    """
    return (*_changes(old, new), *_emptied(old, new))


def _changes(old: Overlay, new: Overlay) -> Iterator[FileChange]:
    for path in sorted({*old.files, *new.files, *old.removed, *new.removed}):
        before, after = old.files.get(path), new.files.get(path)
        if before is not None and after is not None:
            what = tuple(_differences(before, after))
            if what:
                yield FileChange(path, Change.CHANGED, before, after, what)
        elif before is not None:
            yield FileChange(path, Change.REMOVED, before, None)
        elif after is not None:
            yield FileChange(path, Change.ADDED, None, after)
        elif path in new.removed and path not in old.removed:
            yield FileChange(path, Change.REMOVED, None, None)
        elif path in old.removed and path not in new.removed:
            yield FileChange(path, Change.ADDED, None, None)


def _emptied(old: Overlay, new: Overlay) -> Iterator[FileChange]:
    """Directories of which only one side hides all that lies below its layers."""
    for path in sorted(old.opaque ^ new.opaque):
        change = Change.REMOVED if path in new.opaque else Change.ADDED
        yield FileChange(f"{path}/*".lstrip("/"), change, None, None)


_SIMPLE: Final = (("type", "kind"), ("mode", "mode"), ("link", "link"), ("xattrs", "xattrs"))


def _differences(before: Entry, after: Entry) -> Iterator[str]:
    for word, name in _SIMPLE:
        if getattr(before, name) != getattr(after, name):
            yield word
    if (before.uid, before.gid) != (after.uid, after.gid):
        yield "owner"
    if before.kind is after.kind and _content(before) != _content(after):
        yield "content"


def _content(entry: Entry) -> tuple[int, str]:
    return entry.size, entry.digest
