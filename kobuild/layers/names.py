"""Names in archives: made clean, matched by globs, joined to a root. Pure functions on bytes."""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections.abc import Sequence
from typing import Final

from kobuild.errors import MissingMember, UnsafeMember
from kobuild.layers.members import show

_UNCLEAN: Final = re.compile(rb"(?:\A|/)\.{0,2}(?:/|\Z)")
_MAX_REMEMBERED: Final = 20_000
_SUGGESTIONS: Final = 3


def clean_name(name: bytes, place: str) -> bytes:
    """The name without `.` parts, doubled and trailing slashes; empty for the archive's own top.

    Raises UnsafeMember for an absolute name, a `..` part, or a NUL.
    """
    if name.endswith(b"/"):
        name = name.rstrip(b"/") or b"/"
    if _UNCLEAN.search(name) is None and b"\0" not in name:
        return name
    if b"\0" in name:
        raise UnsafeMember(f"{place}: the name {show(name)} has a NUL in it")
    if name.startswith(b"/"):
        raise UnsafeMember(
            f"{place}: the name {show(name)} is absolute",
            hint="pack the archive with relative names, as tar does unless it is told not to",
        )
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise UnsafeMember(f"{place}: the name {show(name)} would leave its root")
    return b"/".join(parts)


def strip_parts(name: bytes, count: int) -> bytes:
    """The name without its first `count` parts; empty where it has no more than that."""
    if count == 0:
        return name
    parts = name.split(b"/", count)
    return parts[count] if len(parts) > count else b""


def climbs(folder: bytes, target: bytes) -> bool:
    """Whether the relative `target`, seen from `folder` (a clean name, empty for the top), leads above the top."""
    depth = folder.count(b"/") + 1 if folder else 0
    for part in target.split(b"/"):
        if part == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif part not in (b"", b"."):
            depth += 1
    return False


def lead(path: bytes, target: bytes) -> bytes:
    """Where a symlink at `path` with that target leads, as a clean name; links on the way are not looked at."""
    folder = path.rpartition(b"/")[0]
    return posixpath.normpath(posixpath.join(b"/" + folder, target)).strip(b"/")


def compile_glob(pattern: str) -> re.Pattern[bytes]:
    """A pattern for clean names: it matches what the glob names, and everything below that."""
    text = os.fsencode(pattern)
    while text.startswith(b"./"):
        text = text[2:].lstrip(b"/")
    text = text.rstrip(b"/")
    if text in (b"", b"."):
        text = b"**"  # the archive's own top
    expression = b"".join(_translate(token) for token in re.findall(rb"\*\*/|\*\*|\[!?\]?[^\]/]*\]|.", text, re.DOTALL))
    return re.compile(rb"(?:%b)(?:/.*)?\Z" % expression, re.DOTALL)


def _translate(token: bytes) -> bytes:
    if token == b"**/":
        return rb"(?:.*/)?"
    if token == b"**":
        return rb".*"
    if token == b"*":
        return rb"[^/]*"
    if token == b"?":
        return rb"[^/]"
    if len(token) > 2 and token.startswith(b"["):
        return _translate_set(token[1:-1])
    return re.escape(token)


def _translate_set(inner: bytes) -> bytes:
    """What stands between brackets; a range that runs backwards holds nothing, as in the shell."""
    negated = inner.startswith(b"!")
    pieces = b""
    position = 1 if negated else 0
    while position < len(inner):
        first = inner[position : position + 1]
        last = inner[position + 2 : position + 3]
        if inner[position + 1 : position + 2] == b"-" and last:
            pieces += re.escape(first) + b"-" + re.escape(last) if first <= last else b""
            position += 3
        else:
            pieces += re.escape(first)
            position += 1
    if negated:
        return rb"[^/%b]" % pieces
    return rb"(?!/)[%b]" % pieces if pieces else rb"(?!)"


class Selection:
    """Which members `only` takes; knows at the end which of its patterns took none."""

    def __init__(self, patterns: Sequence[str], place: str) -> None:
        self._patterns = [(pattern, compile_glob(pattern)) for pattern in patterns]
        self._missing = {pattern for pattern, _ in self._patterns}
        self._place = place
        self._names: list[bytes] = []

    def takes(self, name: bytes) -> bool:
        """Whether a member of this clean name is taken."""
        if not self._patterns:
            return True
        taken = False
        for pattern, expression in self._patterns:
            if expression.match(name):
                self._missing.discard(pattern)
                taken = True
        if not taken and len(self._names) < _MAX_REMEMBERED:
            self._names.append(name)
        return taken

    def check(self) -> None:
        """Raise MissingMember, with names that are near, unless every pattern took a member."""
        for pattern, _ in self._patterns:
            if pattern in self._missing:
                near = self._nearest(os.fsencode(pattern))
                hint = f"the archive has {', '.join(show(name) for name in near)}" if near else None
                raise MissingMember(f"{self._place}: nothing in the archive matches {pattern!r} of `only`", hint=hint)

    def _nearest(self, pattern: bytes) -> list[bytes]:
        wanted = pattern.rstrip(b"/").rpartition(b"/")[2].lower()
        same = [name for name in self._names if name.rpartition(b"/")[2].lower() == wanted]
        if same:
            return same[:_SUGGESTIONS]
        bases = {name.rpartition(b"/")[2].decode("utf-8", "backslashreplace"): name for name in self._names[:5000]}
        close = difflib.get_close_matches(wanted.decode("utf-8", "backslashreplace"), bases, _SUGGESTIONS, 0.5)
        return [bases[base] for base in close] or self._names[:_SUGGESTIONS]
