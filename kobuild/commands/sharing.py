"""The layer cache of a registry, as the command line and the settings name it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from kobuild.errors import UsageError
from kobuild.oci.reference import Reference
from kobuild.sharing import NoSharedLayers, SharedLayers
from kobuild.workshop import Workshop

_OFF: Final = "off"
_AUDIT: Final = "audit"


def add_layer_cache_options(parser: argparse.ArgumentParser) -> None:
    """--layer-cache and --layer-cache-mode."""
    options = parser.add_argument_group("layer cache options")
    options.add_argument(
        "--layer-cache", metavar="REPOSITORY", help="share layers through this repository, instead of the settings'"
    )
    options.add_argument(
        "--layer-cache-mode",
        choices=("use", "read", _AUDIT, _OFF),
        default="use",
        help="take layers and put them there (use), only take them (read), make them and compare (audit), or neither "
        "(off); default: %(default)s",
    )


@contextmanager
def shared_layers(arguments: argparse.Namespace, workshop: Workshop) -> Iterator[SharedLayers]:
    """The layer cache for the length of a block.

    Raises UsageError for a key that could be guessed, and for an audit that could compare nothing.
    """
    place, trusts_writers = workshop.settings.sources.layer_cache, workshop.settings.sources.trusts_layer_cache
    mode = arguments.layer_cache_mode
    if place is None or mode == _OFF or workshop.offline:
        _refuse_audit(mode, "--offline forbids to look" if place is not None else "no layer cache is named")
        yield NoSharedLayers()
        return
    # Here, not above: nobody else pays for the import.
    from kobuild.layercache import KEY_VARIABLE, LayerCache, Mode, Notary  # noqa: PLC0415

    notary = Notary(workshop.environ.get(KEY_VARIABLE))
    if not notary.has_key and not trusts_writers:
        _refuse_audit(mode, f"{KEY_VARIABLE} is not set, and without it no record is believed")
        workshop.reporter.notice(f"the layer cache {place} is not used: {KEY_VARIABLE} is not set")
        yield NoSharedLayers()
        return
    cache = LayerCache(
        workshop.registry,
        place,
        workshop.cache,
        workshop.reporter,
        notary=notary,
        trusts_writers=trusts_writers,
        mode=Mode(mode),
    )
    with closing(cache):
        yield cache
    if mode == _AUDIT:
        workshop.reporter.notice(
            f"layer cache audited: {cache.confirmed} layers are as {place} says, of {cache.unknown} it says nothing"
        )
    elif cache.taken or cache.kept:
        workshop.reporter.notice(f"layer cache: {cache.taken} taken from {place}, {cache.kept} put there")


def _refuse_audit(mode: str, reason: str) -> None:
    """An audit that compares nothing must not look like one that found nothing."""
    if mode == _AUDIT:
        raise UsageError(
            f"--layer-cache-mode audit: {reason}", hint="an audit needs a layer cache, its key and the network"
        )


def is_mounted(shared: SharedLayers, target: Reference) -> bool:
    """Whether what is put into the layer cache is mounted into the target's repository: both are in one registry."""
    return shared.place is not None and shared.place.registry == target.registry
