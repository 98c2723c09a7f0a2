"""A difference as a person reads it, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from kobuild.explain.entries import printable
from kobuild.explain.filediff import Change, FileChange
from kobuild.explain.imagediff import Difference, PlatformDiff, ToolChange
from kobuild.explain.imagetree import LayerNode
from kobuild.explain.origins import BaseName
from kobuild.explain.subjects import Subject, ToolState
from kobuild.report import format_size

MARKS: Final = {Change.ADDED: "+", Change.REMOVED: "-", Change.CHANGED: "~"}


def diff_text(diff: Difference, file_count: int) -> str:
    """The difference, with up to `file_count` files of each platform, those that grew or shrank most."""
    lines = [f"--- {_title(diff.old)}", f"+++ {_title(diff.new)}"]
    lines += [f"- platform {platform}" for platform in diff.only_old]
    lines += [f"+ platform {platform}" for platform in diff.only_new]
    for item in diff.platforms:
        lines += _platform(item, file_count, is_named=len(diff.platforms) > 1)
    lines += ["no difference"] if diff.is_empty else []
    return "\n".join(map(printable, lines))


def _title(subject: Subject) -> str:
    return f"{subject.name}  {subject.digest}".rstrip()


def _platform(item: PlatformDiff, file_count: int, *, is_named: bool) -> Iterator[str]:
    if item.is_empty:
        return
    if is_named:
        yield f"{item.platform}:"
    indent = "  " if is_named else ""
    sections = {
        "base": _base(item),
        "tools": [tool_words(change) for change in item.tools],
        "config": [_value(change.key, change.old, change.new) for change in item.config or ()],
        "layers": _layers(item),
        file_summary(item): [file_words(change) for change in most_telling(item.files or (), file_count)],
    }
    for title, lines in sections.items():
        if lines:
            yield f"{indent}{title}"
            yield from (f"{indent}  {line}" for line in lines)


def _base(item: PlatformDiff) -> list[str]:
    if item.base is None:
        return []
    return [f"{mark} {base_words(base)}" for mark, base in zip("-+", item.base, strict=True) if base is not None]


def base_words(base: BaseName | None) -> str:
    """The base with its digest."""
    if base is None:
        return "scratch"
    return f"{base.name}@{base.digest}" if base.digest and "@" not in base.name else base.name


def tool_words(change: ToolChange) -> str:
    """`~ go 1.27.2 → 1.27.3`, or what else became of the tool."""
    if change.old is None:
        return f"+ {change.name} {_version(change.new)}".rstrip()
    if change.new is None:
        return f"- {change.name} {_version(change.old)}".rstrip()
    if change.old.version != change.new.version:
        return f"~ {change.name} {change.old.version} → {change.new.version}"
    if change.old.proof != change.new.proof:
        return f"~ {change.name} {change.old.version} (same version, other content)"
    return f"~ {change.name} {change.old.version}: {proof_words(change.old)} → {proof_words(change.new)}"


def proof_words(state: ToolState) -> str:
    """What was proven of the tool's file."""
    return f"proven by {', '.join(state.proven) or 'nothing'}"


def _version(state: ToolState | None) -> str:
    return state.version if state is not None else ""


def _value(key: str, old: str | None, new: str | None) -> str:
    if old is None:
        return f"+ {key} = {new}"
    if new is None:
        return f"- {key} = {old}"
    return f"~ {key}: {old} → {new}"


def _layers(item: PlatformDiff) -> list[str]:
    if item.layers is None:
        return []
    return [layer_words(mark, layer) for mark, layers in zip("-+", item.layers, strict=True) for layer in layers]


def layer_words(mark: str, layer: LayerNode) -> str:
    """One layer that only one image has."""
    origin = layer.origin
    made_by = f"{origin.tool} {origin.version}".strip() if origin.tool else origin.history or "(no history)"
    return f"{mark} {format_size(layer.descriptor.size)} {layer.descriptor.digest.short} {made_by[:80]}"


def file_summary(item: PlatformDiff) -> str:
    """`files: 3 added, 2 changed, 1 removed, +1.2 MB`."""
    counts = Counter(change.change for change in item.files or ())
    parts = [f"{counts[change]} {change.value}" for change in Change if counts[change]]
    growth = sum(change.growth for change in item.files or ())
    return f"files: {', '.join([*parts, signed_size(growth)])}"


def signed_size(count: int) -> str:
    """`+1.2 MB`, `-30 B`."""
    return f"{'-' if count < 0 else '+'}{format_size(abs(count))}"


def most_telling(files: tuple[FileChange, ...], count: int) -> list[FileChange]:
    """Those whose size changed most, in the order of their paths, and what was left out said by the summary."""
    chosen = sorted(files, key=lambda change: (-abs(change.growth), change.path))[:count]
    return sorted(chosen, key=lambda change: change.path)


def file_words(change: FileChange) -> str:
    """`~ /usr/bin/ko  9.1 MB → 9.4 MB (content, mode)`."""
    sizes = [format_size(entry.size) for entry in (change.old, change.new) if entry is not None]
    if len(set(sizes)) == 1:
        sizes = sizes[:1]
    what = f" ({', '.join(change.what)})" if change.what else ""
    return f"{MARKS[change.change]} /{change.path}  {' → '.join(sizes)}".rstrip() + what


def diff_json(diff: Difference) -> dict[str, Any]:
    """The difference for machines: everything that differs, sizes in bytes."""
    return {
        "old": {"name": diff.old.name, "digest": diff.old.digest or None},
        "new": {"name": diff.new.name, "digest": diff.new.digest or None},
        "different": not diff.is_empty,
        "platforms_removed": [str(item) for item in diff.only_old],
        "platforms_added": [str(item) for item in diff.only_new],
        "platforms": [_platform_json(item) for item in diff.platforms],
    }


def _platform_json(item: PlatformDiff) -> dict[str, Any]:
    old_base, new_base = item.base or (None, None)
    return {
        "platform": str(item.platform),
        "different": not item.is_empty,
        "base": {"old": _base_json(old_base), "new": _base_json(new_base)} if item.base is not None else None,
        "tools": [
            {"name": change.name, "old": _tool_json(change.old), "new": _tool_json(change.new)} for change in item.tools
        ],
        "config": [{"key": one.key, "old": one.old, "new": one.new} for one in item.config or ()],
        "layers_removed": [_layer_json(layer) for layer in (item.layers or ((), ()))[0]],
        "layers_added": [_layer_json(layer) for layer in (item.layers or ((), ()))[1]],
        "files": [change.to_json() for change in item.files] if item.files is not None else None,
        "sizes": {"old": item.sizes[0], "new": item.sizes[1]} if item.sizes is not None else None,
    }


def _base_json(base: BaseName | None) -> dict[str, str] | None:
    return {"name": base.name, "digest": base.digest} if base is not None else None


def _tool_json(state: ToolState | None) -> dict[str, Any] | None:
    return {"version": state.version, "proof": state.proof, "proven": list(state.proven)} if state is not None else None


def _layer_json(layer: LayerNode) -> dict[str, Any]:
    descriptor = layer.descriptor
    return {
        "digest": str(descriptor.digest),
        "diff_id": layer.diff_id,
        "size": descriptor.size,
        "tool": layer.origin.tool or None,
        "version": layer.origin.version or None,
    }
