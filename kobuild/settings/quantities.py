"""Sizes and spans of time as people write them: `10GB`, `512 MiB`, `30d`."""

from __future__ import annotations

import re
from typing import Final

from kobuild.settings.faults import Unfit, did_you_mean, quoted

_QUANTITY: Final = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,6})?)\s*(?P<unit>[A-Za-z]*)")
_LETTERS: Final = "kMGT"
SIZE_UNITS: Final = {
    "B": 1,
    **{f"{letter}B": 1000 ** (power + 1) for power, letter in enumerate(_LETTERS)},
    **{f"{letter.upper()}iB": 1024 ** (power + 1) for power, letter in enumerate(_LETTERS)},
}
"""Bytes in each unit: `GB` is a thousand million, `GiB` is 2 to the power of 30."""
SPAN_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
"""Seconds in each unit."""


def parse_size(text: str) -> int:
    """A size in bytes from `10GB`, `1.5 GiB`, `4096`; raises Unfit."""
    return _parse(text, SIZE_UNITS, "B", "a size", "10GB or 512MiB")


def parse_span(text: str) -> int:
    """A span in seconds from `30d`, `12h`, `2w`; the unit must be there, unless it is 0. Raises Unfit."""
    return _parse(text, SPAN_UNITS, None, "a span of time", "30d or 12h")


def _parse(text: str, units: dict[str, int], default: str | None, what: str, example: str) -> int:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise Unfit(f"expected {what}, got {quoted(text)}", f"such as {example}")
    known = {unit.lower(): factor for unit, factor in units.items()}
    unit = match["unit"].lower()
    if not unit and (default is not None or float(match["number"]) == 0):
        return int(float(match["number"]))
    if unit not in known:
        raise Unfit(f"expected {what} with a unit, got {quoted(text)}", did_you_mean(match["unit"], units))
    return int(float(match["number"]) * known[unit])
