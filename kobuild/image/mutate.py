"""Edits of an image; each returns a new image and leaves the old one alone.

What kobuild does not know of the base's config survives. The base manifest's own annotations do not, unless they are
asked for: they describe the base (its revision, its creation), and would be untrue of what is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import Any, Final

from kobuild.errors import BaseError
from kobuild.frozen import frozen
from kobuild.image.blobs import Layer
from kobuild.image.environment import prepend_path, set_variables
from kobuild.image.image import Carried, Image, ImageSet
from kobuild.oci import annotations as keys
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.config import ImageConfig, format_time
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform

_WHAT: Final = "image config"


@frozen
class Addition:
    """One layer to append, and the line of history that tells what it is."""

    layer: Layer
    """Its media type may be of either family: it is turned into the image's."""
    created_by: str
    """A line for people, such as `kobuild: go 1.27.3 under /usr/local`."""


@frozen
class ConfigEdits:
    """What to change in a config; None and empty collections leave the base's values alone.

    Setting `entrypoint` drops the base's cmd, unless `cmd` is set too: the base's arguments were meant for the base's
    program. Docker's ENTRYPOINT, crane and ko do the same. An empty string or tuple for `workdir`, `user`,
    `entrypoint`, `cmd` or `stop_signal` clears the base's value.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    """Directories put before PATH, after `env` was applied."""
    workdir: str | None = None
    user: str | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    expose: tuple[str, ...] = ()
    """Ports such as `8080/tcp`, added to the base's."""
    volumes: tuple[str, ...] = ()
    """Paths, added to the base's."""
    stop_signal: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    """All the annotations of the new manifest; Docker's manifests cannot hold any, so there they are left out."""
    keeps_annotations: bool = False
    """Whether the base's stay under `annotations`, so that those are not all."""
    platform: Platform | None = None
    """What the image is for, where that is narrower than the base's word (`amd64/v3` on a base for `amd64`)."""

    def annotations_on(self, base: Image) -> dict[str, str]:
        """The annotations of what is made of `base`."""
        return {**(base.manifest.annotations if self.keeps_annotations else {}), **self.annotations}


def append_layers(image: Image, additions: Sequence[Addition], *, created: datetime) -> Image:
    """`image` with layers on top, a line of history each, and `created`; raises BaseError for an inconsistent base.

    A layer that Docker's family cannot name (zstd) turns the whole manifest into OCI. History that does not match the
    base's layers is left as it is.
    """
    if not len(image.config.diff_ids) == len(image.manifest.layers) == len(image.layers):
        raise BaseError(
            f"append layers: the base's config lists {len(image.config.diff_ids)} layers and its manifest "
            f"{len(image.manifest.layers)}",
            hint="the base image is broken; choose another one, or have it rebuilt",
        )
    value = image.config.value()
    rootfs = jsonio.get_object(value, "rootfs", _WHAT)
    diff_ids = [str(item.layer.diff_id) for item in additions]
    value["rootfs"] = {"type": "layers", **rootfs, "diff_ids": [*map(str, image.config.diff_ids), *diff_ids]}
    moment = format_time(created)
    lines = [{"created": moment, "created_by": item.created_by} for item in additions]
    value["history"] = [*image.config.history, *lines]
    value["created"] = moment
    layers = (*image.layers, *(item.layer for item in additions))
    return _assemble(image, config=ImageConfig.from_value(value), layers=layers)


def with_config(image: Image, edits: ConfigEdits) -> Image:
    """`image` with its runtime config, platform and manifest annotations as `edits` say."""
    value = image.config.value()
    if edits.platform is not None and edits.platform.normalized() != image.platform:
        value.pop("variant", None)
        value.update(edits.platform.to_json())
    runtime = jsonio.get_object(value, "config", _WHAT)
    _edit_environment(runtime, edits)
    _edit_command(runtime, edits)
    for key, text in (("WorkingDir", edits.workdir), ("User", edits.user), ("StopSignal", edits.stop_signal)):
        _set_or_clear(runtime, key, text)
    for key, names in (("ExposedPorts", edits.expose), ("Volumes", edits.volumes)):
        if names:
            runtime[key] = {**jsonio.get_object(runtime, key, _WHAT), **{name: {} for name in names}}
    if edits.labels:
        runtime["Labels"] = {**jsonio.get_string_map(runtime, "Labels", _WHAT), **edits.labels}
    value["config"] = runtime
    annotations = edits.annotations_on(image)
    return _assemble(image, config=ImageConfig.from_value(value), layers=image.layers, annotations=annotations)


def base_annotations(name: str, digest: Digest | None) -> dict[str, str]:
    """The annotations that name the base, for ConfigEdits; none for `scratch`, which has no digest."""
    return {} if digest is None else {keys.BASE_DIGEST: str(digest), keys.BASE_NAME: name}


def as_oci(image: Image) -> Image:
    """The same image in OCI's media types; the image ID and the layers' digests stay."""
    return _assemble(image, config=image.config, layers=image.layers, family=Family.OCI)


