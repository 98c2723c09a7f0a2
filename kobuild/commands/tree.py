"""`kobuild inspect`: show an image as a tree (the standard library has a module of the command's own name)."""

from __future__ import annotations

import argparse

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
from kobuild.explain.imagetree import inspect_image
from kobuild.explain.treeview import tree_json, tree_text


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
    add_whole_option(parser)
    add_platform_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show an image as a tree."""
    with opened(arguments) as reading:
        count = arguments.files or 0
        tree = inspect_image(
            reading.open(arguments.image),
            platforms=asked_platforms(arguments),
            files=count > 0,
            layers=arguments.layer,
            whole=arguments.whole,
            reporter=reading.reporter,
        )
        if arguments.json:
            print_json(tree_json(tree, count))
        else:
            print_text(tree_text(tree, count))
    return 0
