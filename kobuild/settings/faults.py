"""Collecting faults: a value that does not fit is noted with its place, and reading goes on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from kobuild.errors import Fault, SettingsError
from kobuild.settings.locate import KeyPath, Locations, format_key

_LONGEST_QUOTE: Final = 80


class Unfit(Exception):
    """A value that cannot be what it is meant to be; never leaves this package.

    The parser turns it into a Fault, the overrides into a UsageError.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(slots=True)
class Faults:
    """The faults of one file, found in any order."""

    file: str
    locations: Locations
    found: list[Fault] = field(default_factory=list)

    def add(self, path: KeyPath, message: str, hint: str | None = None) -> None:
        """Note a fault at a key path; its line is the key's, or its nearest parent's."""
        self.found.append(Fault(self.file, self.locations.line(path), format_key(path), message, hint))

    def add_unfit(self, path: KeyPath, unfit: Unfit) -> None:
        """Note a value that does not fit."""
        self.add(path, unfit.message, unfit.hint)

    def raise_if_any(self) -> None:
        """Raise SettingsError with all faults in file order, if there are any."""
        if self.found:
            raise SettingsError(tuple(sorted(self.found, key=lambda fault: fault.line or 0)))


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that `word` was most likely meant to be, if any is near."""
    by_tidy = {_tidied(known): known for known in words}
    matches = difflib.get_close_matches(_tidied(word), by_tidy, n=1, cutoff=0.6)
    return by_tidy[matches[0]] if matches else None


def did_you_mean(word: str, words: Iterable[str]) -> str | None:
    """A hint that names the nearest word; without a near one, all of them."""
    known = list(words)
    near = nearest(word, known)
    return f"did you mean {near}?" if near else f"expected one of: {', '.join(known)}"


def quoted(text: str) -> str:
    """A text as TOML would quote it, cut where it is long, with control characters escaped."""
    cut = text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"
    return json.dumps(cut, ensure_ascii=False)


def _tidied(word: str) -> str:
    return word.lower().replace("_", "-")
