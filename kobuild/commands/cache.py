"""`kobuild cache`: what the cache holds, what may go from it, and what is damaged in it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any, Final

from kobuild.commands.output import print_json
from kobuild.commands.shared import open_cache
from kobuild.errors import UsageError
from kobuild.report import format_size, format_table, reporting
from kobuild.settings.faults import Unfit
from kobuild.settings.quantities import parse_size, parse_span
from kobuild.store.cache import Cache
from kobuild.store.housekeeping import DEFAULT_MAX_AGE, CacheFile, Kind, Pruned, find_damaged, prune, survey

_PRUNE_ONLY: Final = ("max_age", "max_size", "all", "dry_run")


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("show", "prune", "verify"),
        default="show",
        help="show sizes by kind (default), prune what was not used for long, or verify and drop what is damaged",
    )
    group = parser.add_argument_group("prune options")
    group.add_argument("--max-age", metavar="SPAN", help="remove what was not used for so long, such as 30d (default)")
    group.add_argument("--max-size", metavar="SIZE", help="then remove the least recently used down to, such as, 10GB")
    group.add_argument("--all", action="store_true", help="remove everything that no running process writes")
    group.add_argument("--dry-run", action="store_true", help="only tell what would go")


def run(arguments: argparse.Namespace) -> int:
    """Look after the cache; needs no settings file."""
    if arguments.action != "prune":
        _refuse_prune_options(arguments)
    actions: dict[str, Callable[[argparse.Namespace, Cache], None]] = {
        "show": _show,
        "prune": _prune,
        "verify": _verify,
    }
    actions[arguments.action](arguments, open_cache(arguments))
    return 0


def _refuse_prune_options(arguments: argparse.Namespace) -> None:
    for name in _PRUNE_ONLY:
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')} is for `kobuild cache prune`")


def _show(arguments: argparse.Namespace, cache: Cache) -> None:
    files = survey(cache)
    if arguments.json:
        print_json({"cache": str(cache.root), **kinds_json(files)})
    else:
        print(f"{cache.root}\n{kinds_table(files)}")


def _prune(arguments: argparse.Namespace, cache: Cache) -> None:
    max_age = _parsed("--max-age", parse_span, arguments.max_age)
    max_size = _parsed("--max-size", parse_size, arguments.max_size)
    if max_age is None and max_size is None:
        max_age = DEFAULT_MAX_AGE
    pruned = prune(
        cache,
        max_age_seconds=max_age,
        max_size_bytes=max_size,
        everything=arguments.all,
        dry_run=arguments.dry_run,
    )
    if arguments.json:
        print_json(prune_json(pruned, cache, dry_run=arguments.dry_run))
        return
    with reporting(quiet=arguments.quiet) as reporter:
        for file in pruned.removed if arguments.verbose or arguments.dry_run else ():
            reporter.notice(f"{file.kind.value}: {file.path.relative_to(cache.root)}, {format_size(file.size)}")
    freed, left = _total(pruned.removed), _total(pruned.kept)
    verb = "would remove" if arguments.dry_run else "removed"
    print(f"{verb} {len(pruned.removed)} files, {format_size(freed)}; {format_size(left)} left in {cache.root}")


def _verify(arguments: argparse.Namespace, cache: Cache) -> None:
    looked_at, damaged = [], []
    with reporting(quiet=arguments.quiet) as reporter:
        transfer = reporter.transfer("verify the cache", _total(survey(cache)))
        for file, is_damaged in find_damaged(cache):
            looked_at.append(file)
            transfer.advance(file.size)
            if is_damaged:
                damaged.append(file)
                reporter.warning(f"{file.path.relative_to(cache.root)} was damaged and has been removed")
        transfer.done()
    if arguments.json:
        names = [str(file.path.relative_to(cache.root)) for file in damaged]
        print_json({"cache": str(cache.root), "files": len(looked_at), "size": _total(looked_at), "damaged": names})
    else:
        print(f"{len(looked_at)} files, {format_size(_total(looked_at))}: {len(damaged) or 'none'} damaged")


def _parsed(option: str, parse: Callable[[str], int], text: str | None) -> int | None:
    try:
        return None if text is None else parse(text)
    except Unfit as unfit:
        raise UsageError(f"{option}: {unfit.message}", hint=unfit.hint) from unfit


def _total(files: Iterable[CacheFile]) -> int:
    return sum(file.size for file in files)


def kinds_table(files: Iterable[CacheFile]) -> str:
    """A line a kind, and one for all."""
    by_kind = _by_kind(files)
    rows = [(kind.value, str(len(found)), format_size(_total(found))) for kind, found in by_kind.items()]
    everything = [file for found in by_kind.values() for file in found]
    rows.append(("all", str(len(everything)), format_size(_total(everything))))
    return format_table(("kind", "files", "size"), rows, right=frozenset({1, 2}))


def kinds_json(files: Iterable[CacheFile]) -> dict[str, Any]:
    """The same for machines, sizes in bytes."""
    by_kind = _by_kind(files)
    return {
        "size": sum(_total(found) for found in by_kind.values()),
        "kinds": {
            kind.value.replace(" ", "_"): {"files": len(found), "size": _total(found)}
            for kind, found in by_kind.items()
        },
    }


def prune_json(pruned: Pruned, cache: Cache, *, dry_run: bool) -> dict[str, Any]:
    """What went and what is left, for machines."""
    return {
        "cache": str(cache.root),
        "dry_run": dry_run,
        "removed": {
            **kinds_json(pruned.removed),
            "paths": [str(file.path.relative_to(cache.root)) for file in pruned.removed],
        },
        "left": kinds_json(pruned.kept),
    }


def _by_kind(files: Iterable[CacheFile]) -> dict[Kind, list[CacheFile]]:
    found: dict[Kind, list[CacheFile]] = {kind: [] for kind in Kind}
    for file in files:
        found[file.kind].append(file)
    return found
