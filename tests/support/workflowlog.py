"""Reads workflow commands as the runner does (actions/runner, src/Runner.Common/ActionCommand.cs)."""

from __future__ import annotations

import re


def parse_command(line: str) -> tuple[str, dict[str, str], str]:
    """A command's name, properties and message; raises ValueError for a line that is none."""
    text = line.lstrip()
    if not text.startswith("::") or "::" not in text[2:]:
        old = re.search(r"##\[(?P<name>[^ \]]+)[^\]]*\](?P<message>.*)", line)
        if old is None:
            raise ValueError(f"not a command: {line!r}")
        return old["name"], {}, _unescape(old["message"])  # anywhere in a line: the runner still knows this spelling
    head, _, message = text[2:].partition("::")
    name, _, rest = head.partition(" ")
    pairs = (pair.partition("=") for pair in rest.split(",") if pair)
    properties = {key.strip(): _unescape_property(value) for key, _, value in pairs}
    return name, properties, _unescape(message)


def _unescape(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def _unescape_property(text: str) -> str:
    return _unescape(text.replace("%3A", ":").replace("%2C", ","))
