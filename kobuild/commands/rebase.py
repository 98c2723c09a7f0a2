"""`kobuild rebase`: put the pushed image's tool layers on the base as it is now."""

from __future__ import annotations

import argparse

from kobuild.commands.output import print_json
from kobuild.commands.reading import EXIT_NEWS, require_lock
from kobuild.commands.shared import opened, say
from kobuild.lock import save
from kobuild.push import choose_targets
from kobuild.rebase import find_new_base, rebase
from kobuild.report import format_size


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument(
        "image", nargs="?", metavar="REF", help="the image that was built from the lock (default: the settings' target)"
    )
    parser.add_argument(
        "--target", action="append", default=[], metavar="REF", help="push here instead of the settings' target"
    )
    parser.add_argument(
        "-t", "--tag", action="append", default=[], metavar="TAG", help="push under this tag instead of the target's"
    )
    parser.add_argument("--check", action="store_true", help="write and push nothing; exit 4 if the base has moved")


def run(arguments: argparse.Namespace) -> int:
    """Rebase, push, and write the lock; where the base has not moved, do nothing."""
    with opened(arguments) as workshop:
        lock = require_lock(workshop)
        targets = choose_targets(workshop.settings, arguments.tag)
        new_base = find_new_base(workshop, lock)
        if new_base is None:
            say(workshop, f"the base {workshop.settings.image.base} has not moved")
            if arguments.json:
                print_json({"moved": False, "images": []})
            return 0
        rebased = rebase(workshop, lock, workshop.open_here(arguments.image or str(targets[0])), new_base)
        if not arguments.check:
            result = workshop.registry.push(rebased.images, targets, workshop.reporter)
            say(workshop, f"uploaded {format_size(result.bytes_sent)} in {result.uploaded} blobs")
            save(workshop.settings.lock_path, rebased.lock)
        images = [f"{target}@{rebased.images.descriptor.digest}" for target in targets]
        if arguments.json:
            print_json({"moved": True, "base": new_base.digest, "images": images})
        else:
            print("\n".join(images))
    return EXIT_NEWS if arguments.check else 0
