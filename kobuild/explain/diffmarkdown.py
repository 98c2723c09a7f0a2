"""A difference as Markdown, for a pull request's text or a job's summary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from kobuild.explain.diffview import base_words, file_summary, most_telling, signed_size
from kobuild.explain.entries import printable
from kobuild.explain.imagediff import Difference, PlatformDiff
from kobuild.explain.subjects import Subject, ToolState
from kobuild.report import format_size

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>()#+!|~@-])")


def diff_markdown(diff: Difference, file_count: int) -> str:
    """The difference, with up to `file_count` files of each platform, folded."""
    lines = [f"**{_title(diff.old)}** → **{_title(diff.new)}**", ""]
    if diff.is_empty:
        return "\n".join([*lines, "No difference."])
    lines += [f"- platform removed: {_code(str(item))}" for item in diff.only_old]
    lines += [f"- platform added: {_code(str(item))}" for item in diff.only_new]
    for item in diff.platforms:
        if not item.is_empty:
            lines += _platform(item, file_count)
    return "\n".join(lines).rstrip()


def _title(subject: Subject) -> str:
    return _code(subject.name)


def _platform(item: PlatformDiff, file_count: int) -> Iterator[str]:
    yield from (f"### {item.platform}", "")
    rows = [("tool", _escape(one.name), _tool(one.old), _tool(one.new)) for one in item.tools]
    if item.base is not None:
        rows.append(("base", "", _code(base_words(item.base[0])), _code(base_words(item.base[1]))))
    rows += [("config", _escape(one.key), _optional(one.old), _optional(one.new)) for one in item.config or ()]
    if item.sizes is not None and item.sizes[0] != item.sizes[1]:
        rows.append(("size", "", format_size(item.sizes[0]), format_size(item.sizes[1])))
    if rows:
        yield from _table(("", "", "before", "after"), rows)
    yield from _layers(item)
    yield from _files(item, file_count)


def _tool(state: ToolState | None) -> str:
    return "" if state is None else _escape(state.version or "(no version)")


def _optional(value: str | None) -> str:
    return "" if value is None else _code(value)


def _layers(item: PlatformDiff) -> Iterator[str]:
    rows = [
        (
            mark,
            _escape(f"{layer.origin.tool} {layer.origin.version}".strip() or layer.origin.history[:80]),
            size,
            digest,
        )
        for mark, layers in zip(("removed", "added"), item.layers or ((), ()), strict=True)
        for layer in layers
        for size, digest in [(format_size(layer.descriptor.size), _code(layer.descriptor.digest.short))]
    ]
    if rows:
        yield from _table(("layer", "made by", "size", "digest"), rows)


def _files(item: PlatformDiff, file_count: int) -> Iterator[str]:
    shown = most_telling(item.files or (), file_count)
    if not item.files:
        return
    yield from (f"<details><summary>{file_summary(item)}</summary>", "")
    if shown:
        rows = [
            (one.change.value, _code(f"/{one.path}"), signed_size(one.growth), ", ".join(one.what)) for one in shown
        ]
        yield from _table(("", "file", "growth", "what"), rows)
    left = len(item.files) - len(shown)
    if left:
        yield from (f"and {left} more", "")
    yield from ("</details>", "")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for line in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(line)} |"
    yield ""


def _escape(text: str) -> str:
    """Plain words: nothing in a name from outside may become a link, a tag or a table's edge."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def _code(text: str) -> str:
    """Code, which GitHub's tables end at a bar even within backticks."""
    plain = printable(text).replace("|", r"\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=0) + 1)
    pad = " " if "`" in plain else ""
    return f"{fence}{pad}{plain}{pad}{fence}"
