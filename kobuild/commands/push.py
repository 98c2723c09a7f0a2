"""`kobuild push`: build the image and push it to its targets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing

from kobuild.build import Build, build
from kobuild.commands.shared import (
    add_lock_options,
    add_platform_option,
    add_target_options,
    begin_summary,
    chosen_platforms,
    close_build,
    lock_for_build,
    opened,
    require_network,
    tell,
)
from kobuild.commands.sharing import add_layer_cache_options, is_mounted, shared_layers
from kobuild.headstart import HeadStart
from kobuild.oci.reference import Reference
from kobuild.push import choose_targets, push, push_by_digest
from kobuild.registry import PushResult
from kobuild.repair import with_repairs
from kobuild.report import format_size, group


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    add_lock_options(parser)
    add_platform_option(parser)
    add_layer_cache_options(parser)
    add_target_options(parser).add_argument(
        "--by-digest",
        action="store_true",
        help="push each platform's image alone and under its digest, into the first target's repository, for `index`",
    )


def run(arguments: argparse.Namespace) -> int:
    """Build and push."""
    require_network(arguments, "push")
    with opened(arguments) as workshop:
        targets = choose_targets(workshop.settings, arguments.tag)
        lock = lock_for_build(arguments, workshop)
        platforms = chosen_platforms(arguments, workshop.settings)
        beside = workshop.settings.image.platforms if arguments.by_digest else ()

        def attempt() -> tuple[Build, Sequence[Reference], PushResult]:
            with closing(HeadStart(workshop.registry, targets[0])) as start:
                return build_and_push(start)

        def build_and_push(start: HeadStart) -> tuple[Build, Sequence[Reference], PushResult]:
            # What the layer cache of the same registry is given is mounted from there, and need not be sent ahead.
            # Nor is anything where the tags may forbid the push.
            watch = None if arguments.keep_tags or is_mounted(shared, targets[0]) else start
            with group("Make the layers", quiet=arguments.quiet):
                made = build(workshop, lock, platforms, beside=beside, watch=watch, shared=shared)
            with group("Push", quiet=arguments.quiet):
                if arguments.by_digest:
                    return made.without_index, *push_by_digest(workshop, made, targets[0], start.uploads)
                moves = not arguments.keep_tags
                return made, targets, push(workshop, made, targets, start.uploads, move_tags=moves)

        # What is pushed by digest replaces nothing, so there is nothing to compare it with.
        summarize = begin_summary(workshop, str(targets[0]), compares=not arguments.by_digest)
        with shared_layers(arguments, workshop) as shared:
            made, names, result = with_repairs(attempt, workshop.reporter)
        summarize(made, () if arguments.by_digest else names)
    tell(arguments, f"uploaded {format_size(result.bytes_sent)} in {result.uploaded} blobs, mounted {result.mounted}")
    digest = made.images.descriptor.digest
    images = [str(name) if arguments.by_digest else f"{name}@{digest}" for name in names]
    close_build(arguments, made, images, changed=len(result.unchanged) < len(names))
    return 0
