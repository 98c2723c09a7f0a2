"""A difference as Markdown, for a pull request's text or a job's summary."""

from __future__ import annotations

from collections.abc import Iterator

from kobuild.explain.diffview import base_words, file_summary, most_telling, proof_words, signed_size
from kobuild.explain.imagediff import Difference, PlatformDiff
from kobuild.explain.markdown import code, plain, table
from kobuild.explain.subjects import Subject, ToolState
from kobuild.report import format_size


def diff_markdown(diff: Difference, file_count: int) -> str:
    """The difference, with up to `file_count` files of each platform, folded."""
    lines = [f"**{_title(diff.old)}** → **{_title(diff.new)}**", ""]
    if diff.is_empty:
        return "\n".join([*lines, "No difference."])
    lines += [f"- platform removed: {code(str(item))}" for item in diff.only_old]
    lines += [f"- platform added: {code(str(item))}" for item in diff.only_new]
    for item in diff.platforms:
        if not item.is_empty:
            lines += _platform(item, file_count)
    return "\n".join(lines).rstrip()


def _title(subject: Subject) -> str:
    return code(subject.name)


def _platform(item: PlatformDiff, file_count: int) -> Iterator[str]:
    yield from (f"### {plain(str(item.platform))}", "")
    rows = [("tool", plain(one.name), _tool(one.old, one.new), _tool(one.new, one.old)) for one in item.tools]
    if item.base is not None:
        rows.append(("base", "", code(base_words(item.base[0])), code(base_words(item.base[1]))))
    rows += [("config", plain(one.key), _optional(one.old), _optional(one.new)) for one in item.config or ()]
    if item.sizes is not None and item.sizes[0] != item.sizes[1]:
        rows.append(("size", "", format_size(item.sizes[0]), format_size(item.sizes[1])))
    if rows:
        yield from table(("", "", "before", "after"), rows)
    yield from _layers(item)
    yield from _files(item, file_count)


def _tool(state: ToolState | None, other: ToolState | None) -> str:
    """One side's version, and what else differs where that is the same."""
    if state is None:
        return ""
    text = plain(state.version or "(no version)")
    if other is None or state.version != other.version:
        return text
    if state.proof != other.proof:
        return f"{text} {code(state.proof.rpartition(':')[2][:12])}"
    return f"{text}, {plain(proof_words(state))}"


def _optional(value: str | None) -> str:
    return "" if value is None else code(value)


def _layers(item: PlatformDiff) -> Iterator[str]:
    rows = [
        (
            mark,
            plain(f"{layer.origin.tool} {layer.origin.version}".strip() or layer.origin.history[:80]),
            size,
            digest,
        )
        for mark, layers in zip(("removed", "added"), item.layers or ((), ()), strict=True)
        for layer in layers
        for size, digest in [(format_size(layer.descriptor.size), code(layer.descriptor.digest.short))]
    ]
    if rows:
        yield from table(("layer", "made by", "size", "digest"), rows)


def _files(item: PlatformDiff, file_count: int) -> Iterator[str]:
    shown = most_telling(item.files or (), file_count)
    if not item.files:
        return
    yield from (f"<details><summary>{file_summary(item)}</summary>", "")
    if shown:
        rows = [(one.change.value, code(f"/{one.path}"), signed_size(one.growth), ", ".join(one.what)) for one in shown]
        yield from table(("", "file", "growth", "what"), rows)
    left = len(item.files) - len(shown)
    if left:
        yield from (f"and {left} more", "")
    yield from ("</details>", "")
