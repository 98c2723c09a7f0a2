"""`kobuild sbom`: write a bill of materials, or attach it to an image in its registry."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from kobuild.commands.reading import WHERE, add_platform_option, asked_platforms, require_lock
from kobuild.commands.shared import opened, print_json
from kobuild.errors import UsageError
from kobuild.explain.documents import as_artifact
from kobuild.explain.imagetree import ImageTree, inspect_image
from kobuild.explain.materials import Bill, choose_created, make_bill, require_fit
from kobuild.explain.sbom import Form, write_bill
from kobuild.lock import Lock
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.reference import Reference
from kobuild.store.locations import Location
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
    epoch = workshop.source_date_epoch
    if arguments.image is None:
        return make_bill(lock, name=_name(workshop), platforms=platforms, created=choose_created(epoch, None))
    tree = inspect_image(workshop.open_here(arguments.image), platforms=platforms)
    require_fit(lock, tree)
    is_one = bool(platforms) and len(tree.images) == 1
    return make_bill(
        lock,
        name=_name(workshop),
        reference=_reference(arguments.image),
        digest=tree.images[0].manifest.digest if is_one else tree.root.digest,
        platforms=[image.platform for image in tree.images],
        created=choose_created(epoch, tree.images[0] if tree.images else None),
    )


def _name(workshop: Workshop) -> str:
    targets = workshop.settings.image.targets
    return targets[0].repository.name if targets else workshop.settings.folder.name


def _reference(text: str) -> Reference | None:
    return Reference.parse(text) if Location.parse(text) is None else None


def _attach(arguments: argparse.Namespace, workshop: Workshop, lock: Lock, form: Form) -> None:
    """Attach the whole bill to what the reference points at, and to each platform's image its own."""
    if arguments.image is None or (reference := _reference(arguments.image)) is None:
        raise UsageError("--attach: name the image by its reference in a registry", hint="kobuild push prints it")
    tree = inspect_image(workshop.open_here(arguments.image))
    require_fit(lock, tree)
    referrers = workshop.registry.referrers(reference.repository)
    attached = []
    for subject, bill in _bills(workshop, lock, tree, reference):
        descriptor = referrers.push(as_artifact(write_bill(bill, form), subject))
        attached.append({"subject": str(subject.digest), "artifact": f"{reference.repository}@{descriptor.digest}"})
    if arguments.json:
        print_json({"attached": attached})
    else:
        print("\n".join(item["artifact"] for item in attached))


def _bills(workshop: Workshop, lock: Lock, tree: ImageTree, reference: Reference) -> Iterator[tuple[Descriptor, Bill]]:
    """Each subject with its bill: the index, and every image."""
    name, epoch = _name(workshop), workshop.source_date_epoch
    subjects = {image.manifest.digest: (image.manifest.descriptor, [image]) for image in tree.images}
    subjects.setdefault(tree.root.digest, (tree.root.descriptor, list(tree.images)))
    for digest, (descriptor, images) in subjects.items():
        yield (
            descriptor,
            make_bill(
                lock,
                name=name,
                reference=reference,
                digest=digest,
                platforms=[image.platform for image in images],
                created=choose_created(epoch, images[0] if images else None),
            ),
        )
