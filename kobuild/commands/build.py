"""`kobuild build`: write the image to a layout or an archive."""

from __future__ import annotations

import argparse

from kobuild.build import Build, build
from kobuild.commands.shared import (
    add_lock_options,
    add_platform_option,
    begin_summary,
    chosen_platforms,
    close_build,
    held_digest,
    lock_for_build,
    opened,
)
from kobuild.commands.sharing import add_layer_cache_options, shared_layers
from kobuild.errors import UsageError
from kobuild.repair import with_repairs
from kobuild.report import group
from kobuild.store.locations import Location


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    add_lock_options(parser)
    add_platform_option(parser)
    add_layer_cache_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="oci:dist/image",
        metavar="WHERE",
        help="oci:DIR, oci-archive:FILE or docker-archive:FILE (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Build and write to a local place."""
    with opened(arguments) as workshop:
        location = Location.parse(arguments.output)
        if location is None:
            raise UsageError(
                f"--output {arguments.output}: expected oci:DIR, oci-archive:FILE or docker-archive:FILE",
                hint="kobuild push sends an image to a registry",
            )
        lock = lock_for_build(arguments, workshop)
        platforms = chosen_platforms(arguments, workshop.settings)
        targets = workshop.settings.image.targets

        def attempt() -> Build:
            with group("Make the layers", quiet=arguments.quiet):
                made = build(workshop, lock, platforms, keep_base=True, shared=shared)
            with group("Write the image", quiet=arguments.quiet):
                location.write(made.images, references=targets, reporter=workshop.reporter)
            return made

        summarize = begin_summary(workshop, arguments.output)
        before = held_digest(workshop, arguments.output)
        with shared_layers(arguments, workshop) as shared:
            made = with_repairs(attempt, workshop.reporter)
        summarize(made, ())
    digest = made.images.descriptor.digest
    close_build(arguments, made, [f"{arguments.output}@{digest}"], changed=before != digest)
    return 0
