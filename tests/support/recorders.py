"""A clock that no test has to wait for, and a reporter that remembers."""

from __future__ import annotations

import threading

from kobuild.progress import NullTransfer, Transfer


class HeldClock:
    """Time that moves only by `sleep`."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self.slept: list[float] = []

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._now += seconds

    def advance(self, seconds: float) -> None:
        self._now += seconds


class RecordingReporter:
    """Keeps every notice and warning, and the names of transfers."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.warnings: list[str] = []
        self.transfers: dict[str, CountingTransfer] = {}
        self._lock = threading.Lock()

    def transfer(self, name: str, total_bytes: int | None) -> Transfer:
        with self._lock:
            return self.transfers.setdefault(name, CountingTransfer(total_bytes))

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


class CountingTransfer(NullTransfer):
    """Adds up what it is told."""

    def __init__(self, total_bytes: int | None) -> None:
        self.total_bytes = total_bytes
        self.count = 0
        self.note: str | None = None
        self._lock = threading.Lock()

    def advance(self, count: int) -> None:
        with self._lock:
            self.count += count

    def done(self, note: str = "") -> None:
        self.note = note
