"""`kobuild sbom`: write a bill of materials, or attach it to an image in its registry."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kobuild.commands.attaching import (
    attach,
    inspect_own,
    registry_reference,
    require_one_way,
    require_reference,
    subjects,
)
from kobuild.commands.reading import WHERE, add_platform_option, asked_platforms, require_lock
from kobuild.commands.shared import opened
from kobuild.explain.imagetree import ImageNode
from kobuild.explain.materials import Bill, choose_created, make_bill, require_fit
from kobuild.explain.sbom import Form, write_bill
from kobuild.lock import Lock
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Reference
from kobuild.streams import atomic_write
from kobuild.workshop import Workshop


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("image", nargs="?", metavar="REF", help=f"the image that was built from the lock: {WHERE}")
    forms = [form.value for form in Form]
    parser.add_argument("--format", choices=forms, default=Form.SPDX.value, help="(default: %(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it here instead of to standard output")
    parser.add_argument("--attach", action="store_true", help="attach it to the image in its registry")
    add_platform_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the bill, or attach it."""
    require_one_way(arguments)
    form = Form(arguments.format)
    with opened(arguments) as workshop:
        lock = require_lock(workshop)
        if arguments.attach:
            _attach(arguments, workshop, lock, form)
            return 0
        document = write_bill(_bill(arguments, workshop, lock), form)
        if arguments.output is not None:
            atomic_write(Path(arguments.output), document.data)
        else:
            sys.stdout.write(document.data.decode())
    return 0


def _bill(arguments: argparse.Namespace, workshop: Workshop, lock: Lock) -> Bill:
    """The bill of the lock, or of the image where one is named."""
    platforms = asked_platforms(arguments)
    if arguments.image is None:
        created = choose_created(workshop.source_date_epoch, None)
        return make_bill(
            lock, name=image_name(workshop), platforms=platforms, created=created, licenses=licenses(workshop)
        )
    tree = inspect_own(workshop, arguments.image, platforms)
    require_fit(lock, tree)
    is_one = bool(platforms) and len(tree.images) == 1
    digest = tree.images[0].manifest.digest if is_one else tree.root.digest
    return _image_bill(workshop, lock, registry_reference(arguments.image), digest, tree.images)


def _image_bill(
    workshop: Workshop, lock: Lock, reference: Reference | None, digest: Digest, images: Sequence[ImageNode]
) -> Bill:
    return make_bill(
        lock,
        name=image_name(workshop),
        reference=reference,
        digest=digest,
        platforms=[image.platform for image in images],
        created=choose_created(workshop.source_date_epoch, images[0] if images else None),
        licenses=licenses(workshop),
    )


def licenses(workshop: Workshop) -> dict[str, str]:
    """The settings' own words about licences, by tool."""
    return {tool.name: tool.license for tool in workshop.settings.tools if tool.license}


def image_name(workshop: Workshop) -> str:
    """What the image is called: its first target's repository, else the settings' folder."""
    targets = workshop.settings.image.targets
    return targets[0].repository.name if targets else workshop.settings.folder.name


def _attach(arguments: argparse.Namespace, workshop: Workshop, lock: Lock, form: Form) -> None:
    reference = require_reference(arguments.image)
    tree = inspect_own(workshop, arguments.image)
    require_fit(lock, tree)
    bills = (
        (subject, _image_bill(workshop, lock, reference, subject.digest, images)) for subject, images in subjects(tree)
    )
    attach(arguments, workshop, reference, ((subject, write_bill(bill, form)) for subject, bill in bills))
