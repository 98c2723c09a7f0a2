"""`kobuild inspect`: show an image as a tree (the standard library has a module of the command's own name)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from kobuild.commands.output import print_json, print_text
from kobuild.commands.reading import (
    SHOWN_FILES,
    WHERE,
    add_platform_option,
    add_whole_option,
    asked_platforms,
    parse_count,
)
from kobuild.commands.reading import reading as opened
from kobuild.errors import UsageError
from kobuild.explain.entries import printable
from kobuild.explain.imagetree import ImageTree, inspect_image
from kobuild.explain.treeview import tree_json, tree_text
from kobuild.image.store import ImageStore
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.report import format_table


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument(
        "image", nargs="?", default="oci:dist/image", metavar="REF", help=f"{WHERE} (default: %(default)s)"
    )
    parser.add_argument(
        "--files",
        nargs="?",
        type=parse_count,
        const=SHOWN_FILES,
        metavar="N",
        help=f"also show the N largest files (default: {SHOWN_FILES}); reads layers, or only their tables of contents",
    )
    parser.add_argument(
        "--layer", action="append", default=[], type=parse_count, metavar="N", help="look for files in this layer alone"
    )
    parser.add_argument(
        "--artifacts",
        action="store_true",
        help="also list what the registry has about it: signatures, SBOMs, statements",
    )
    add_whole_option(parser)
    add_platform_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show an image as a tree."""
    with opened(arguments) as reading:
        count = arguments.files or 0
        store = reading.open(arguments.image)
        tree = inspect_image(
            store,
            platforms=asked_platforms(arguments),
            files=count > 0,
            layers=arguments.layer,
            whole=arguments.whole,
            reporter=reading.reporter,
        )
        artifacts = list_artifacts(store, tree) if arguments.artifacts else None
    if arguments.json:
        listed = {} if artifacts is None else {"artifacts": [_artifact_json(*item) for item in artifacts]}
        print_json({**tree_json(tree, count), **listed})
    else:
        print_text(tree_text(tree, count))
        if artifacts is not None:
            print_text(_artifact_table(artifacts))
    return 0


def list_artifacts(store: ImageStore, tree: ImageTree) -> list[tuple[Digest, str, Descriptor]]:
    """What the registry has about the image: subject, what that is, and the artifact.

    Raises UsageError for an image that is not in a registry, and RegistryError.
    """
    find: Callable[[Digest], tuple[Descriptor, ...]] | None = getattr(store, "referrers", None)
    if find is None:
        raise UsageError(
            f"--artifacts: {store.name} is not in a registry", hint="name the image by its reference in a registry"
        )
    subjects = {image.manifest.digest: str(image.platform) for image in tree.images}
    subjects.setdefault(tree.root.digest, "index")
    return [(subject, name, item) for subject, name in subjects.items() for item in find(subject)]


def _artifact_json(subject: Digest, _: str, artifact: Descriptor) -> dict[str, Any]:
    return {
        "subject": str(subject),
        "type": artifact.artifact_type,
        "digest": str(artifact.digest),
        "size": artifact.size,
        "annotations": dict(artifact.annotations),
    }


def _artifact_table(artifacts: Sequence[tuple[Digest, str, Descriptor]]) -> str:
    if not artifacts:
        return "no artifacts"
    rows = [(printable(item.artifact_type or ""), name, str(item.digest)) for _, name, item in artifacts]
    return format_table(("artifact", "about", "digest"), rows)
