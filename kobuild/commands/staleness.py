"""Which of many images are not in their registries as settings and lock make them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from kobuild.commands.sharing import shared_layers
from kobuild.errors import UsageError
from kobuild.fleet.jobs import FleetImage
from kobuild.fleet.pushed import Knowledge, why_stale
from kobuild.oci.reference import Repository
from kobuild.registry import RegistryClient
from kobuild.report import reporting
from kobuild.settings.overrides import with_overrides
from kobuild.store.cache import Cache
from kobuild.workshop import Workshop, find_mirrors, open_workshop

_READERS: Final = 8
"""Images looked at at once."""


def find_stale(arguments: argparse.Namespace, images: Sequence[FleetImage], cache: Cache) -> dict[str, str]:
    """Why each image that is out of date is so, by its file; nothing is written. Raises UsageError under --offline."""
    if arguments.offline:
        raise UsageError("matrix --pushed: --offline forbids to ask the registries", hint="--since asks git alone")
    arguments.layer_cache_mode = "read"
    with reporting(quiet=arguments.quiet) as reporter, ExitStack() as stack:
        first = stack.enter_context(
            open_workshop(
                images[0].settings,
                reporter,
                offline=arguments.offline,
                cache_dir=cache.root,
                insecure_hosts=arguments.insecure_registry,
            )
        )
        workshops = [_workshop(first, image, arguments.layer_cache) for image in images]
        known: dict[tuple[Repository | None, bool], Knowledge] = {}
        for workshop in workshops:
            if _place(workshop) not in known:
                known[_place(workshop)] = Knowledge(stack.enter_context(shared_layers(arguments, workshop)))
        with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="kobuild-matrix") as pool:
            try:
                reasons = list(pool.map(lambda item: why_stale(item, known[_place(item)]), workshops))
            except BaseException:
                first.cancelled.set()  # one word to all workshops: they are copies of the first
                raise
    return {image.file: reason for image, reason in zip(images, reasons, strict=True) if reason is not None}


def _workshop(first: Workshop, image: FleetImage, layer_cache: str | None) -> Workshop:
    """A workshop for one image, with the connections of all where they read from the same places."""
    settings = with_overrides(image.settings, layer_cache=layer_cache)
    mirrors = find_mirrors(settings)
    client = (
        first.registry if mirrors == find_mirrors(first.settings) else RegistryClient(first.transport, mirrors=mirrors)
    )
    return replace(first, settings=settings, registry=client)


def _place(workshop: Workshop) -> tuple[Repository | None, bool]:
    sources = workshop.settings.sources
    return sources.layer_cache, sources.trusts_layer_cache
