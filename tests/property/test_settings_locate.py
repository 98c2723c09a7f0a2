"""The scanner against documents written by tomli_w, and by a writer of stranger forms that notes its own lines."""

from __future__ import annotations

from typing import Any

import tomli
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from kobuild.settings.locate import KeyPath, locate

KEYS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True),
    st.text(st.characters(codec="utf-8"), max_size=6),
)
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("\"'\\#[]{}=,.\n"), max_size=12)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    TEXTS,
    st.datetimes(),
    st.dates(),
    st.times(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=5)


def paths_of(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    """Every key path and array place in a parsed document."""
    own = {path} if path else set()
    if isinstance(value, dict):
        return own.union(*(paths_of(member, (*path, key)) for key, member in value.items()))
    if isinstance(value, list):
        return own.union(*(paths_of(member, (*path, index)) for index, member in enumerate(value)))
    return own


@given(document=DOCUMENTS, multiline=st.booleans())
def test_finds_exactly_the_paths_that_the_parser_finds(document: dict[str, Any], multiline: bool) -> None:
    text = tomli_w.dumps(document, multiline_strings=multiline)
    assert set(locate(text).lines) == paths_of(tomli.loads(text))


@st.composite
def written_documents(draw: st.DrawFn) -> tuple[str, dict[KeyPath, int]]:
    """A document in hand-written forms, with the line that each path was written at."""
    writer = Writer(draw)
    names = draw(st.lists(KEYS, unique=True, max_size=6))
    for name in names:
        writer.filler()
        form = draw(st.sampled_from(["key", "table", "tables"]))
        if form == "key" and not writer.in_table:
            writer.assign((), name)
        elif form == "tables":
            for index in range(draw(st.integers(1, 3))):
                writer.table((name,), index)
        else:
            writer.table((name,), None)
    return "".join(writer.parts), writer.expected


class Writer:
    """Writes TOML and keeps count of the lines."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.parts: list[str] = []
        self.expected: dict[KeyPath, int] = {}
        self.line = 1
        self.in_table = False

    def put(self, text: str) -> None:
        self.parts.append(text)
        self.line += text.count("\n")

    def filler(self) -> None:
        self.put(self.draw(st.sampled_from(["", "\n", '# [no] = \'table\' """\n', "  \t\n", "\r\n"])))

    def note(self, path: KeyPath) -> None:
        self.expected.setdefault(path, self.line)

    def key(self, name: str) -> str:
        forms = [tomli_w.dumps({name: 1}).rpartition(" = ")[0]]
        if all(character.isprintable() and character != "'" for character in name):
            forms.append(f"'{name}'")
        forms.append('"' + "".join(f"\\U{ord(character):08x}" for character in name) + '"')
        return self.draw(st.sampled_from(forms))

    def table(self, path: KeyPath, index: int | None) -> None:
        self.in_table = True
        opening, closing = ("[", "]") if index is None else ("[[", "]]")
        self.note(path)
        inner = path if index is None else (*path, index)
        self.note(inner)
        self.put(f"{opening} {self.key(str(path[0]))}\t{closing} # the table\n")
        for name in self.draw(st.lists(KEYS, unique=True, max_size=3)):
            self.filler()
            self.assign(inner, name)

    def assign(self, table: KeyPath, name: str) -> None:
        path = (*table, name)
        self.note(path)
        dotted = self.draw(st.lists(KEYS, max_size=2))
        spelled = self.key(name)
        for part in dotted:
            path = (*path, part)
            self.note(path)
            spelled += f" . {self.key(part)}"
        self.put(f"{spelled} = ")
        self.value(path, 0)
        self.put(self.draw(st.sampled_from(["\n", " # end ]}\n", "\r\n"])))

    def value(self, path: KeyPath, depth: int) -> None:
        kind = self.draw(st.sampled_from(["scalar", "array", "table"] if depth < 3 else ["scalar"]))
        if kind == "array":
            self.array(path, depth)
        elif kind == "table":
            self.inline_table(path, depth)
        else:
            self.put(
                self.draw(
                    st.sampled_from(
                        [
                            "1",
                            "true",
                            "1979-05-27 07:32:00Z",
                            '"a\\"]#"',
                            "'}\"#'",
                            '"""\n[x]\n\\"""\n"""""',
                            "'''\n''a'''''",
                        ]
                    )
                )
            )

    def array(self, path: KeyPath, depth: int) -> None:
        gaps = st.sampled_from(["", " ", "\n", "# ]\n", "\r\n\t"])
        self.put("[" + self.draw(gaps))
        for index in range(self.draw(st.integers(0, 3))):
            if index:
                self.put("," + self.draw(gaps))
            self.note((*path, index))
            self.value((*path, index), depth + 1)
            self.put(self.draw(gaps))
        self.put("]")

    def inline_table(self, path: KeyPath, depth: int) -> None:
        self.put("{ ")
        for number, name in enumerate(self.draw(st.lists(KEYS, unique=True, max_size=3))):
            if number:
                self.put(", ")
            self.note((*path, name))
            self.put(f"{self.key(name)} = ")
            self.value((*path, name), depth + 1)
        self.put(" }")


@given(written=written_documents())
def test_finds_the_line_that_each_path_was_written_at(written: tuple[str, dict[KeyPath, int]]) -> None:
    text, expected = written
    tomli.loads(text)
    assert locate(text).lines == expected


@given(text=st.text(st.sampled_from("ab.=\"'[]{},#\\\n\r\t 1") | st.characters(), max_size=80))
def test_ends_on_any_text(text: str) -> None:
    last_line = text.count("\n") + 1
    assert all(1 <= line <= last_line for line in locate(text).lines.values())
