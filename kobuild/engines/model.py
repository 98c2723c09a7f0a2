"""What the flows ask of a container engine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from kobuild.errors import ProgramError
from kobuild.frozen import frozen
from kobuild.oci.platforms import Platform


class EngineUnfit(ProgramError):
    """The engine itself cannot do what is asked, on this machine: nothing is said of the image."""


@frozen
class Outcome:
    """How a program ended."""

    code: int | None
    """Its exit code, negative for a signal; None where it had to be stopped after its time."""
    output: str
    """The last of what it wrote to standard output and standard error."""
    seconds: float


class Handed(Protocol):
    """An image that an engine has."""

    def run(self, command: Sequence[str], seconds: float) -> Outcome:
        """Run a program in a container of its own, as the image's user, without network where the engine can.

        The image's entrypoint is not used. Raises EngineUnfit where no container can be started.
        """


class Engine(Protocol):
    """One engine."""

    @property
    def name(self) -> str:
        """The program's name."""

    def check(self) -> None:
        """Raise EngineUnfit where it is not installed, or where its service does not answer."""

    def take(self, archive: Path, name: str, platform: Platform) -> AbstractContextManager[Handed]:
        """Hand the image over that `archive` (`docker save`'s form) calls `name`; it is removed at the end."""
