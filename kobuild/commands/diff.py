"""`kobuild diff`: show what differs between two images or locks."""

from __future__ import annotations

import argparse

from kobuild.commands.output import print_json, print_text
from kobuild.commands.reading import (
    EXIT_NEWS,
    SHOWN_FILES,
    WHERE,
    add_platform_option,
    add_whole_option,
    asked_platforms,
    parse_count_or_none,
)
from kobuild.commands.reading import reading as opened
from kobuild.errors import UsageError
from kobuild.explain.diffmarkdown import diff_markdown
from kobuild.explain.diffview import diff_json, diff_text
from kobuild.explain.imagediff import compare
from kobuild.explain.subjects import STDIN, open_subject


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("old", metavar="OLD", help=f"{WHERE}; FILE.lock, or - for a lock on standard input")
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument("--markdown", action="store_true", help="write Markdown, for a pull request")
    parser.add_argument("--check", action="store_true", help="exit 4 where something differs")
    parser.add_argument(
        "--files",
        type=parse_count_or_none,
        default=SHOWN_FILES,
        metavar="N",
        help="show the N files whose size changed most (default: %(default)s); 0 reads no layers",
    )
    parser.add_argument("--shared", action="store_true", help="also read the layers that both images have")
    add_whole_option(parser)
    add_platform_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show what differs; with --check, exit 4 where something does."""
    with opened(arguments) as reading:
        if arguments.old == arguments.new == STDIN:
            raise UsageError(
                "diff: both sides cannot be read from standard input", hint="give one of them as FILE.lock"
            )
        old, new = (open_subject(text, reading.folder, reading.open) for text in (arguments.old, arguments.new))
        diff = compare(
            old,
            new,
            platforms=asked_platforms(arguments),
            files=arguments.files > 0,
            shared=arguments.shared,
            whole=arguments.whole,
            reporter=reading.reporter,
        )
        if arguments.json:
            print_json(diff_json(diff))
        else:
            print_text((diff_markdown if arguments.markdown else diff_text)(diff, arguments.files))
    return EXIT_NEWS if arguments.check and not diff.is_empty else 0
