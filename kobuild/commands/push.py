"""`kobuild push`: build the image and push it to its targets."""

from __future__ import annotations

import argparse

from kobuild.build import Build, build
from kobuild.commands.shared import (
    add_lock_options,
    add_platform_option,
    chosen_platforms,
    close_build,
    lock_for_build,
    opened,
    tell,
)
from kobuild.push import choose_targets, push
from kobuild.registry import PushResult
from kobuild.repair import with_repairs
from kobuild.report import format_size


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    add_lock_options(parser)
    add_platform_option(parser)
    parser.add_argument(
        "--target", action="append", default=[], metavar="REF", help="push here instead of the settings' target"
    )
    parser.add_argument(
        "-t", "--tag", action="append", default=[], metavar="TAG", help="push under this tag instead of the target's"
    )


def run(arguments: argparse.Namespace) -> int:
    """Build and push."""
    with opened(arguments) as workshop:
        targets = choose_targets(workshop.settings, arguments.tag)
        lock = lock_for_build(arguments, workshop)
        platforms = chosen_platforms(arguments, workshop.settings)

        def attempt() -> tuple[Build, PushResult]:
            made = build(workshop, lock, platforms)
            return made, push(workshop, made, targets)

        made, result = with_repairs(attempt, workshop.reporter)
    tell(arguments, f"uploaded {format_size(result.bytes_sent)} in {result.uploaded} blobs, mounted {result.mounted}")
    close_build(arguments, made, [f"{target}@{made.images.descriptor.digest}" for target in targets])
    return 0
