"""The base image: found by name, pinned by digest, read a platform at a time.

Only manifests and configs are read here; each layer comes with a way to its bytes, which a push within one registry
never uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from kobuild.errors import BaseError, LayoutError, LockError, NotFound
from kobuild.image.blobs import BlobSource, Layer
from kobuild.image.choose import check_platform, choose_manifest, read_config
from kobuild.image.image import Image
from kobuild.image.store import ImageStore
from kobuild.lock import LockedBase
from kobuild.oci import jsonio
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.store.cache import Cache
from kobuild.store.cachedsource import CachedSource
from kobuild.store.layout import parse_document
from kobuild.store.locations import Location

SCRATCH: Final = "scratch"

OpenStore = Callable[[str], ImageStore]
"""How the place that a name spells is opened; nothing is read or asked for yet."""


def open_store(text: str, *, folder: Path, open_registry: Callable[[Reference], ImageStore]) -> ImageStore:
    """The place that `text` spells: `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`, or a registry's reference.

    Relative paths are relative to `folder`. Raises UsageError or InvalidReference.
    """
    location = Location.parse(text, folder)
    return open_registry(Reference.parse(text)) if location is None else location.open()


def resolve_base(name: str, platforms: Iterable[Platform], opener: OpenStore) -> LockedBase | None:
    """What `name` points at now, None for `scratch`; raises BaseError where it has no image for one of `platforms`."""
    if name == SCRATCH:
        return None
    store = opener(name)
    root = store.root()
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
    # What is on this disk already needs no second copy.
    is_remote = Location.parse(locked.name) is None
    reader = _Reader(locked.name, Digest.parse(locked.platforms[platform]), opener, cache if is_remote else None)
    return reader.load(platform, keep_layers=keep_layers)


def pinned_name(name: str, digest: Digest) -> str:
    """`name` by digest, in its own spelling: `oci:DIR@sha256:…`, `ghcr.io/a/b@sha256:…`."""
    location = Location.parse(name)
    if location is None:
        return str(Reference.parse(name).with_digest(digest))
    return str(Location(location.transport, location.path, None, digest))


class _Reader:
    """Reads one platform's base."""

    def __init__(self, name: str, digest: Digest, opener: OpenStore, cache: Cache | None) -> None:
        self._name = name
        self._digest = digest
        self._cache = cache
        self._store = opener(pinned_name(name, digest))

    def load(self, platform: Platform, *, keep_layers: bool) -> Image:
        manifest = self._read_manifest()
        config = self._read_config(manifest)
        check_platform(f"the base {self._name}", config.platform, platform)
        if len(config.diff_ids) != len(manifest.layers):
            raise BaseError(
                f"read the base {self._name}: its config lists {len(config.diff_ids)} layers and its manifest "
                f"{len(manifest.layers)}",
                hint="the base image is broken; choose another one, or have it rebuilt",
            )
        pairs = zip(manifest.layers, config.diff_ids, strict=True)
        layers = tuple(Layer(item, self._source(item, keep=keep_layers), diff_id) for item, diff_id in pairs)
        return Image(manifest, config, layers)

    def _read_manifest(self) -> Manifest:
        raw = self._find_cached(self._digest)
        try:
            document = self._store.root() if raw is None else parse_document(raw, None, f"base {self._name}")
        except (LayoutError, NotFound) as error:
            raise BaseError(
                f"read the base {self._name} as locked: {error}",
                hint="where the base has moved on, `kobuild resolve --upgrade` pins it anew",
            ) from error
        if not isinstance(document, Manifest) or document.digest != self._digest:
            raise BaseError(f"read the base {self._name}: {self._digest} is not one platform's manifest")
        if raw is None:
            self._keep(document.raw)
        return document

    def _read_config(self, manifest: Manifest) -> ImageConfig:
        raw = self._find_cached(manifest.config.digest)
        if raw is not None:
            return ImageConfig.from_bytes(raw, f"base {self._name}: config")
        config = read_config(self._store, manifest)
        self._keep(config.raw)
        return config

    def _source(self, descriptor: Descriptor, *, keep: bool) -> BlobSource:
        source = self._store.source(descriptor)
        return source if self._cache is None else CachedSource(self._cache, descriptor, source, keep=keep)

    def _find_cached(self, digest: Digest) -> bytes | None:
        """A document from the cache, whose digest is checked anew: it decides all that follows."""
        return None if self._cache is None else self._cache.read_blob(digest, jsonio.MAX_DOCUMENT_BYTES)

    def _keep(self, raw: bytes) -> None:
        if self._cache is not None:
            with self._cache.new_blob() as blob:
                blob.write(raw)
            self._cache.note_base_blob(blob.digest)
