"""`kobuild sbom`: write a bill of materials, or attach it to an image in its registry, signed or not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
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
from kobuild.commands.signing import add_signing_options, signing
from kobuild.errors import UsageError
from kobuild.explain.documents import Document
from kobuild.explain.imagetree import ImageNode
from kobuild.explain.materials import choose_created, make_bill, require_fit
from kobuild.explain.sbom import Form, sign_bill, write_bill
from kobuild.frozen import frozen
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
    add_signing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the bill, or attach it."""
    require_one_way(arguments)
    if arguments.image is None and (arguments.sign or arguments.key is not None):
        raise UsageError("--sign and --key: what is signed is about an image", hint="name the image: kobuild sbom REF")
    with opened(arguments) as workshop, signing(arguments, workshop) as sign:
        lock = require_lock(workshop)
        writer = _Writer(workshop, lock, Form(arguments.format), registry_reference(arguments.image), sign)
        if arguments.attach:
            _attach(arguments, workshop, lock, writer)
            return 0
        document = _document(arguments, workshop, lock, writer)
        if arguments.output is not None:
            atomic_write(Path(arguments.output), document.data)
        else:
            sys.stdout.write(document.data.decode())
    return 0


@frozen
class _Writer:
    """Writes the bills of one image."""

    workshop: Workshop
    lock: Lock
    form: Form
    reference: Reference | None
    sign: Callable[[bytes], bytes] | None

    def write(self, digest: Digest, images: Sequence[ImageNode]) -> Document:
        """The bill of `digest`, an image or an index of `images`, signed where there is something to sign with."""
        bill = make_bill(
            self.lock,
            name=image_name(self.workshop),
            reference=self.reference,
            digest=digest,
            platforms=[image.platform for image in images],
            created=choose_created(self.workshop.source_date_epoch, images[0] if images else None),
            licenses=licenses(self.workshop),
        )
        document = write_bill(bill, self.form)
        if self.sign is None:
            return document
        name = self.reference.repository.name if self.reference is not None else bill.name
        return sign_bill(document, self.form, name, digest, self.sign)


def _document(arguments: argparse.Namespace, workshop: Workshop, lock: Lock, writer: _Writer) -> Document:
    """The bill of the lock, or of the image where one is named."""
    platforms = asked_platforms(arguments)
    if arguments.image is None:
        created = choose_created(workshop.source_date_epoch, None)
        bill = make_bill(
            lock, name=image_name(workshop), platforms=platforms, created=created, licenses=licenses(workshop)
        )
        return write_bill(bill, writer.form)
    tree = inspect_own(workshop, arguments.image, platforms)
    require_fit(lock, tree)
    is_one = bool(platforms) and len(tree.images) == 1
    return writer.write(tree.images[0].manifest.digest if is_one else tree.root.digest, tree.images)


def licenses(workshop: Workshop) -> dict[str, str]:
    """The settings' own words about licences, by tool."""
    return {tool.name: tool.license for tool in workshop.settings.tools if tool.license}


def image_name(workshop: Workshop) -> str:
    """What the image is called: its first target's repository, else the settings' folder."""
    targets = workshop.settings.image.targets
    return targets[0].repository.name if targets else workshop.settings.folder.name


def _attach(arguments: argparse.Namespace, workshop: Workshop, lock: Lock, writer: _Writer) -> None:
    reference = require_reference(arguments.image)
    tree = inspect_own(workshop, arguments.image)
    require_fit(lock, tree)
    bills = ((subject, writer.write(subject.digest, images)) for subject, images in subjects(tree))
    attach(arguments, workshop, reference, bills)
