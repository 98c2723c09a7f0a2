"""`kobuild outdated`: show what could move."""

from __future__ import annotations

import argparse

from kobuild.commands.output import print_json, print_text
from kobuild.commands.reading import EXIT_NEWS, require_lock
from kobuild.commands.shared import opened
from kobuild.explain.outdated import find_news
from kobuild.explain.outdatedview import news_json, news_text


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument(
        "--beyond", action="store_true", help="exit 4 also where only a release beyond its pin is newer"
    )


def run(arguments: argparse.Namespace) -> int:
    """Show what could move; exit 4 where something could within the pins, with --beyond also beyond them."""
    with opened(arguments) as workshop:
        news = find_news(workshop, require_lock(workshop))
        if arguments.json:
            print_json(news_json(news))
        else:
            print_text(news_text(news))
    return EXIT_NEWS if news.can_move or (arguments.beyond and news.goes_beyond) else 0
