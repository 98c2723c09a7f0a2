"""How long a machine waits for another one, and how often it looks."""

from __future__ import annotations

import threading
import time

from kobuild.frozen import frozen
from kobuild.layercache.records import Claim
from kobuild.streams import StoppedError


@frozen
class Pace:
    """All in seconds."""

    settle: float = 0.5
    """How long after writing a claim to look whether it is still there, at the least; on slow lines four times what
    looking and writing took. Whoever saw no claim before this one was written has written theirs by then, and the last
    one counts (Fischer's mutual exclusion). Where somebody was slower still, a layer is made twice, and that is all."""
    poll: float = 0.25
    """Between looks at first; each pause is longer than the one before, up to `poll_most`."""
    poll_most: float = 5.0
    beat: float = 20.0
    """How often a machine at work renews its claim."""
    stale: float = 90.0
    """A claim that was not renewed for so long has lost its machine."""
    longest: float = 1200.0
    """Nobody waits longer, whatever the claims say: then the layer is made, even if somebody else is making it."""


class Patience:
    """One wait for one layer."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._pause = pace.poll
        self._seen: tuple[str, int] | None = None
        self._changed = self._began = time.monotonic()

    def waits_for(self, claim: Claim) -> bool:
        """Whether the claim is of a machine that seems to be at work."""
        now = time.monotonic()
        if (claim.nonce, claim.beat) != self._seen:
            self._seen, self._changed = (claim.nonce, claim.beat), now
        return now - self._changed < self._pace.stale and not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether the longest wait is over."""
        return time.monotonic() - self._began >= self._pace.longest

    def pause(self, cancelled: threading.Event) -> None:
        """Wait until the next look; raises StoppedError when `cancelled` is set."""
        wait(self._pause, cancelled)
        self._pause = min(self._pause * 1.5, self._pace.poll_most)


def wait(seconds: float, cancelled: threading.Event) -> None:
    """Wait; raises StoppedError when `cancelled` is set."""
    if cancelled.wait(seconds):
        raise StoppedError
