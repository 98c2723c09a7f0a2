"""When an image says it was made: one rule, from which the clock is left out.

1. SOURCE_DATE_EPOCH, where it is set, decides alone (reproducible-builds.org, "SOURCE_DATE_EPOCH").
2. Else the newest of the base's `created` and the appended files' times of change. The zero time `0001-01-01`, a
   missing time, and times at or before 1970 say nothing and are left out. A date in the future is kept:
   leaving it out would make the image depend on the day it is built.
3. Else 1970-01-01.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Final

from kobuild.errors import UsageError
from kobuild.oci.config import ImageConfig

SOURCE_DATE_EPOCH: Final = "SOURCE_DATE_EPOCH"
_MAX_EPOCH: Final = 253402300799
"""9999-12-31T23:59:59Z, the last second that RFC 3339 can say."""


def read_source_date_epoch(environ: Mapping[str, str]) -> int | None:
    """The variable's seconds since 1970; None where it is unset or empty. Raises UsageError for anything else."""
    text = environ.get(SOURCE_DATE_EPOCH, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text[:20]) > _MAX_EPOCH:
        raise UsageError(
            f"{SOURCE_DATE_EPOCH}: expected seconds since 1970, got {text!r}",
            hint=f"unset it, or set it as in {SOURCE_DATE_EPOCH}=$(git log -1 --pretty=%ct)",
        )
    return int(text)


def choose_created(base: ImageConfig, mtimes: Iterable[int | None], source_date_epoch: int | None) -> datetime:
    """The image's `created` by the rule above, in whole seconds UTC.

    `mtimes` are the newest time of change of each appended layer in seconds since 1970, None where it has none.
    """
    if source_date_epoch is not None:
        return datetime.fromtimestamp(source_date_epoch, timezone.utc)
    of_base = base.created
    times = (*mtimes, None if of_base is None else int(of_base.timestamp()))
    known = [time for time in times if time is not None and 0 < time <= _MAX_EPOCH]
    return datetime.fromtimestamp(max(known, default=0), timezone.utc)
