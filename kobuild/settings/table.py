"""Reading one TOML table: each key is taken once with the check that its value must pass."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from kobuild.settings.faults import Faults, Unfit, did_you_mean, quoted
from kobuild.settings.locate import KeyPath

T = TypeVar("T")
Check = Callable[[object], T]
"""Turns a TOML value into what the settings hold; raises Unfit."""


class Table:
    """One table of the file, with its place and the collector of its faults."""

    def __init__(self, value: Mapping[str, object], path: KeyPath, faults: Faults) -> None:
        self.value = value
        self.path = path
        self.faults = faults

    def refuse_unknown(self, keys: Iterable[str], elsewhere: Mapping[str, str]) -> None:
        """Note a fault for every key outside `keys`; `elsewhere` says where keys of other tables belong."""
        known = list(keys)
        for key in self.value:
            if key in known:
                continue
            home = elsewhere.get(key)
            self.fault(key, "unknown key", f"it belongs under {home}" if home else did_you_mean(key, known))

    def fault(self, key: str, message: str, hint: str | None = None) -> None:
        """Note a fault at one of this table's keys, which may be missing."""
        self.faults.add((*self.path, key), message, hint)

    def take(self, key: str, check: Check[T], default: T) -> T:
        """The checked value of `key`; `default` where it is missing or, with a fault noted, unfit."""
        if key not in self.value:
            return default
        return self._checked((*self.path, key), check, self.value[key], default)

    def take_list(
        self,
        key: str,
        check: Check[T],
        *,
        or_one: bool = False,
        unique: bool = True,
    ) -> tuple[T, ...] | None:
        """The checked elements of an array; None where the key is missing.

        With `or_one` a bare string stands for an array of itself; with `unique` an element that comes a second time,
        in whatever spelling, is a fault.
        """
        if key not in self.value:
            return None
        path = (*self.path, key)
        value = self.value[key]
        if or_one and isinstance(value, str):
            item = self._checked(path, check, value, None)
            return () if item is None else (item,)
        if not isinstance(value, list):
            expected = "a string or an array of strings" if or_one else "an array"
            self.faults.add(path, f"expected {expected}, got {kind_of(value)}", _array_hint(key, value))
            return ()
        taken: list[T] = []
        seen: set[object] = set()
        for number, element in enumerate(value):
            place = (*path, number)
            item = self._checked(place, check, element, None)
            if item is not None and unique and item in seen:
                self.faults.add(place, f"named twice: {quoted(str(element))}", "leave one of them out")
            elif item is not None:
                seen.add(item)
                taken.append(item)
        return tuple(taken)

    def take_map(self, key: str, check_name: Check[str], check: Check[str]) -> dict[str, str]:
        """The checked members of a table of strings, in file order; empty where the key is missing."""
        members = self.subtable(key)
        if members is None:
            return {}
        taken = {}
        for name, value in members.value.items():
            path = (*members.path, name)
            fit = self._checked(path, check_name, name, None)
            item = self._checked(path, check, value, None)
            if fit is not None and item is not None:
                taken[fit] = item
        return taken

    def check_name(self, name: str, check: Check[T]) -> T | None:
        """The checked form of one of this table's own keys; None with a fault noted."""
        return self._checked((*self.path, name), check, name, None)

    def subtable(self, key: str) -> Table | None:
        """The table under `key`; None where it is missing or, with a fault noted, not a table."""
        if key not in self.value:
            return None
        value = self.value[key]
        if not isinstance(value, dict):
            self.fault(key, f"expected a table, got {kind_of(value)}")
            return None
        return Table(value, (*self.path, key), self.faults)

    def _checked(self, path: KeyPath, check: Check[T], value: object, default: T) -> T:
        try:
            return check(value)
        except Unfit as unfit:
            self.faults.add_unfit(path, unfit)
            return default


def kind_of(value: object) -> str:
    """What TOML calls a value, with its article."""
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "a boolean"),
        (str, "a string"),
        (int, "an integer"),
        (float, "a float"),
        (list, "an array"),
        (dict, "a table"),
        ((dt.date, dt.time), "a date or time"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), type(value).__name__)


def _array_hint(key: str, value: object) -> str | None:
    return f"write {key} = [{quoted(value)}]" if isinstance(value, str) else None
