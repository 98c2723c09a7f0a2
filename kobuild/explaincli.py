"""What can be typed of the commands that prove and explain an image."""

from __future__ import annotations

import argparse
from typing import Final

from kobuild import explaincommands

_WHERE: Final = "oci:DIR, oci-archive:FILE, docker-archive:FILE or a reference"
_FILES: Final = 20

_Subparsers = argparse._SubParsersAction  # noqa: SLF001  # argparse gives its type no public name


def add_commands(subparsers: _Subparsers[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Add the commands to the command line."""
    _add_inspect(_add(subparsers, common, "inspect", "show an image as a tree of layers with what made each"))
    _add_diff(_add(subparsers, common, "diff", "show what differs between two images or locks"))


def _add(
    subparsers: _Subparsers[argparse.ArgumentParser], common: argparse.ArgumentParser, name: str, text: str
) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}."
    return subparsers.add_parser(name, help=text, description=description, parents=[common], allow_abbrev=False)


def _add_platform(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--platform", action="append", default=[], metavar="OS/ARCH", help="only this platform; may be repeated"
    )


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=explaincommands.run_inspect)
    parser.add_argument(
        "image", nargs="?", default="oci:dist/image", metavar="REF", help=f"{_WHERE} (default: %(default)s)"
    )
    parser.add_argument(
        "--files",
        nargs="?",
        type=_count,
        const=_FILES,
        metavar="N",
        help=f"also show the N largest files (default: {_FILES}); reads the layers, or only their tables of contents",
    )
    parser.add_argument(
        "--layer", action="append", default=[], type=_count, metavar="N", help="look for files in this layer alone"
    )
    _add_platform(parser)


def _add_diff(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=explaincommands.run_diff)
    parser.add_argument("old", metavar="OLD", help=f"{_WHERE}; FILE.lock, or - for a lock on standard input")
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument("--markdown", action="store_true", help="write Markdown, for a pull request")
    parser.add_argument("--check", action="store_true", help="exit 4 where something differs")
    parser.add_argument(
        "--files",
        type=_count_or_none,
        default=_FILES,
        metavar="N",
        help="show the N files whose size changed most (default: %(default)s); 0 reads no layers",
    )
    parser.add_argument("--shared", action="store_true", help="also read the layers that both images have")
    _add_platform(parser)


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text}")
    return number
