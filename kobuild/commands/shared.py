"""What all commands begin and end with."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kobuild.base import resolve_base
from kobuild.build import Build
from kobuild.errors import UsageError
from kobuild.lock import Lock
from kobuild.oci.platforms import Platform
from kobuild.report import reporting
from kobuild.resolve import Resolution, ResolveOptions, resolve_file
from kobuild.settings.model import Settings
from kobuild.settings.overrides import with_overrides
from kobuild.settings.parse import parse_settings
from kobuild.store.cache import Cache, default_cache_dir
from kobuild.summary import build_json, build_table
from kobuild.workshop import Workshop, open_workshop


def add_lock_options(parser: argparse.ArgumentParser) -> None:
    """--locked and --frozen."""
    group = parser.add_argument_group("lock options").add_mutually_exclusive_group()
    group.add_argument("--locked", action="store_true", help="fail where the lock does not fit the settings")
    group.add_argument("--frozen", action="store_true", help="use the lock as it is, without comparing")


def add_platform_option(parser: argparse.ArgumentParser) -> None:
    """--platform."""
    parser.add_argument(
        "--platform",
        action="append",
        default=[],
        metavar="OS/ARCH",
        help="only this one of the settings' platforms; may be repeated",
    )


@contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Workshop]:
    """The settings that the arguments name, and a workshop for them."""
    cache = open_cache(arguments)
    if arguments.verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s", stream=sys.stderr)
    settings = parse_settings(Path(arguments.file))
    settings = with_overrides(settings, targets=getattr(arguments, "target", ()))
    with (
        reporting(quiet=arguments.quiet) as reporter,
        open_workshop(
            settings,
            reporter,
            offline=arguments.offline,
            cache_dir=cache.root,
            insecure_hosts=arguments.insecure_registry,
        ) as workshop,
    ):
        yield workshop


def open_cache(arguments: argparse.Namespace) -> Cache:
    """The cache that the arguments name; enters the folder that they name first."""
    if arguments.directory is not None:
        _enter(Path(arguments.directory))
    return Cache(Path(arguments.cache_dir).absolute() if arguments.cache_dir else default_cache_dir())


def _enter(folder: Path) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise UsageError(f"--directory {folder}: {error.strerror}") from error


def chosen_platforms(arguments: argparse.Namespace, settings: Settings) -> tuple[Platform, ...]:
    """Those of the settings, or those among them that were asked for."""
    known = settings.image.platforms
    asked = tuple(dict.fromkeys(Platform.parse(part) for text in arguments.platform for part in text.split(",")))
    for platform in asked:
        if platform not in known:
            raise UsageError(
                f"--platform {platform}: the settings name only {', '.join(map(str, known))}",
                hint="add it to image.platforms, so that the lock covers it",
            )
    return asked or known


def say(workshop: Workshop, text: str) -> None:
    """Tell the person something, line by line."""
    for line in text.splitlines():
        workshop.reporter.notice(line)


def tell(arguments: argparse.Namespace, text: str) -> None:
    """Write a closing word to standard error, once no bars move any more."""
    if not arguments.quiet:
        print(text, file=sys.stderr, flush=True)


def print_json(value: Mapping[str, Any]) -> None:
    """Write a result for machines to standard output."""
    print(json.dumps(value, indent=2))


def resolve_with(workshop: Workshop, options: ResolveOptions) -> Resolution:
    """Bring the lock up to date, as the options say."""
    return resolve_file(
        workshop.settings,
        options,
        workshop.sources,
        lambda name, platforms: resolve_base(name, platforms, workshop.open_store),
    )


def lock_for_build(arguments: argparse.Namespace, workshop: Workshop) -> Lock:
    """The lock for a build: brought up to date where it lacks something, never moving a pin by itself."""
    resolution = resolve_with(workshop, ResolveOptions(locked=arguments.locked, frozen=arguments.frozen))
    if resolution.written:
        say(workshop, f"wrote {workshop.settings.lock_path.name}")
    return resolution.lock


def close_build(arguments: argparse.Namespace, made: Build, images: Sequence[str]) -> None:
    """The closing table, and the references on standard output; to be called once the workshop is closed."""
    tell(arguments, build_table(made))
    if arguments.json:
        print_json(build_json(made, images))
    else:
        print("\n".join(images))
