"""When to try again, and how long to wait before: a clock that tests can hold, backoff with jitter, Retry-After."""

from __future__ import annotations

import random
import time
from datetime import timezone
from typing import Final, Protocol

from kobuild.frozen import frozen

RETRYABLE_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What a server says when the same request may well succeed later (RFC 9110, RFC 6585)."""


class Clock(Protocol):
    """Time, as something that can be handed in."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@frozen
class Backoff:
    """How long to wait, in seconds: doubling from `first` to `longest`, each shortened at random by up to a half."""

    first: float = 0.5
    longest: float = 15.0
    patience: float = 120.0
    """A Retry-After beyond this is not waited for."""

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """The wait after attempt number `attempt` (the first is 1); a server's own word is never undercut."""
        grown = min(self.longest, self.first * 2.0 ** (attempt - 1))
        jittered = grown * random.uniform(0.5, 1.0)  # noqa: S311  # spreading load needs no secrecy
        return jittered if retry_after is None else retry_after + jittered * 0.1


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110, 10.2.3): a number or a date; None where it says nothing."""
    if value is None:
        return None
    text = value.strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - a large import for what is seldom met

    try:
        moment = parsedate_to_datetime(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        return max(0.0, aware.timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None
