"""`kobuild provenance`: state how an image was made."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kobuild.commands.attaching import (
    attach,
    inspect_own,
    registry_reference,
    require_one_way,
    require_reference,
    subjects,
)
from kobuild.commands.reading import WHERE, require_lock
from kobuild.commands.shared import opened
from kobuild.commands.signing import add_signing_options, signing
from kobuild.explain.documents import Document
from kobuild.explain.imagetree import ImageNode
from kobuild.explain.materials import choose_created
from kobuild.explain.provenance import as_document, find_builder, make_statement, require_own_layers
from kobuild.lock import Lock
from kobuild.oci.config import format_time
from kobuild.oci.digest import Digest
from kobuild.proof import prove
from kobuild.streams import atomic_write
from kobuild.workshop import Workshop


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("image", metavar="REF", help=f"the image that was built here from the lock: {WHERE}")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it here instead of to standard output")
    parser.add_argument("--attach", action="store_true", help="attach it to the image in its registry")
    parser.add_argument(
        "--builder", metavar="URI", help="who built (default: the workflow of GitHub Actions, or local)"
    )
    add_signing_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prove the image, then write the statement or attach it, signed where that is asked for."""
    require_one_way(arguments)
    with opened(arguments) as workshop, signing(arguments, workshop) as sign:
        lock = require_lock(workshop)
        reference = require_reference(arguments.image) if arguments.attach else registry_reference(arguments.image)
        store = workshop.open_here(arguments.image)
        tree = inspect_own(workshop, arguments.image)
        require_own_layers(workshop, lock, prove(workshop, lock, store, [image.platform for image in tree.images]))
        if arguments.attach and reference is not None:
            documents = (
                (subject, _document(arguments, workshop, lock, subject.digest, images, sign=sign))
                for subject, images in subjects(tree)
            )
            attach(arguments, workshop, reference, documents)
            return 0
        document = _document(arguments, workshop, lock, tree.root.digest, list(tree.images), sign=sign)
        if arguments.output is not None:
            atomic_write(Path(arguments.output), document.data)
        else:
            sys.stdout.write(document.data.decode())
    return 0


def _document(
    arguments: argparse.Namespace,
    workshop: Workshop,
    lock: Lock,
    digest: Digest,
    images: list[ImageNode],
    *,
    sign: Callable[[bytes], bytes] | None,
) -> Document:
    builder = find_builder(workshop.environ)
    if arguments.builder is not None:
        builder = replace(builder, id=arguments.builder)
    reference = registry_reference(arguments.image)
    name = reference.repository.name if reference is not None else workshop.settings.folder.name
    platforms = [image.platform for image in images]
    statement = make_statement(workshop, lock, name=name, digest=digest, platforms=platforms, builder=builder)
    return as_document(statement, format_time(choose_created(workshop.source_date_epoch, images[0])), sign)
