"""What of a lock can be told to be wrong by the lock alone: that it is not as `kobuild resolve` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Final

from kobuild.errors import Finding
from kobuild.lock import MAX_LOCK_BYTES, Lock, dump
from kobuild.streams import disk_errors, read_bounded

_SUM: Final = b"sum = "
_SUM_NOTE: Final = ", the sum of the tool's lines"
_REMEDY: Final = "restore the file from version control, or run `kobuild resolve` to write it anew"


def compare_spelling(path: Path, lock: Lock) -> Iterator[Finding]:
    """The first line of the lock at `path` that is not as the same lock would be written.

    A checkout with line ends of Windows is no difference. Raises StorageError.
    """
    with disk_errors("read", path), path.open("rb") as file:
        found = read_bounded(file, MAX_LOCK_BYTES, str(path)).replace(b"\r\n", b"\n")
    expected = dump(lock)
    if found == expected:
        return
    pairs = zip_longest(expected.split(b"\n"), found.split(b"\n"))
    number, (want, got) = next((number, pair) for number, pair in enumerate(pairs, 1) if pair[0] != pair[1])
    is_sum = want is not None and want.startswith(_SUM)
    yield Finding(f"{path.name}:{number}", f"{_show(want)}{_SUM_NOTE if is_sum else ''}", _show(got), _REMEDY)


def _show(line: bytes | None) -> str:
    return "the end of the file" if line is None else repr(line.decode("utf-8", "replace"))
