"""Numbers in headers, as a stranger may have written them."""

from __future__ import annotations

from typing import Final

_MOST_DIGITS: Final = 18


def parse_count(text: str) -> int | None:
    """A number of bytes; None for anything but a few ASCII digits."""
    stripped = text.strip()
    if not stripped.isascii() or not stripped.isdecimal() or len(stripped) > _MOST_DIGITS:
        return None
    return int(stripped)
