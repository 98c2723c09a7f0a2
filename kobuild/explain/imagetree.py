"""An image as a tree: platforms, layers with what made each, the config, and the largest files if asked for.

Without files only manifests and configs are read, some kilobytes of any image.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final

from kobuild.errors import UsageError
from kobuild.explain.entries import LayerListing
from kobuild.explain.listing import list_layer
from kobuild.explain.origins import BaseName, Origin, base_name, layer_origins
from kobuild.frozen import frozen
from kobuild.image.choose import choose_manifest, is_about_another, list_images, read_config
from kobuild.image.store import ImageStore
from kobuild.image.validate import FoundImage
from kobuild.layers.entries import Entry, Kind
from kobuild.layers.toc import table_form
from kobuild.oci import mediatypes
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.platforms import Platform
from kobuild.progress import Reporter

_JOBS: Final = 4
_CONFIG_KEYS: Final = (
    "Env",
    "Entrypoint",
    "Cmd",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Volumes",
    "StopSignal",
    "Labels",
    "Shell",
    "Healthcheck",
    "OnBuild",
)


@frozen
class LayerNode:
    """One layer."""

    number: int
    """From 1, the lowest."""
    descriptor: Descriptor
    diff_id: str
    """Empty where the config has fewer diff IDs than there are layers."""
    origin: Origin
    listing: LayerListing | None = None
    """None where the files were not asked for, or where the layer's bytes are kept elsewhere."""

    @property
    def table(self) -> str | None:
        """Which table of contents it has: `estargz`, `zstd:chunked`, or None."""
        return table_form(self.descriptor)


@frozen
class ImageNode:
    """One platform's image."""

    manifest: Manifest
    config: ImageConfig
    platform: Platform
    base: BaseName | None
    layers: tuple[LayerNode, ...]

    @property
    def size(self) -> int:
        """Stored bytes of all layers, config and manifest."""
        layers = sum(layer.descriptor.size for layer in self.layers)
        return layers + len(self.config.raw) + len(self.manifest.raw)

    def largest(self, count: int) -> list[tuple[LayerNode, Entry]]:
        """The largest regular files of the layers that were listed, the largest first."""
        files = (
            (layer, entry)
            for layer in self.layers
            if layer.listing is not None
            for entry in layer.listing.entries
            if entry.kind is Kind.FILE
        )
        return heapq.nsmallest(count, files, key=lambda pair: (-pair[1].size, pair[1].path, pair[0].number))


@frozen
class ImageTree:
    """What one reference points at."""

    name: str
    root: Manifest | Index
    images: tuple[ImageNode, ...]
    others: tuple[Descriptor, ...]
    """Entries of the index that are no images: attestations, artifacts."""


def find_images(
    store: ImageStore, root: Manifest | Index, platforms: Sequence[Platform] = ()
) -> tuple[FoundImage, ...]:
    """The images of a store, those for `platforms` or all; reads manifests and configs.

    Raises BaseError where there is none for a platform, and what the store raises.
    """
    if platforms:
        manifests = [(choose_manifest(store, root, platform), None) for platform in platforms]
        return tuple(FoundImage(manifest, read_config(store, manifest), entry) for manifest, entry in manifests)
    if isinstance(root, Manifest):
        return (FoundImage(root, read_config(store, root), None),)
    found = []
    for entry in list_images(store, root):
        child = store.child(entry)
        if isinstance(child, Manifest):
            found.append(FoundImage(child, read_config(store, child), entry))
    return tuple(found)


def inspect_image(
    store: ImageStore,
    *,
    platforms: Sequence[Platform] = (),
    files: bool = False,
    layers: Collection[int] = (),
    whole: bool = False,
    reporter: Reporter | None = None,
) -> ImageTree:
    """Read the tree; with `files`, what its layers hold too, those with the numbers `layers` (from 1) or all.

    `whole` reads layers to their end even where a table of contents would do.

    Raises UsageError where no image has a layer of that number.
    """
    root = store.root()
    images = tuple(_node(image) for image in find_images(store, root, platforms))
    most = max((len(image.layers) for image in images), default=0)
    for number in layers:
        if not 1 <= number <= most:
            raise UsageError(f"inspect {store.name}: there is no layer {number}: it has {most}")
    if files:
        images = _with_listings(images, layers, partial(list_layer, store, whole=whole, reporter=reporter))
    others = [entry for entry in root.manifests if is_about_another(entry)] if isinstance(root, Index) else []
    return ImageTree(store.name, root, images, tuple(others))


def _node(image: FoundImage) -> ImageNode:
    diff_ids = [str(item) for item in image.config.diff_ids]
    layers = zip(image.manifest.layers, layer_origins(image), strict=True)
    nodes = tuple(
        LayerNode(number, descriptor, diff_ids[number - 1] if number <= len(diff_ids) else "", origin)
        for number, (descriptor, origin) in enumerate(layers, 1)
    )
    return ImageNode(image.manifest, image.config, image.platform, base_name(image), nodes)


def _with_listings(
    images: tuple[ImageNode, ...], numbers: Collection[int], list_one: Callable[[Descriptor], LayerListing]
) -> tuple[ImageNode, ...]:
    """Each blob is read once, however many images share it."""
    wanted = {
        layer.descriptor.digest: layer.descriptor
        for image in images
        for layer in image.layers
        if (not numbers or layer.number in numbers) and not stays_away(layer.descriptor)
    }
    with ThreadPoolExecutor(max_workers=_JOBS, thread_name_prefix="kobuild-inspect") as pool:
        jobs = {digest: pool.submit(list_one, item) for digest, item in wanted.items()}
        try:
            listings = {digest: job.result() for digest, job in jobs.items()}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return tuple(
        replace(image, layers=tuple(_listed(layer, listings, numbers) for layer in image.layers)) for image in images
    )


def _listed(layer: LayerNode, listings: Mapping[Digest, LayerListing], numbers: Collection[int]) -> LayerNode:
    is_wanted = not numbers or layer.number in numbers
    return replace(layer, listing=listings.get(layer.descriptor.digest)) if is_wanted else layer


def stays_away(descriptor: Descriptor) -> bool:
    """Whether the layer's bytes are not where the image is, but at addresses that its descriptor names."""
    return mediatypes.is_foreign(descriptor.media_type) and bool(descriptor.urls)


def runtime_config(config: ImageConfig) -> dict[str, Any]:
    """What the config says of running the image, in a fixed order, without what is empty."""
    runtime = config.runtime
    rest = sorted(set(runtime) - set(_CONFIG_KEYS))
    return {key: runtime[key] for key in (*_CONFIG_KEYS, *rest) if runtime.get(key) not in (None, "", [], {}, False)}
