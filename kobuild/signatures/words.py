"""What strangers wrote, made fit for a message and for the lock."""

from __future__ import annotations

from typing import Final

MAX_LETTERS: Final = 300


def printable(text: str) -> str:
    """The text without what moves a terminal's cursor or breaks a line, cut where it is long."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_LETTERS])
