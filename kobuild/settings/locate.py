"""Where each key of a TOML document stands: a parsed document no longer knows its lines, and faults need them.

The scanner follows the TOML specification's lexical rules (tables, arrays of tables, dotted and quoted keys, inline
tables, arrays, the four kinds of strings, comments) and reads no values. It is meant for text that a real parser has
accepted; on other text it finds what it can, and always ends.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kobuild.frozen import frozen

KeyPath = tuple[str | int, ...]
"""Keys as strings and places in arrays as zero-based numbers: `("tools", "go", "only", 0)`."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_BLANKS: Final = re.compile(r"[ \t]*")
_BETWEEN: Final = re.compile(r"(?:[ \t\r\n,]+|#[^\n]*)*")
_SCALAR: Final = re.compile(r"[^,\]}#\n]*")
_TO_LINE_END: Final = re.compile(r"[^\n]*")
_BASIC_STOP: Final = re.compile(r'\\.|"', re.DOTALL)
_BASIC_LONG_STOP: Final = re.compile(r'\\.|"+', re.DOTALL)
_ESCAPE: Final = re.compile(
    r"\\(?:u(?P<u>[0-9A-Fa-f]{4})|U(?P<U>[0-9A-Fa-f]{8})|x(?P<x>[0-9A-Fa-f]{2})|(?P<c>.))",
    re.DOTALL,
)
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}
_LAST_CODE_POINT: Final = 0x10FFFF
_MAX_DEPTH: Final = 40


@frozen
class Locations:
    """Lines by key path."""

    lines: Mapping[KeyPath, int]

    def line(self, path: KeyPath) -> int | None:
        """The one-based line where `path`, or else its nearest parent, is first named; None where none is."""
        for length in range(len(path), 0, -1):
            found = self.lines.get(path[:length])
            if found is not None:
                return found
        return None


def locate(text: str) -> Locations:
    """Map every key and array element of `text` to the line where it is first named; never raises."""
    scanner = _Scanner(text)
    scanner.document()
    return Locations(scanner.lines)


def format_key(path: KeyPath) -> str:
    """The path as TOML's dotted keys spell it, array places in brackets: `tools."a b".only[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        name = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
        text += f".{name}" if text else name
    return text


@dataclass(slots=True)
class _Open:
    """An array or inline table that has been entered; `index` is the next element's place, None in a table."""

    path: KeyPath
    index: int | None


@dataclass(slots=True)
class _Scanner:
    text: str
    position: int = 0
    lines: dict[KeyPath, int] = field(default_factory=dict)
    table_counts: dict[KeyPath, int] = field(default_factory=dict)
    """For each array of tables, how many `[[headers]]` it has had so far."""
    line_starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", self.text))]

    def document(self) -> None:
        """Scan the whole text, one header or one key with its value at a time."""
        table: KeyPath = ()
        while True:
            self._skip(_BETWEEN)
            start = self.position
            if start >= len(self.text):
                return
            if self._peek() == "[":
                table = self._header()
            else:
                path = self._key(table)
                self._skip_char("=")
                self._value(path)
            self._skip(_TO_LINE_END)
            self.position = max(self.position, start + 1)

    def _header(self) -> KeyPath:
        self.position += 1
        is_array = self._peek() == "["
        self.position += is_array
        path: KeyPath = ()
        parts = self._key_parts()
        for number, (part, position) in enumerate(parts, 1):
            path = _inside(path, part)
            self._note(path, position)
            if is_array and number == len(parts):
                self.table_counts[path] = self.table_counts.get(path, 0) + 1
            if path in self.table_counts:
                path = _inside(path, self.table_counts[path] - 1)
                self._note(path, position)
        return path

    def _key(self, table: KeyPath) -> KeyPath:
        """Read a dotted key, note each of its parts, and return the whole path."""
        path = table
        for part, position in self._key_parts():
            path = _inside(path, part)
            self._note(path, position)
        return path

    def _key_parts(self) -> list[tuple[str, int]]:
        parts: list[tuple[str, int]] = []
        while True:
            self._skip(_BLANKS)
            position = self.position
            name = self._key_part()
            if name is None:
                return parts
            parts.append((name, position))
            self._skip(_BLANKS)
            if self._peek() != ".":
                return parts
            self.position += 1

    def _key_part(self) -> str | None:
        start = self.position
        if self._peek() in ('"', "'"):
            self._string()
            inner = self.text[start + 1 : self.position - 1]
            return inner if self.text[start] == "'" else _ESCAPE.sub(_unescape, inner)
        match = _BARE_KEY.match(self.text, start)
        if match is None:
            return None
        self.position = match.end()
        return match[0]

    def _value(self, path: KeyPath) -> None:
        """Skip one value, noting all that is inside it; a loop, so that no depth of nesting can hurt."""
        opened: list[_Open] = []
        while True:
            self._skip(_BLANKS)
            start = self._peek()
            if start in ("[", "{"):
                self.position += 1
                opened.append(_Open(path, 0 if start == "[" else None))
            elif start in ('"', "'"):
                self._string()
            else:
                self._skip(_SCALAR)
            inner = self._next_value(opened)
            if inner is None:
                return
            path = inner

    def _next_value(self, opened: list[_Open]) -> KeyPath | None:
        """Go to the next value inside what is open, closing what ends; None when all is closed or the text ends."""
        while opened:
            self._skip(_BETWEEN)
            character = self._peek()
            if character in ("]", "}"):
                self.position += 1
                opened.pop()
                continue
            if not character:
                return None
            return self._enter(opened[-1])
        return None

    def _enter(self, holder: _Open) -> KeyPath:
        start = self.position
        if holder.index is not None:
            path = _inside(holder.path, holder.index)
            holder.index += 1
            self._note(path, start)
            return path
        path = self._key(holder.path)
        self._skip_char("=")
        if self.position == start:
            self.position += 1  # no key and no sign: not TOML, and the loop must go on
        return path

    def _string(self) -> None:
        """Skip a string of any of the four kinds."""
        quote = self._peek()
        is_long = self.text.startswith(quote * 3, self.position)
        self.position += 3 if is_long else 1
        if quote == "'":
            self._literal_end("'''" if is_long else "'")
            return
        stops = _BASIC_LONG_STOP if is_long else _BASIC_STOP
        for match in stops.finditer(self.text, self.position):
            if match[0].startswith('"') and len(match[0]) >= (3 if is_long else 1):
                self.position = match.end()
                return
        self.position = len(self.text)

    def _literal_end(self, closing: str) -> None:
        found = self.text.find(closing, self.position)
        if found < 0:
            self.position = len(self.text)
            return
        self.position = found + len(closing)
        if len(closing) > 1:  # up to two more quotes belong to the content, before the closing three
            while self._peek() == "'":
                self.position += 1

    def _note(self, path: KeyPath, position: int) -> None:
        self.lines.setdefault(path, bisect_right(self.line_starts, position))

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.position)
        self.position = match.end() if match else self.position

    def _skip_char(self, character: str) -> None:
        self._skip(_BLANKS)
        if self._peek() == character:
            self.position += 1


def _inside(path: KeyPath, part: str | int) -> KeyPath:
    """The path one step down; past a depth that no settings have, the step is left out, so that cost stays linear."""
    return (*path, part) if len(path) < _MAX_DEPTH else path


def _unescape(match: re.Match[str]) -> str:
    code = match["u"] or match["U"] or match["x"]
    if code is None:
        return _ESCAPED.get(match["c"], match["c"])
    value = int(code, 16)
    return chr(value) if value <= _LAST_CODE_POINT else match[0]
