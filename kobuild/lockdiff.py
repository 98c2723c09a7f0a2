"""What differs between two locks, in a person's words."""

from __future__ import annotations

from kobuild.frozen import frozen
from kobuild.lock import Lock, LockedBase, LockedTool
from kobuild.oci.digest import Digest


@frozen
class Change:
    """One difference; `old` or `new` is empty where there is nothing."""

    subject: str
    """A tool's name, or `base`."""
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.old or '(none)'} → {self.new or '(none)'}"


def compare(old: Lock | None, new: Lock) -> tuple[Change, ...]:
    """The differences: the base first, then tools by name."""
    before = old or Lock()
    names = sorted({*before.tools, *new.tools})
    tools = (_tool_change(name, before.tools.get(name), new.tools.get(name)) for name in names)
    return tuple(change for change in (_base_change(before.base, new.base), *tools) if change is not None)


def _base_change(old: LockedBase | None, new: LockedBase | None) -> Change | None:
    if old == new:
        return None
    before, after = _base_words(old), _base_words(new)
    if before == after and old is not None and new is not None:
        before, after = (", ".join(map(str, sorted(base.platforms))) for base in (old, new))
    return Change("base", before, after)


def _base_words(base: LockedBase | None) -> str:
    return f"{base.name} {Digest.parse(base.digest).short}" if base is not None else ""


def _tool_change(name: str, old: LockedTool | None, new: LockedTool | None) -> Change | None:
    if old == new:
        return None
    if old is None or new is None:
        return Change(name, _words(old), _words(new))
    for before, after in zip(_facets(old), _facets(new), strict=True):
        if before != after:
            return Change(name, before, after)
    return Change(name, *map(_rest, (old, new)))


def _rest(tool: LockedTool) -> str:
    """What seldom differs alone."""
    files = (
        f"{item.filename} of {item.size} bytes, sha256:{item.sha256}" for _, item in sorted(tool.artifacts.items())
    )
    return f"settings {tool.fingerprint}; {'; '.join(files)}"


def _words(tool: LockedTool | None) -> str:
    return (tool.version or "unversioned") if tool is not None else ""


def _facets(tool: LockedTool) -> tuple[str, ...]:
    """What may differ, the most telling first."""
    files = sorted(tool.artifacts.items())
    return (
        _words(tool),
        f"{_words(tool)} from {tool.source}",
        f"{_words(tool)} for {', '.join(str(platform) for platform, _ in files)}",
        ", ".join(f"{artifact.filename} sha256:{artifact.sha256[:12]}" for _, artifact in files),
        ", ".join(f"{artifact.url} ({artifact.vouched_by})" for _, artifact in files),
        ", ".join(f"{artifact.filename} proven by {', '.join(artifact.proofs) or 'nothing'}" for _, artifact in files),
        f"{_words(tool)} under {tool.license or 'an unknown licence'}",
        f"{_words(tool)} pinned as {tool.requirement!r}",
    )
