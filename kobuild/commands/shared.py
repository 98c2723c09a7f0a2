"""What all commands begin and end with."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kobuild import github, report
from kobuild.base import resolve_base
from kobuild.build import Build
from kobuild.commands.output import print_json
from kobuild.errors import KobuildError, UsageError
from kobuild.fetchahead import fetch_for_layers, get_ready
from kobuild.lock import Lock
from kobuild.oci.digest import Digest
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.report import group, reporting
from kobuild.resolve import Found, Resolution, ResolveOptions, resolve_file
from kobuild.settings.model import Settings
from kobuild.settings.overrides import with_overrides
from kobuild.settings.parse import parse_settings
from kobuild.store.cache import Cache, default_cache_dir
from kobuild.summary import build_json, build_table
from kobuild.workshop import Workshop, open_workshop


def add_lock_options(parser: argparse.ArgumentParser) -> None:
    """--pin, --locked and --frozen."""
    options = parser.add_argument_group("lock options")
    options.add_argument(
        "--pin",
        action="append",
        default=[],
        type=_parse_pin,
        metavar="TOOL=VERSION",
        help="use this pin instead of the settings'; may be repeated",
    )
    group = options.add_mutually_exclusive_group()
    group.add_argument("--locked", action="store_true", help="fail where the lock does not fit the settings")
    group.add_argument("--frozen", action="store_true", help="use the lock as it is, without comparing")


def _parse_pin(text: str) -> tuple[str, str]:
    name, sign, version = text.partition("=")
    if not sign or not name.strip():
        raise argparse.ArgumentTypeError(f"expected TOOL=VERSION, such as go=~=1.27.0, got {text!r}")
    return name.strip(), version.strip()


def add_platform_option(parser: argparse.ArgumentParser) -> None:
    """--platform."""
    parser.add_argument(
        "--platform",
        action="append",
        default=[],
        metavar="OS/ARCH",
        help="only this one of the settings' platforms; may be repeated",
    )


def add_target_options(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """--target, --tag and --keep-tags; returns the group that --tag is in, for what may not be given beside it."""
    parser.add_argument(
        "--target", action="append", default=[], metavar="REF", help="push here instead of the settings' target"
    )
    names = parser.add_mutually_exclusive_group()
    names.add_argument(
        "-t", "--tag", action="append", default=[], metavar="TAG", help="push under this tag instead of the target's"
    )
    parser.add_argument(
        "--keep-tags", action="store_true", help="fail, and send nothing, where a tag points at another image already"
    )
    return names


def require_network(arguments: argparse.Namespace, command: str) -> None:
    """Raise UsageError under --offline, for a command that is nothing without a registry."""
    if arguments.offline:
        raise UsageError(f"{command}: --offline forbids the network", hint="`kobuild build` writes to this disk")


@contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Workshop]:
    """The settings that the arguments name, and a workshop for them."""
    cache = open_cache(arguments)
    if arguments.verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s", stream=sys.stderr)
    settings = parse_settings(Path(arguments.file))
    settings = with_overrides(
        settings,
        targets=getattr(arguments, "target", ()),
        versions=dict(getattr(arguments, "pin", ())),
        layer_cache=getattr(arguments, "layer_cache", None),
    )
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
    enter_folder(arguments)
    return Cache(Path(arguments.cache_dir).absolute() if arguments.cache_dir else default_cache_dir())


def enter_folder(arguments: argparse.Namespace) -> None:
    """Enter the folder that the arguments name, if they name one; raises UsageError."""
    if arguments.directory is not None:
        _enter(Path(arguments.directory))


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
        report.say(text)


def resolve_with(workshop: Workshop, options: ResolveOptions, found: Found | None = None) -> Resolution:
    """Bring the lock up to date, as the options say; `found` hears of what is new in it as it comes."""
    return resolve_file(
        workshop.settings,
        options,
        workshop.sources,
        lambda name, platforms: resolve_base(name, platforms, workshop.open_store, workshop.cache),
        found=found,
    )


def lock_for_build(arguments: argparse.Namespace, workshop: Workshop) -> Lock:
    """The lock for a build: brought up to date where it lacks something, never moving a pin by itself.

    What is new in it begins to be downloaded at once.
    """
    found = partial(fetch_for_layers, workshop, chosen_platforms(arguments, workshop.settings))
    get_ready(workshop)
    with group("Resolve the pins", quiet=arguments.quiet):
        resolution = resolve_with(workshop, ResolveOptions(locked=arguments.locked, frozen=arguments.frozen), found)
    if resolution.written:
        say(workshop, f"wrote {workshop.settings.lock_path.name}")
    return resolution.lock


def held_digest(workshop: Workshop, place: str) -> Digest | None:
    """The digest of the image that a place holds now; None where there is none, or none that can be read."""
    try:
        return workshop.open_here(place).root().digest
    except KobuildError:
        return None


def begin_summary(
    workshop: Workshop, place: str, *, compares: bool = True
) -> Callable[[Build, Sequence[Reference]], None]:
    """Look at what the place holds, so that what is returned can tell in the job's summary what has changed.

    With `compares` off, nothing is said of what was there. Outside a GitHub workflow nothing is looked at, and nothing
    is told.
    """
    if not github.is_github(workshop.environ):
        return lambda _made, _targets: None
    # Here, not above: nobody else pays for the import.
    from kobuild.jobsummary import JobSummary  # noqa: PLC0415

    return JobSummary.begin(workshop, place, compares=compares).end


def close_build(arguments: argparse.Namespace, made: Build, images: Sequence[str], *, changed: bool) -> None:
    """The closing table, and the references on standard output; to be called once the workshop is closed.

    `changed` tells whether the image is another than the one that was there before.
    """
    tell(arguments, build_table(made))
    if arguments.json:
        print_json({**build_json(made, images), "changed": changed})
    else:
        print("\n".join(images))
