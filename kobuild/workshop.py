"""What every flow works with: opened once a run, closed at its end."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path

from kobuild.base import open_store
from kobuild.frozen import frozen
from kobuild.image.created import read_source_date_epoch
from kobuild.image.store import ImageStore
from kobuild.oci.reference import Reference
from kobuild.progress import Reporter
from kobuild.registry import Mirrors, RegistryClient, RegistryStore
from kobuild.settings.model import Settings
from kobuild.sources.download import stop_ahead
from kobuild.sources.model import SourceContext
from kobuild.store.cache import Cache, default_cache_dir
from kobuild.transport import Transport


@frozen
class Workshop:
    """One run's settings, cache, connections and listener."""

    settings: Settings
    cache: Cache
    transport: Transport
    registry: RegistryClient
    reporter: Reporter
    environ: Mapping[str, str]
    offline: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the person interrupts: work in threads stops at its next write."""

    @property
    def source_date_epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH, in seconds since 1970; raises UsageError for anything else."""
        return read_source_date_epoch(self.environ)

    def open_store(self, text: str) -> ImageStore:
        """A place that holds images, by a transport's or a reference's spelling; nothing is read yet."""
        return open_store(text, folder=self.settings.folder, open_registry=self.open_registry)

    def open_here(self, text: str) -> ImageStore:
        """The same, paths being relative to the working folder: for what was typed, not written in the settings."""
        return open_store(text, folder=Path(), open_registry=self.open_registry)

    def open_registry(self, reference: Reference) -> ImageStore:
        """A registry's image; nothing is asked of the registry yet."""
        return RegistryStore(self.registry, reference)

    @property
    def sources(self) -> SourceContext:
        """What sources need from outside."""
        return SourceContext(
            transport=self.transport,
            cache=self.cache,
            folder=self.settings.folder,
            settings=self.settings.sources,
            environ=self.environ,
            offline=self.offline,
            reporter=self.reporter,
        )


def find_mirrors(settings: Settings) -> Mirrors:
    """Where images are read from, as the settings have it."""
    return Mirrors.of(settings.sources.mirrors, only=settings.sources.mirrors_only)


@contextmanager
def open_workshop(
    settings: Settings,
    reporter: Reporter,
    *,
    offline: bool = False,
    cache_dir: Path | None = None,
    insecure_hosts: Collection[str] = (),
) -> Iterator[Workshop]:
    """A workshop for one run."""
    environ = dict(os.environ)
    cache = Cache(cache_dir if cache_dir is not None else default_cache_dir())
    transport = Transport(reporter=reporter, insecure_hosts=insecure_hosts, environ=environ, offline=offline)
    try:
        yield Workshop(
            settings=settings,
            cache=cache,
            transport=transport,
            registry=RegistryClient(transport, mirrors=find_mirrors(settings)),
            reporter=reporter,
            environ=environ,
            offline=offline,
        )
    finally:
        stop_ahead(cache)
        transport.close()
