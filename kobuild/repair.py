"""Going on where the cache has lost something: what it holds can always be made or fetched again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kobuild.errors import LostEntry
from kobuild.progress import Reporter

T = TypeVar("T")


def with_repairs(attempt: Callable[[], T], reporter: Reporter, lost: frozenset[str] = frozenset()) -> T:
    """Do the work, and do it again whenever an entry of the cache turned out to be damaged or gone on the way.

    What was right stays and is found again, so only the lost entry costs anything. Raises LostEntry where the same
    entry is lost a second time (or is in `lost` from the start): then the disk, or something that prunes all the time,
    is at fault.
    """
    try:
        return attempt()
    except LostEntry as error:
        if error.entry in lost:
            error.hint = "the disk damages files, or something removes them all the time; use another --cache-dir"
            raise
        reporter.warning(f"{error}; making it again")
        entry = error.entry
    return with_repairs(attempt, reporter, lost | {entry})
