"""What long work tells about itself, without knowing who listens.

The library reports through a `Reporter` that is handed in; `report` draws bars or writes lines, tests record.
"""

from __future__ import annotations

from typing import Protocol


class Transfer(Protocol):
    """One moving count of bytes."""

    def advance(self, count: int) -> None:
        """Count `count` more bytes; may be called from any thread."""

    def done(self, note: str = "") -> None:
        """The work is over; `note` is a word on how, such as `cached`."""


class Reporter(Protocol):
    """Where progress and notices go; every method may be called from any thread."""

    def transfer(self, name: str, total_bytes: int | None) -> Transfer:
        """Start a count for `name`; `total_bytes` is None where the size is not known."""

    def notice(self, text: str) -> None:
        """Something that a person may want to know."""

    def warning(self, text: str) -> None:
        """Something that a person should look at."""


class NullTransfer:
    """A transfer that nobody watches."""

    def advance(self, count: int) -> None:
        """Do nothing."""

    def done(self, note: str = "") -> None:
        """Do nothing."""


class NullReporter:
    """A reporter that nobody listens to."""

    def transfer(self, name: str, total_bytes: int | None) -> Transfer:
        """Return a transfer that counts nothing."""
        return NullTransfer()

    def notice(self, text: str) -> None:
        """Do nothing."""

    def warning(self, text: str) -> None:
        """Do nothing."""
