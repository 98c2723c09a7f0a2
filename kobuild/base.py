"""The base image: found by name, pinned by digest, read a platform at a time.

Only manifests and configs are read here; each layer comes with a way to its bytes, which a push within one registry
never uses.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from kobuild.errors import BaseError, LayoutError, LockError, NotFound
from kobuild.image.blobs import BlobSource, Layer
from kobuild.image.choose import check_platform, choose_manifest, read_config
from kobuild.image.image import Image
from kobuild.image.store import ImageStore
from kobuild.lock import LockedBase
from kobuild.oci import jsonio
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.store.cache import Cache
from kobuild.store.cachedsource import CachedSource
from kobuild.store.layout import parse_document
from kobuild.store.locations import Location
from kobuild.streams import Readable, read_bounded

SCRATCH: Final = "scratch"

OpenStore = Callable[[str], ImageStore]
"""How the place that a name spells is opened; nothing is read or asked for yet."""


def open_store(text: str, *, folder: Path, open_registry: Callable[[Reference], ImageStore]) -> ImageStore:
    """The place that `text` spells: `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`, or a registry's reference.

    Relative paths are relative to `folder`. Raises UsageError or InvalidReference.
    """
    location = Location.parse(text, folder)
    return open_registry(Reference.parse(text)) if location is None else location.open()


def resolve_base(
    name: str, platforms: Iterable[Platform], opener: OpenStore, cache: Cache | None = None
) -> LockedBase | None:
    """What `name` points at now, None for `scratch`; raises BaseError where it has no image for one of `platforms`.

    With a `cache`, the documents that were read are kept for `load_base`: registries count how often they are asked.
    """
    if name == SCRATCH:
        return None
    store = open_cached(name, opener, cache)
    root = store.keep(store.root())
    manifests = {platform: str(choose_manifest(store, root, platform).digest) for platform in platforms}
    return LockedBase(name, str(root.digest), manifests)


def load_base(
    locked: LockedBase | None,
    platform: Platform,
    opener: OpenStore,
    cache: Cache | None = None,
    *,
    keep_layers: bool = False,
) -> Image:
    """The base's image for `platform`, exactly as locked; None is `scratch`.

    With a `cache`, manifests and configs of registries are kept there, so that the next build from the same lock asks
    nothing of the network; layers are found there, and with `keep_layers` kept there when they are read. Raises
    LockError where the lock has no manifest for the platform, BaseError where the place has it no longer, or where it
    is not an image that takes layers.
    """
    if locked is None:
        return Image.empty(platform)
    if platform not in locked.platforms:
        raise LockError(
            f"the lock has no manifest of the base {locked.name} for {platform}",
            hint="run `kobuild resolve`, which pins the platforms that the settings name",
        )
    reader = _Reader(locked.name, Digest.parse(locked.platforms[platform]), opener, cache)
    return reader.load(platform, keep_layers=keep_layers)


def pinned_name(name: str, digest: Digest) -> str:
    """`name` by digest, in its own spelling: `oci:DIR@sha256:…`, `ghcr.io/a/b@sha256:…`."""
    location = Location.parse(name)
    if location is None:
        return str(Reference.parse(name).with_digest(digest))
    return str(Location(location.transport, location.path, None, digest))


class CachingStore:
    """A place that images are read from, whose manifests and configs are kept in a cache: they are asked for once."""

    def __init__(self, store: ImageStore, cache: Cache | None) -> None:
        """`cache` None keeps nothing."""
        self._store = store
        self._cache = cache
        self.name = store.name

    def root(self) -> Manifest | Index:
        """What the place's own root is; never from the cache, since a tag may move."""
        return self._store.root()

    def document(self, digest: Digest, what: str) -> Manifest | Index | None:
        """A manifest or index of the cache, whose digest is checked anew; None where it is not there."""
        raw = self._find(digest)
        return None if raw is None else parse_document(raw, None, what)

    def child(self, descriptor: Descriptor) -> Manifest | Index:
        """A manifest or index by descriptor, size and digest checked."""
        found = self.document(descriptor.digest, f"{self.name}: {descriptor.digest}")
        return self.keep(self._store.child(descriptor)) if found is None else found

    def source(self, descriptor: Descriptor, *, keep: bool = False) -> BlobSource:
        """A way to a blob's bytes, from the cache where they are there; with `keep` they are put there."""
        source = self._store.source(descriptor)
        return source if self._cache is None else CachedSource(self._cache, descriptor, source, keep=keep)

    @contextlib.contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        """Open a config, which is kept; raises SizeMismatch for what is larger than any document."""
        raw = self._find(descriptor.digest)
        if raw is None:
            with self._store.open(descriptor) as file:
                raw = read_bounded(file, jsonio.MAX_DOCUMENT_BYTES, f"{self.name}: {descriptor.digest}")
            self._keep(raw)
        yield io.BytesIO(raw)

    def keep(self, document: Manifest | Index) -> Manifest | Index:
        """Put a document into the cache; returns it."""
        self._keep(document.raw)
        return document

    def _keep(self, raw: bytes) -> None:
        if self._cache is not None:
            with self._cache.new_blob() as blob:
                blob.write(raw)
            self._cache.note_base_blob(blob.digest)

    def _find(self, digest: Digest) -> bytes | None:
        return None if self._cache is None else self._cache.read_blob(digest, jsonio.MAX_DOCUMENT_BYTES)


class _Reader:
    """Reads one platform's base."""

    def __init__(self, name: str, digest: Digest, opener: OpenStore, cache: Cache | None) -> None:
        self._name = name
        self._digest = digest
        self._store = open_cached(pinned_name(name, digest), opener, cache)

    def load(self, platform: Platform, *, keep_layers: bool) -> Image:
        manifest = self._read_manifest()
        config = read_config(self._store, manifest)
        check_platform(f"the base {self._name}", config.platform, platform)
        if len(config.diff_ids) != len(manifest.layers):
            raise BaseError(
                f"read the base {self._name}: its config lists {len(config.diff_ids)} layers and its manifest "
                f"{len(manifest.layers)}",
                hint="the base image is broken; choose another one, or have it rebuilt",
            )
        pairs = zip(manifest.layers, config.diff_ids, strict=True)
        layers = (Layer(item, self._store.source(item, keep=keep_layers), diff_id) for item, diff_id in pairs)
        return Image(manifest, config, tuple(layers))

    def _read_manifest(self) -> Manifest:
        document = self._store.document(self._digest, f"base {self._name}")
        try:
            document = document or self._store.keep(self._store.root())
        except (LayoutError, NotFound) as error:
            raise moved_on(self._name, error) from error
        if not isinstance(document, Manifest) or document.digest != self._digest:
            raise BaseError(f"read the base {self._name}: {self._digest} is not one platform's manifest")
        return document


def open_cached(name: str, opener: OpenStore, cache: Cache | None) -> CachingStore:
    """The base by its name, pinned or not; what is on this disk already needs no second copy, and gets no cache."""
    is_remote = Location.parse(name) is None
    return CachingStore(opener(name), cache if is_remote else None)


def moved_on(name: str, error: Exception) -> BaseError:
    """The error for a base that is not as it was locked."""
    return BaseError(
        f"read the base {name} as locked: {error}",
        hint="where the base has moved on, `kobuild resolve --upgrade` pins it anew",
    )
