"""What each command does: settings and lock in, one flow, and its result to standard output."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kobuild.base import resolve_base
from kobuild.build import Build, build
from kobuild.errors import LockError, UsageError
from kobuild.expectations import expect, open_subject, rebuild
from kobuild.lock import Lock, load
from kobuild.oci.platforms import Platform
from kobuild.push import choose_targets, push
from kobuild.report import format_size, reporting
from kobuild.resolve import Resolution, ResolveOptions, resolve_file
from kobuild.settings.model import Settings
from kobuild.settings.overrides import with_overrides
from kobuild.settings.parse import parse_settings
from kobuild.store.locations import Location
from kobuild.summary import build_json, build_table, resolve_json, verify_json, verify_table
from kobuild.verify import verify
from kobuild.workshop import Workshop, open_workshop


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[Workshop]:
    if arguments.directory is not None:
        _enter(Path(arguments.directory))
    if arguments.verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s", stream=sys.stderr)
    settings = parse_settings(Path(arguments.file))
    settings = with_overrides(settings, targets=getattr(arguments, "target", ()))
    cache_dir = Path(arguments.cache_dir).absolute() if arguments.cache_dir else None
    with (
        reporting(quiet=arguments.quiet) as reporter,
        open_workshop(
            settings,
            reporter,
            offline=arguments.offline,
            cache_dir=cache_dir,
            insecure_hosts=arguments.insecure_registry,
        ) as workshop,
    ):
        yield workshop


def _enter(folder: Path) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise UsageError(f"--directory {folder}: {error.strerror}") from error


def _platforms(arguments: argparse.Namespace, settings: Settings) -> tuple[Platform, ...]:
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


def _say(workshop: Workshop, text: str) -> None:
    for line in text.splitlines():
        workshop.reporter.notice(line)


def _print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, indent=2))


def _resolve(workshop: Workshop, options: ResolveOptions) -> Resolution:
    return resolve_file(
        workshop.settings,
        options,
        workshop.sources,
        lambda name, platforms: resolve_base(name, platforms, workshop.open_store),
    )


def _lock(arguments: argparse.Namespace, workshop: Workshop) -> Lock:
    """The lock for a build: brought up to date where it lacks something, never moving a pin by itself."""
    resolution = _resolve(workshop, ResolveOptions(locked=arguments.locked, frozen=arguments.frozen))
    if resolution.written:
        _say(workshop, f"wrote {workshop.settings.lock_path.name}")
    return resolution.lock


def run_resolve(arguments: argparse.Namespace) -> int:
    """Bring the lock up to date."""
    options = ResolveOptions(
        upgrade=None if arguments.upgrade is None else frozenset(arguments.upgrade),
        locked=arguments.locked,
        frozen=arguments.frozen,
        check=arguments.check,
    )
    with _opened(arguments) as workshop:
        resolution = _resolve(workshop, options)
        for change in resolution.changes:
            _say(workshop, str(change))
        path = workshop.settings.lock_path
        _say(workshop, f"{path.name}: {'written' if resolution.written else 'unchanged'}")
        if arguments.json:
            _print_json(resolve_json(resolution, path))
        else:
            print(path)
    return 0


def run_build(arguments: argparse.Namespace) -> int:
    """Build and write to a local place."""
    with _opened(arguments) as workshop:
        location = Location.parse(arguments.output)
        if location is None:
            raise UsageError(
                f"--output {arguments.output}: expected oci:DIR, oci-archive:FILE or docker-archive:FILE",
                hint="kobuild push sends an image to a registry",
            )
        lock = _lock(arguments, workshop)
        made = build(workshop, lock, _platforms(arguments, workshop.settings), keep_base=True)
        targets = workshop.settings.image.targets
        location.write(made.images, references=targets, reporter=workshop.reporter)
        _close(arguments, workshop, made, [f"{arguments.output}@{made.images.descriptor.digest}"])
    return 0


def run_push(arguments: argparse.Namespace) -> int:
    """Build and push."""
    with _opened(arguments) as workshop:
        targets = choose_targets(workshop.settings, arguments.tag)
        lock = _lock(arguments, workshop)
        made = build(workshop, lock, _platforms(arguments, workshop.settings))
        result = push(workshop, made, targets)
        _say(workshop, f"uploaded {format_size(result.bytes_sent)} in {result.uploaded} blobs")
        digest = made.images.descriptor.digest
        _close(arguments, workshop, made, [f"{target}@{digest}" for target in targets])
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Check an image against settings and lock."""
    with _opened(arguments) as workshop:
        lock = _require_lock(workshop)
        platforms = _platforms(arguments, workshop.settings)
        store = open_subject(workshop, arguments.image)
        expectations = [expect(workshop, lock, platform) for platform in platforms]
        report = verify(
            store,
            expectations,
            rebuild=(lambda platform: rebuild(workshop, lock, platform)) if arguments.rebuild else None,
            reporter=workshop.reporter,
        )
        if arguments.json:
            _print_json(verify_json(report))
        report.raise_for_findings()
        _say(workshop, verify_table(report))
        if not arguments.json:
            print(f"{arguments.image}@{report.digest}" if "@" not in arguments.image else arguments.image)
    return 0


def _require_lock(workshop: Workshop) -> Lock:
    path = workshop.settings.lock_path
    lock = load(path)
    if lock is None:
        raise LockError(f"{path} is missing, so there is nothing to verify against", hint="run `kobuild resolve`")
    return lock


def _close(arguments: argparse.Namespace, workshop: Workshop, made: Build, images: list[str]) -> None:
    _say(workshop, build_table(made))
    if arguments.json:
        _print_json(build_json(made, images))
    else:
        print("\n".join(images))
