"""How commands attach documents to an image in its registry: one to the index, and one to each platform's image."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kobuild.commands.output import print_json
from kobuild.errors import UsageError
from kobuild.explain.documents import Document, as_artifact
from kobuild.explain.imagetree import ImageNode, ImageTree, inspect_image
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.store.locations import Location
from kobuild.workshop import Workshop


def registry_reference(text: str | None) -> Reference | None:
    """The reference that `text` is; None for local places and for nothing."""
    return Reference.parse(text) if text is not None and Location.parse(text) is None else None


def require_one_way(arguments: argparse.Namespace) -> None:
    """Raise UsageError where a document is to be attached and written to a file: each image would have its own."""
    if arguments.attach and arguments.output is not None:
        raise UsageError(
            "--attach and --output: what is attached is written to no file", hint="run the command once for each"
        )


def require_reference(text: str | None) -> Reference:
    """The reference to attach to; raises UsageError where `text` is none."""
    reference = registry_reference(text)
    if reference is None:
        raise UsageError("--attach: name the image by its reference in a registry", hint="kobuild push prints it")
    return reference


def inspect_own(workshop: Workshop, text: str, platforms: Sequence[Platform] = ()) -> ImageTree:
    """The tree of an image that was built here, of `platforms` or of all, without those that it keeps of its base.

    Raises UsageError where nothing is left, and what reading it raises.
    """
    tree = inspect_image(workshop.open_here(text), platforms=platforms)
    image = workshop.settings.image
    if not image.keeps_other_platforms:
        return tree
    own = tuple(node for node in tree.images if node.platform in image.platforms)
    if not own:
        there = ", ".join(str(node.platform) for node in tree.images) or "nothing"
        raise UsageError(
            f"{text}: of {there} nothing was built here", hint="the settings keep it of the base, as it is"
        )
    return replace(tree, images=own)


def subjects(tree: ImageTree) -> list[tuple[Descriptor, list[ImageNode]]]:
    """What a document is about: each image, and at last the index with all of them, where there is one."""
    found = {image.manifest.digest: (image.manifest.descriptor, [image]) for image in tree.images}
    found.setdefault(tree.root.digest, (tree.root.descriptor, list(tree.images)))
    return list(found.values())


def attach(
    arguments: argparse.Namespace,
    workshop: Workshop,
    reference: Reference,
    documents: Iterable[tuple[Descriptor, Document]],
) -> None:
    """Push each document as an artifact about its subject, and print what was pushed."""
    referrers = workshop.registry.referrers(reference.repository)
    attached = []
    for subject, document in documents:
        descriptor = referrers.push(as_artifact(document, subject))
        attached.append({"subject": str(subject.digest), "artifact": f"{reference.repository}@{descriptor.digest}"})
    if arguments.json:
        print_json({"attached": attached})
    else:
        print("\n".join(item["artifact"] for item in attached))
