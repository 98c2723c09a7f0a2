"""Writes the tables of the action's inputs and outputs into README.md and docs/action.md, from action.yml.

    python .github/action_tables.py           writes them
    python .github/action_tables.py --check   exits 1 where they are not as action.yml says

In README.md stand the names alone, in docs/action.md the defaults and descriptions too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


def full_table(items: Mapping[str, Any], *, with_default: bool) -> Iterator[str]:
    """Name, default and description, a row each."""
    yield "| name | default | what it is |" if with_default else "| name | what it is |"
    yield "| --- | --- | --- |" if with_default else "| --- | --- |"
    for name, item in items.items():
        default = f" {_default(item)} |" if with_default else ""
        yield f"| `{name}` |{default} {_cell(item['description'])} |"


def short_list(items: Mapping[str, Any]) -> Iterator[str]:
    """The names in one line."""
    yield " · ".join(f"`{name}`" for name in items)


def _default(item: Mapping[str, Any]) -> str:
    value = str(item.get("default", ""))
    return f"`{value}`" if value else ""


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def filled(text: str, name: str, rows: Sequence[str]) -> str:
    """The text with what stands between the marks of `name` replaced; raises ValueError where there are no marks."""
    begin, end = f"<!-- {name}: made by .github/action_tables.py -->\n", f"<!-- end of {name} -->\n"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"expected the marks of {name} once")
    head, rest = text.split(begin)
    return "".join([head, begin, *(f"{row}\n" for row in rows), end, rest.split(end)[1]])


def files() -> dict[Path, str]:
    """Each file with its text as it should be."""
    document = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    inputs, outputs = document["inputs"], document["outputs"]
    readme, guide = ROOT / "README.md", ROOT / "docs" / "action.md"
    short = filled(readme.read_text(encoding="utf-8"), "inputs", list(short_list(inputs)))
    full = filled(guide.read_text(encoding="utf-8"), "inputs", list(full_table(inputs, with_default=True)))
    return {
        readme: filled(short, "outputs", list(short_list(outputs))),
        guide: filled(full, "outputs", list(full_table(outputs, with_default=False))),
    }


def main(words: Sequence[str]) -> int:
    """Write or check; returns the exit code."""
    stale = {path: text for path, text in files().items() if path.read_text(encoding="utf-8") != text}
    if "--check" in words:
        for path in stale:
            print(f"{path.name}: the tables are not as action.yml says; run python .github/action_tables.py")
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
