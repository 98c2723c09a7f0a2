"""What the commands begin with that look at images: nothing of a kobuild.toml, which need not be there."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kobuild.base import open_store
from kobuild.errors import LockError, UsageError
from kobuild.frozen import frozen
from kobuild.image.store import ImageStore
from kobuild.lock import Lock, load
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.progress import Reporter
from kobuild.report import reporting

if TYPE_CHECKING:
    from kobuild.workshop import Workshop

EXIT_NEWS: Final = 4
"""Something differs, or something could move."""
WHERE: Final = "oci:DIR, oci-archive:FILE, docker-archive:FILE or a reference"
SHOWN_FILES: Final = 20


@frozen
class Reading:
    """What it takes to read images."""

    folder: Path
    """What relative paths are relative to."""
    reporter: Reporter
    open: Callable[[str], ImageStore]
    """Opens `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE` or a reference."""


@contextmanager
def reading(arguments: argparse.Namespace) -> Iterator[Reading]:
    """Open what the common options say, for the length of a block."""
    folder = Path(arguments.directory) if arguments.directory is not None else Path()
    with reporting(quiet=arguments.quiet) as reporter, ExitStack() as stack:
        reached: list[Callable[[Reference], ImageStore]] = []

        def open_registry(reference: Reference) -> ImageStore:
            if arguments.offline:
                raise UsageError(f"read {reference}: --offline forbids the network")
            # What lies on this machine is read without the network's code being imported.
            from kobuild.commands.reaching import reach  # noqa: PLC0415

            if not reached:
                reached.append(stack.enter_context(reach(arguments, folder, reporter)))
            return reached[0](reference)

        yield Reading(folder, reporter, partial(open_store, folder=folder, open_registry=open_registry))


def add_platform_option(parser: argparse.ArgumentParser) -> None:
    """--platform, for any platform that an image may have."""
    parser.add_argument(
        "--platform", action="append", default=[], metavar="OS/ARCH", help="only this platform; may be repeated"
    )


def add_whole_option(parser: argparse.ArgumentParser) -> None:
    """--whole."""
    parser.add_argument(
        "--whole", action="store_true", help="read layers to their end even where a table of contents would do"
    )


def asked_platforms(arguments: argparse.Namespace) -> tuple[Platform, ...]:
    """Those that were asked for; empty means all."""
    return tuple(dict.fromkeys(Platform.parse(part) for text in arguments.platform for part in text.split(",")))


def parse_count(text: str) -> int:
    """A number from 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text}")
    return number


def parse_count_or_none(text: str) -> int:
    """A number from 0, for argparse."""
    return 0 if text == "0" else parse_count(text)


def require_lock(workshop: Workshop) -> Lock:
    """The lock beside the settings; raises LockError where there is none."""
    path = workshop.settings.lock_path
    lock = load(path)
    if lock is None:
        raise LockError(f"{path} is missing", hint="run `kobuild resolve`, which locks everything at its newest")
    return lock
