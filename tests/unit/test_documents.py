"""The documents' links lead somewhere, and the tests that they name are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
_LINK: Final = re.compile(r"\[[^\]\n]*(?:\n[^\]\n]*)?\]\((?P<target>[^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ +(?P<title>.+?)\s*$", re.MULTILINE)
_FENCE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    titles = (match["title"].replace("`", "") for match in _HEADING.finditer(prose(path)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(path: Path) -> list[str]:
    """The relative links that lead nowhere."""
    dead = []
    for match in _LINK.finditer(prose(path)):
        target, _, anchor = unquote(match["target"]).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = path.parent / target if target else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            dead.append(match["target"])
    return dead


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert dead_links(path) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One `two`: three\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#one-two-three) [b](other.md#four) [c](gone.md) [d](https://x.test/y)\n```\n[e](code)\n```\n"
    )
    assert dead_links(page) == ["other.md#four", "gone.md"]


@pytest.mark.parametrize(("document", "least"), [("threat-model.md", 40), ("layers.md", 30)])
def test_what_a_document_names_is_there(document: str, least: int) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > least
    assert {name for name in named if f"def {name}(" not in tests} == set()
    files = set(re.findall(r"`((?:kobuild|\.github)/[\w./]+)`", text))
    assert {name for name in files if not (ROOT / name).is_file()} == set()
