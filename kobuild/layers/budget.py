"""Memory that all layers being made at the same time share: one alone may be quick, many together stay small."""

from __future__ import annotations

import functools
import threading
from typing import Final

_M_ARENA_MAX: Final = -8
"""Of mallopt(3)."""
_M_MMAP_THRESHOLD: Final = -3
_M_TRIM_THRESHOLD: Final = -1
_ARENAS: Final = 2
_MAPPED_BYTES: Final = 4 * 1024 * 1024
"""From here on memory is the system's again as soon as it is freed: compressors have such pieces."""


class Budget:
    """So many bytes for buffers that make work faster, and that it can do without."""

    def __init__(self, total_bytes: int) -> None:
        self._left = total_bytes
        self._lock = threading.Lock()

    def try_take(self, count: int) -> bool:
        """Whether `count` bytes were left; then they are the caller's until it gives them back."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def give_back(self, count: int) -> None:
        """`count` bytes are no longer in use."""
        with self._lock:
            self._left += count


SPARE_BUFFERS: Final = Budget(24 * 1024 * 1024)
"""Of this process. One layer never needs all of it."""


@functools.cache
def limit_arenas() -> None:
    """Let the C library keep freed memory in two places rather than in one a thread; does nothing elsewhere than glibc.

    Each layer has threads of its own, and with each of those some megabytes would stay behind. Large pieces go back to
    the system, always: glibc raises that bound as it goes. For a process that is kobuild's own.
    """
    try:
        import ctypes  # noqa: PLC0415 - only for making layers

        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, _ARENAS)
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _MAPPED_BYTES)
    except (ImportError, OSError, AttributeError, TypeError):
        return
