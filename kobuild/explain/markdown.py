"""Words and tables as Markdown, such that nothing from outside becomes markup."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from kobuild.explain.entries import printable

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>()#+!|~@-])")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, whose cells are Markdown already, and an empty line."""
    for line in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(line)} |"
    yield ""


def plain(text: str) -> str:
    """Plain words: nothing in a name from outside may become a link, a tag or a table's edge."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def code(text: str) -> str:
    """Code, which GitHub's tables end at a bar even within backticks."""
    shown = printable(text).replace("|", r"\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"
