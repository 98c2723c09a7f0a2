"""`kobuild push`: build the image and push it to its targets."""

from __future__ import annotations

import argparse

from kobuild.build import Build, build
from kobuild.commands.shared import (
    add_lock_options,
    add_platform_option,
    begin_summary,
    chosen_platforms,
    close_build,
    lock_for_build,
    opened,
    tell,
)
from kobuild.push import choose_targets, push
from kobuild.registry import PushResult
from kobuild.repair import with_repairs
from kobuild.report import format_size, group


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
            with group("Make the layers", quiet=arguments.quiet):
                made = build(workshop, lock, platforms)
            with group("Push", quiet=arguments.quiet):
                return made, push(workshop, made, targets)

        summarize = begin_summary(workshop, str(targets[0]))
        made, result = with_repairs(attempt, workshop.reporter)
        summarize(made, targets)
    tell(arguments, f"uploaded {format_size(result.bytes_sent)} in {result.uploaded} blobs, mounted {result.mounted}")
    images = [f"{target}@{made.images.descriptor.digest}" for target in targets]
    close_build(arguments, made, images, changed=len(result.unchanged) < len(targets))
    return 0
