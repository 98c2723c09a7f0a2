"""What of the base's index goes into ours: images for platforms that are not built, and annotations.

Manifests alone are read here, and kept in the cache as those of the base's own images are. Layers and configs come with
a way to their bytes: a push within one registry mounts them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field, replace
from typing import Final

from kobuild.base import CachingStore, OpenStore, moved_on, open_cached, pinned_name
from kobuild.errors import BaseError, LayoutError, NotFound
from kobuild.frozen import frozen
from kobuild.image.blobs import Blob
from kobuild.image.choose import is_about_another, list_manifests, platform_of
from kobuild.image.image import Carried
from kobuild.lock import LockedBase
from kobuild.oci.annotations import ATTESTED_DIGEST
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.platforms import Platform
from kobuild.settings.model import ImageSettings
from kobuild.store.cache import Cache

_READERS: Final = 8
"""Manifests read at once."""


@frozen
class Inherited:
    """What goes from the base's index into ours."""

    carried: tuple[Carried, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def inherit(
    locked: LockedBase | None,
    settings: ImageSettings,
    opener: OpenStore,
    cache: Cache | None = None,
    *,
    keep_layers: bool = False,
) -> Inherited:
    """What the settings keep of the locked base's index; nothing where it is no index.

    It depends on all the platforms of the settings, not on those that one run makes. With `keep_layers`, layers are put
    into the cache when they are read. Raises BaseError where the place does not have it any longer.
    """
    is_asked = settings.keeps_other_platforms or settings.keeps_base_annotations
    if locked is None or not is_asked or locked.digest in locked.platforms.values():
        return Inherited()
    store = open_cached(pinned_name(locked.name, Digest.parse(locked.digest)), opener, cache)
    index = _read_index(locked, store, opener)
    carried: tuple[Carried, ...] = ()
    if settings.keeps_other_platforms:
        entries = list(list_others(store, index, settings.platforms))
        with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="kobuild-base") as pool:
            carried = tuple(pool.map(lambda entry: _carry(store, entry, keep_layers=keep_layers), entries))
    return Inherited(carried, index.annotations if settings.keeps_base_annotations else {})


def list_others(store: CachingStore, index: Index, taken: Collection[Platform]) -> Iterator[Descriptor]:
    """The index's images for platforms other than those `taken`, and then the attestations about these images."""
    entries = list(list_manifests(store, index))
    named = (_with_platform(store, entry) for entry in entries if not is_about_another(entry))
    kept = [entry for entry in named if entry.platform is not None and entry.platform not in taken]
    digests = {str(entry.digest) for entry in kept}
    about = [entry for entry in entries if entry.annotations.get(ATTESTED_DIGEST) in digests]
    # An index within an index may list again what the outer one has.
    unique: dict[tuple[Digest, Platform | None], Descriptor] = {}
    for entry in (*kept, *about):
        unique.setdefault((entry.digest, entry.platform), entry)
    yield from unique.values()


def _with_platform(store: CachingStore, entry: Descriptor) -> Descriptor:
    """The entry with its platform, which is its config's where the index does not say."""
    return entry if entry.platform is not None else replace(entry, platform=platform_of(store, entry))


def _read_index(locked: LockedBase, store: CachingStore, opener: OpenStore) -> Index:
    digest = Digest.parse(locked.digest)
    document = store.document(digest, f"base {locked.name}")
    try:
        document = document or store.keep(_root(locked, store, opener))
    except (LayoutError, NotFound) as error:
        raise moved_on(locked.name, error) from error
    if not isinstance(document, Index) or document.digest != digest:
        raise moved_on(locked.name, BaseError(f"its index is not {digest}"))
    return document


def _root(locked: LockedBase, store: CachingStore, opener: OpenStore) -> Manifest | Index:
    """The root by digest; where a layout's own `index.json` is the image's index, no digest leads there."""
    try:
        return store.root()
    except LayoutError:
        return opener(locked.name).root()


def _carry(store: CachingStore, entry: Descriptor, *, keep_layers: bool) -> Carried:
    manifest = store.child(entry)
    if not isinstance(manifest, Manifest):
        raise BaseError(f"read {store.name}: {entry.digest} is said to be a manifest and is an index")
    unique = {blob.digest: blob for blob in (*manifest.layers, manifest.config)}
    blobs = (Blob(item, store.source(item, keep=keep_layers)) for item in unique.values())
    return Carried(entry, manifest, tuple(blobs))
