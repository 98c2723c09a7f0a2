"""Manifests that were pushed one by one, joined to the very index that a push of all platforms would have made."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Final

from kobuild.build import gather_with, inherit_from_base
from kobuild.errors import BaseError, UsageError
from kobuild.frozen import frozen
from kobuild.image.blobs import BlobSource, Layer
from kobuild.image.choose import read_config
from kobuild.image.image import Image, ImageSet
from kobuild.image.mutate import gather
from kobuild.lock import Lock
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.proof import prove
from kobuild.registry import RegistrySource, RegistryStore
from kobuild.streams import Readable
from kobuild.workshop import Workshop

_READERS: Final = 8
_PUSH: Final = "`kobuild push --by-digest` pushes a platform and prints its name"


def join(workshop: Workshop, lock: Lock, references: Sequence[Reference]) -> ImageSet:
    """The images that the references name, one for each of the settings' platforms, as one push would set them.

    Each is proved to be what lock and settings make of the locked base, so that images of another commit are not
    mixed in. Only manifests and configs are read. Raises UsageError for references that are not one image for each
    platform, BaseError where the proof fails, LockError where the lock lacks something, and what reading raises.
    """
    _require_digests(references)
    unique = list({reference.digest: reference for reference in references}.values())
    with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="kobuild-join") as pool:
        found = list(zip(unique, pool.map(lambda reference: _read(workshop, reference), unique), strict=True))
    images = _by_platform(found, workshop.settings.image.platforms)
    joined = gather(images)
    prove(workshop, lock, _JoinedStore(joined), workshop.settings.image.platforms)
    return gather_with(workshop.settings, images, inherit_from_base(workshop, lock))


def _require_digests(references: Sequence[Reference]) -> None:
    if not references:
        raise UsageError("index: nothing to join", hint=_PUSH)
    for reference in references:
        if reference.digest is None:
            raise UsageError(f"index: {reference} names no digest", hint=_PUSH)


def _read(workshop: Workshop, reference: Reference) -> Image:
    """An image by digest; its layers stay where they are."""
    plain = Reference(reference.repository, None, reference.digest)
    registry = workshop.registry.without_mirrors
    store = RegistryStore(registry, plain)
    manifest = store.root()
    if not isinstance(manifest, Manifest):
        raise UsageError(f"index: {reference} is an index itself, not one platform's image", hint=_PUSH)
    config = read_config(store, manifest)
    if len(config.diff_ids) != len(manifest.layers):
        raise BaseError(f"read {reference}: its config and its manifest do not list the same number of layers")
    pairs = zip(manifest.layers, config.diff_ids, strict=True)
    layers = (Layer(item, RegistrySource(registry, reference.repository, item), diff_id) for item, diff_id in pairs)
    return Image(manifest, config, tuple(layers))


def _by_platform(found: Sequence[tuple[Reference, Image]], platforms: Sequence[Platform]) -> list[Image]:
    """The images in the settings' order; raises UsageError that tells all that is missing, double or foreign."""
    images: dict[Platform, tuple[Reference, Image]] = {}
    faults = []
    for reference, image in found:
        if image.platform not in platforms:
            faults.append(f"{reference} is for {image.platform}, which the settings do not name")
        elif image.platform in images:
            faults.append(f"{images[image.platform][0]} and {reference} are both for {image.platform}")
        else:
            images[image.platform] = (reference, image)
    faults += [f"nothing is for {platform}" for platform in platforms if platform not in images]
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise UsageError(f"index: it takes one image for each of the settings' platforms:{listed}", hint=_PUSH)
    return [images[platform][1] for platform in platforms]


@frozen
class _JoinedStore:
    """Images from anywhere, as one place that they can be read from together."""

    images: ImageSet

    @property
    def name(self) -> str:
        """What the images are, for messages."""
        return "what is to be joined"

    def root(self) -> Manifest | Index:
        """The index over them, or the only one."""
        return self.images.root

    def child(self, descriptor: Descriptor) -> Manifest | Index:
        """One of their manifests."""
        return next(image.manifest for image in self.images.images if image.manifest.digest == descriptor.digest)

    def source(self, descriptor: Descriptor) -> BlobSource:
        """A way to a blob's bytes."""
        blobs = (blob for image in self.images.images for blob in image.blobs)
        return next(blob.source for blob in blobs if blob.descriptor.digest == descriptor.digest)

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """Open a blob; configs are here already."""
        raw = {image.manifest.config.digest: image.config.raw for image in self.images.images}.get(descriptor.digest)
        return self.source(descriptor).open() if raw is None else _in_memory(raw)


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[Readable]:
    yield io.BytesIO(data)