def gather(
    images: Sequence[Image],
    *,
    annotations: Mapping[str, str] | None = None,
    indexed: bool = False,
    carried: Sequence[Carried] = (),
) -> ImageSet:
    """What a tag points at: the only image itself, or an index of several (or of one, where `indexed` asks for it).

    What is `carried` is listed after the images. Images of both families become OCI all, so that an index does not mix
    them.
    """
    if len(images) == 1 and not indexed and not carried:
        return ImageSet(tuple(images), None)
    same = alike(images, carried)
    family = same[0].manifest.family
    others = carry_into(family, carried)
    manifests = (*(image.descriptor for image in same), *(item.descriptor for item in others))
    index = Index.build(media_type=family.index, manifests=manifests, annotations=annotations)
    return ImageSet(same, index, others)


def alike(images: Sequence[Image], carried: Sequence[Carried] = ()) -> tuple[Image, ...]:
    """The same images in one family: OCI's, unless all are Docker's, what is carried along included.

    Bases are best made alike before they are edited: a Docker manifest that becomes OCI later has lost its annotations.
    """
    manifests = [image.manifest for image in images] + [item.manifest for item in carried]
    is_mixed = len({manifest.family for manifest in manifests}) > 1
    return tuple(as_oci(image) for image in images) if is_mixed else tuple(images)


def carry_into(family: Family, carried: Sequence[Carried]) -> tuple[Carried, ...]:
    """What is carried as an index of that family lists it.

    In an index of OCI's, Docker's manifests are written anew; attestations about those, which name their old digests,
    are left out.
    """
    if family is Family.DOCKER:
        return tuple(carried)
    items = [_carried_as_oci(item) for item in carried]
    listed = {str(item.descriptor.digest) for item in items}
    about = [item.descriptor.annotations.get(keys.ATTESTED_DIGEST) for item in items]
    return tuple(item for item, digest in zip(items, about, strict=True) if digest is None or digest in listed)


def _carried_as_oci(item: Carried) -> Carried:
    if item.manifest.family is Family.OCI:
        return item
    manifest = Manifest.build(
        media_type=Family.OCI.manifest,
        config=_descriptor_as_oci(item.manifest.config),
        layers=tuple(_descriptor_as_oci(layer) for layer in item.manifest.layers),
        annotations={},
    )
    plain = manifest.descriptor
    descriptor = replace(item.descriptor, media_type=plain.media_type, digest=plain.digest, size=plain.size, data=None)
    blobs = tuple(replace(blob, descriptor=_descriptor_as_oci(blob.descriptor)) for blob in item.blobs)
    return Carried(descriptor, manifest, blobs)


def _descriptor_as_oci(descriptor: Descriptor) -> Descriptor:
    return replace(descriptor, media_type=mediatypes.to_oci(descriptor.media_type))


def _edit_environment(runtime: dict[str, Any], edits: ConfigEdits) -> None:
    env = jsonio.get_strings(runtime, "Env", _WHAT)
    edited = prepend_path(set_variables(env, edits.env), edits.path)
    if edited != env:
        runtime["Env"] = list(edited)


def _edit_command(runtime: dict[str, Any], edits: ConfigEdits) -> None:
    _set_or_clear(runtime, "Entrypoint", edits.entrypoint)
    if edits.entrypoint is not None and edits.cmd is None:
        runtime.pop("Cmd", None)
    _set_or_clear(runtime, "Cmd", edits.cmd)


def _set_or_clear(runtime: dict[str, Any], key: str, value: str | tuple[str, ...] | None) -> None:
    if value is None:
        return
    if value:
        runtime[key] = value if isinstance(value, str) else list(value)
    else:
        runtime.pop(key, None)


def _assemble(
    image: Image,
    *,
    config: ImageConfig,
    layers: tuple[Layer, ...],
    annotations: Mapping[str, str] | None = None,
    family: Family | None = None,
) -> Image:
    chosen = family or _choose_family(image.manifest.family, layers)
    alike = tuple(_in_family(layer, chosen) for layer in layers)
    manifest = Manifest.build(
        media_type=chosen.manifest,
        config=Descriptor(chosen.config, config.digest, len(config.raw)),
        layers=tuple(layer.descriptor for layer in alike),
        annotations=image.manifest.annotations if annotations is None else annotations,
    )
    return Image(manifest, config, alike)


def _choose_family(family: Family, layers: Sequence[Layer]) -> Family:
    if family is Family.DOCKER and all(mediatypes.in_family(layer.descriptor.media_type, family) for layer in layers):
        return Family.DOCKER
    return Family.OCI


def _in_family(layer: Layer, family: Family) -> Layer:
    media_type = mediatypes.in_family(layer.descriptor.media_type, family) or layer.descriptor.media_type
    if media_type == layer.descriptor.media_type:
        return layer
    return replace(layer, descriptor=replace(layer.descriptor, media_type=media_type))
