"""Changes the interpreter that starts with this folder on PYTHONPATH, as another machine would differ.

KOBUILD_TEST_BLOCK names modules, by commas, that this interpreter does not have; KOBUILD_TEST_REVERSE lists directories
in the opposite order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

for _name in filter(None, os.environ.get("KOBUILD_TEST_BLOCK", "").split(",")):
    sys.modules[_name] = None  # type: ignore[assignment]  # an import then raises ImportError

if os.environ.get("KOBUILD_TEST_REVERSE"):
    _listdir, _scandir = os.listdir, os.scandir

    class _Reversed:
        def __init__(self, *arguments: Any) -> None:
            with _scandir(*arguments) as entries:
                self._entries = sorted(entries, key=lambda entry: os.fsencode(entry.name), reverse=True)

        def __iter__(self) -> Iterator[Any]:
            return iter(self._entries)

        def __enter__(self) -> _Reversed:  # noqa: PYI034  # Self is newer than Python 3.10
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def close(self) -> None:
            pass

    def _reversed_names(*arguments: Any) -> list[Any]:
        return sorted(_listdir(*arguments), reverse=True)

    os.listdir = _reversed_names  # type: ignore[assignment]
    os.scandir = _Reversed  # type: ignore[assignment]
