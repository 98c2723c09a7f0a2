"""Jobs in a few threads; the first failure stops the rest."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from kobuild.errors import KobuildError
from kobuild.streams import Readable

T = TypeVar("T")
WORKERS: Final = 16
"""Enough that waiting for answers costs little on a slow link; few enough not to trouble a registry."""
_PATIENCE_SECONDS: Final = 2.0
"""How long a failed run waits for its other threads, which stop at their next read."""


class Stop:
    """A word to all jobs that their result is no longer wanted."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Give the word."""
        self._event.set()

    def check(self) -> None:
        """Raise once the word was given."""
        if self._event.is_set():
            raise _StoppedError("stopped, since something else failed")


class _StoppedError(KobuildError):
    """A job that ended because of another one's failure."""


class StoppableReader:
    """A reader that ends with an error once its work is no longer wanted."""

    def __init__(self, source: Readable, stop: Stop) -> None:
        self._source = source
        self._stop = stop

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes."""
        self._stop.check()
        return self._source.read(size)


def run_all(jobs: Iterable[Callable[[], T]], stop: Stop, *, workers: int = WORKERS) -> list[T]:
    """Run all jobs, and return their results in order; the first exception stops the rest and is raised.

    Threads are daemons: an interrupted process does not wait for a server that says nothing.
    """
    waiting = list(jobs)
    if len(waiting) == 1:
        return [waiting[0]()]
    run = _Run(waiting, stop)
    threads = [threading.Thread(target=run.work, daemon=True) for _ in range(min(workers, len(waiting)))]
    for thread in threads:
        thread.start()
    try:
        run.wait_for(len(waiting))
    except BaseException as error:
        stop.set()
        run.drop_waiting()
        # Whoever interrupts has no patience.
        seconds = 0 if isinstance(error, KeyboardInterrupt) else _PATIENCE_SECONDS / len(threads)
        for thread in threads:
            thread.join(seconds)
        raise
    for thread in threads:
        thread.join()
    return [run.results[number] for number in range(len(waiting))]


class _Run(Generic[T]):
    """One run's queues."""

    def __init__(self, jobs: list[Callable[[], T]], stop: Stop) -> None:
        self._stop = stop
        self._waiting: queue.SimpleQueue[tuple[int, Callable[[], T]]] = queue.SimpleQueue()
        for numbered in enumerate(jobs):
            self._waiting.put(numbered)
        self.results: dict[int, T] = {}
        self.finished: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def wait_for(self, count: int) -> None:
        """Wait until that many jobs are done; raises the first failure."""
        for _ in range(count):
            failure = self.finished.get()
            if failure is not None:
                raise failure

    def drop_waiting(self) -> None:
        """Forget the jobs that no thread has taken yet."""
        while self._take() is not None:
            pass

    def work(self) -> None:
        """Take jobs until there are none, or one fails."""
        while (taken := self._take()) is not None:
            number, job = taken
            try:
                self._stop.check()
                self.results[number] = job()
            except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
                self.finished.put(error)
                return
            self.finished.put(None)

    def _take(self) -> tuple[int, Callable[[], T]] | None:
        try:
            return self._waiting.get_nowait()
        except queue.Empty:
            return None
