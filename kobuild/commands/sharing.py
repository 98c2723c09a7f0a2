"""The layer cache of a registry, as the command line and the settings name it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from kobuild.oci.reference import Reference
from kobuild.sharing import NoSharedLayers, SharedLayers
from kobuild.workshop import Workshop

_OFF: Final = "off"


def add_layer_cache_options(parser: argparse.ArgumentParser) -> None:
    """--layer-cache and --layer-cache-mode."""
    options = parser.add_argument_group("layer cache options")
    options.add_argument(
        "--layer-cache", metavar="REPOSITORY", help="share layers through this repository, instead of the settings'"
    )
    options.add_argument(
        "--layer-cache-mode",
        choices=("use", "read", "audit", _OFF),
        default="use",
        help="take layers and put them there (use), only take them (read), make them and compare (audit), or neither "
        "(off); default: %(default)s",
    )


@contextmanager
def shared_layers(arguments: argparse.Namespace, workshop: Workshop) -> Iterator[SharedLayers]:
    """The layer cache for the length of a block; raises UsageError for a key that could be guessed."""
    sources = workshop.settings.sources
    if sources.layer_cache is None or arguments.layer_cache_mode == _OFF or workshop.offline:
        yield NoSharedLayers()
        return
    # Here, not above: nobody else pays for the import.
    from kobuild.layercache import KEY_VARIABLE, LayerCache, Mode, Notary  # noqa: PLC0415

    notary = Notary(workshop.environ.get(KEY_VARIABLE))
    if not notary.has_key and not sources.trusts_layer_cache:
        workshop.reporter.notice(f"the layer cache {sources.layer_cache} is not used: {KEY_VARIABLE} is not set")
        yield NoSharedLayers()
        return
    cache = LayerCache(
        workshop.registry,
        sources.layer_cache,
        workshop.cache,
        workshop.reporter,
        notary=notary,
        trusts_writers=sources.trusts_layer_cache,
        mode=Mode(arguments.layer_cache_mode),
    )
    with closing(cache):
        yield cache
    if cache.taken or cache.kept:
        workshop.reporter.notice(f"layer cache: {cache.taken} taken from {sources.layer_cache}, {cache.kept} put there")


def is_mounted(shared: SharedLayers, workshop: Workshop, target: Reference) -> bool:
    """Whether what the layer cache holds is mounted into the target's repository: both are in one registry."""
    place = workshop.settings.sources.layer_cache
    return place is not None and not isinstance(shared, NoSharedLayers) and place.registry == target.registry
