"""What the commands that prove and explain an image do; none of them changes one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from kobuild.base import open_store
from kobuild.commands.shared import opened
from kobuild.errors import LockError, UsageError
from kobuild.explain.diffmarkdown import diff_markdown
from kobuild.explain.diffview import diff_json, diff_text
from kobuild.explain.imagediff import compare
from kobuild.explain.imagetree import inspect_image
from kobuild.explain.outdated import find_news
from kobuild.explain.outdatedview import news_json, news_text
from kobuild.explain.subjects import open_subject
from kobuild.explain.treeview import tree_json, tree_text
from kobuild.image.store import ImageStore
from kobuild.lock import load
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.progress import Reporter
from kobuild.registry import RegistryClient, RegistryStore
from kobuild.report import reporting
from kobuild.transport import Transport

EXIT_NEWS: Final = 4
"""With --check: something differs, or something could move."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What it takes to read images, without any settings."""

    folder: Path
    """What relative paths are relative to."""
    reporter: Reporter
    open: Callable[[str], ImageStore]
    """Opens `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE` or a reference."""


@contextmanager
def _reading(arguments: argparse.Namespace) -> Iterator[Reading]:
    """Images can be looked at where there is no kobuild.toml."""
    folder = Path(arguments.directory) if arguments.directory is not None else Path()
    with reporting(quiet=arguments.quiet) as reporter:
        transport = Transport(reporter=reporter, insecure_hosts=arguments.insecure_registry)
        client = RegistryClient(transport)

        def open_registry(reference: Reference) -> ImageStore:
            if arguments.offline:
                raise UsageError(f"read {reference}: --offline forbids the network")
            return RegistryStore(client, reference)

        try:
            opener = partial(open_store, folder=folder, open_registry=open_registry)
            yield Reading(folder, reporter, opener)
        finally:
            transport.close()


def _platforms(arguments: argparse.Namespace) -> tuple[Platform, ...]:
    return tuple(dict.fromkeys(Platform.parse(part) for text in arguments.platform for part in text.split(",")))


def _print(text: str) -> None:
    """Write the result; a name that the terminal's encoding lacks is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, indent=2))


def run_diff(arguments: argparse.Namespace) -> int:
    """Show what differs between two images or locks; with --check, exit 4 where something does."""
    with _reading(arguments) as reading:
        old, new = (open_subject(text, reading.folder, reading.open) for text in (arguments.old, arguments.new))
        diff = compare(
            old,
            new,
            platforms=_platforms(arguments),
            files=arguments.files > 0,
            shared=arguments.shared,
            reporter=reading.reporter,
        )
        if arguments.json:
            _print_json(diff_json(diff))
        else:
            _print((diff_markdown if arguments.markdown else diff_text)(diff, arguments.files))
    return EXIT_NEWS if arguments.check and not diff.is_empty else 0


def run_outdated(arguments: argparse.Namespace) -> int:
    """Show what could move; exit 4 where something could within the pins, with --beyond also beyond them."""
    with opened(arguments) as workshop:
        path = workshop.settings.lock_path
        lock = load(path)
        if lock is None:
            raise LockError(f"{path} is missing", hint="run `kobuild resolve`, which locks everything at its newest")
        news = find_news(workshop, lock)
        if arguments.json:
            _print_json(news_json(news))
        else:
            _print(news_text(news))
    return EXIT_NEWS if news.can_move or (arguments.beyond and news.goes_beyond) else 0


def run_inspect(arguments: argparse.Namespace) -> int:
    """Show an image as a tree."""
    with _reading(arguments) as reading:
        store = reading.open(arguments.image)
        count = arguments.files or 0
        tree = inspect_image(
            store,
            platforms=_platforms(arguments),
            files=count > 0,
            layers=arguments.layer,
            reporter=reading.reporter,
        )
        if arguments.json:
            _print_json(tree_json(tree, count))
        else:
            _print(tree_text(tree, count))
    return 0
