"""Which image of an index is for a platform: image-spec, image-index.md, with containerd's order of variants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kobuild.errors import BaseError
from kobuild.image.store import ImageStore
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.annotations import ATTESTATION
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.platforms import Platform
from kobuild.streams import read_bounded

_MAX_DEPTH: Final = 4
"""Indexes within indexes; deeper ones are nobody's image."""
_CONFIGS: Final = (mediatypes.OCI_CONFIG, mediatypes.DOCKER_CONFIG)


def read_config(store: ImageStore, manifest: Manifest) -> ImageConfig:
    """The config of an image, digest checked; raises BaseError where the manifest is not an image's."""
    if not is_image(manifest):
        raise BaseError(
            f"read {store.name}: it is not an image: its config is {manifest.config.media_type}",
            hint="an artifact such as a signature or a chart is no image",
        )
    with store.open(manifest.config) as file:
        raw = read_bounded(file, jsonio.MAX_DOCUMENT_BYTES, f"{store.name}: config")
    return ImageConfig.from_bytes(raw, f"{store.name}: config")


def is_image(manifest: Manifest) -> bool:
    """Whether a manifest is an image's, and not an artifact's."""
    return manifest.config.media_type in _CONFIGS


def list_images(store: ImageStore, index: Index) -> Iterator[Descriptor]:
    """Every image of an index and of the indexes in it, without attestations and artifacts."""
    return (entry for entry in list_manifests(store, index) if not is_about_another(entry))


def list_manifests(store: ImageStore, index: Index, depth: int = 1) -> Iterator[Descriptor]:
    """Every manifest of an index and of the indexes in it, attestations and artifacts too."""
    if depth > _MAX_DEPTH:
        raise BaseError(f"read {store.name}: indexes within indexes, more than {_MAX_DEPTH} deep")
    for entry in index.manifests:
        if entry.media_type in mediatypes.INDEXES:
            child = store.child(entry)
            if isinstance(child, Index):
                yield from list_manifests(store, child, depth + 1)
        elif entry.media_type in mediatypes.MANIFESTS:
            yield entry


def is_about_another(entry: Descriptor) -> bool:
    """Whether an index entry is an attestation or an artifact, which no platform runs."""
    unknown = entry.platform is not None and not entry.platform.is_known
    return unknown or entry.artifact_type is not None or ATTESTATION in entry.annotations


def choose_manifest(store: ImageStore, root: Manifest | Index, platform: Platform) -> Manifest:
    """The image for `platform`, or the nearest that runs on it; raises BaseError naming the platforms there are."""
    if isinstance(root, Manifest):
        check_platform(store.name, read_config(store, root).platform, platform)
        return root
    entries = tuple(list_images(store, root))
    named = {entry.platform: entry for entry in reversed(entries) if entry.platform}
    for wanted in platform.runnable:
        if wanted in named:
            return _child_manifest(store, named[wanted])
    nameless = {platform_of(store, entry): entry for entry in reversed(entries) if not entry.platform}
    for wanted in platform.runnable:
        if wanted in nameless:
            return _child_manifest(store, nameless[wanted])
    known = sorted(str(item) for item in (*named, *nameless) if item is not None)
    raise BaseError(
        f"{store.name} has no image for {platform}; it has {', '.join(known) or 'no image at all'}",
        hint="name one of these in image.platforms, or choose another base",
    )


def check_platform(name: str, found: Platform, wanted: Platform) -> None:
    """Raises BaseError for another system or architecture.

    Variants may differ: the configs of many images for `arm/v6` say only `arm`.
    """
    if (found.os, found.architecture) != (wanted.os, wanted.architecture):
        raise BaseError(
            f"{name} is for {found}, not for {wanted}",
            hint=f"name {found} in image.platforms, or choose a base for {wanted}",
        )


def _child_manifest(store: ImageStore, entry: Descriptor) -> Manifest:
    child = store.child(entry)
    if not isinstance(child, Manifest):
        raise BaseError(f"read {store.name}: {entry.digest} is said to be a manifest and is an index")
    return child


def platform_of(store: ImageStore, entry: Descriptor) -> Platform | None:
    """What an entry without a platform is for, by its config; None where it is no image."""
    manifest = _child_manifest(store, entry)
    return read_config(store, manifest).platform if is_image(manifest) else None
