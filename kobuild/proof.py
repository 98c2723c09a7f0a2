"""Proof, without making a layer, that an image is what lock and settings make of the locked base.

The image that was built is made once more on paper, from the locked base, its own tool layers and the settings, and
must come out with the same image ID. Only what is known for certain to be made so can be put on another base, or
attested.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from kobuild.base import load_base
from kobuild.build import config_edits, history_line, inherit_from_base, locked_tool
from kobuild.errors import BaseError
from kobuild.frozen import frozen
from kobuild.image.blobs import Layer
from kobuild.image.choose import choose_manifest, read_config
from kobuild.image.created import choose_created
from kobuild.image.image import Image
from kobuild.image.mutate import Addition, alike, append_layers, base_annotations, with_config
from kobuild.image.store import ImageStore
from kobuild.lock import Lock
from kobuild.oci import annotations as keys
from kobuild.oci.config import ImageConfig
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.settings.model import ToolSettings
from kobuild.workshop import Workshop

BUILD_INSTEAD = "build the image from this lock and these settings"


@frozen
class BuiltImage:
    """One platform's image as it is, with its base as locked."""

    platform: Platform
    manifest: Manifest
    config: ImageConfig
    base: Image
    tools: tuple[Layer, ...]
    """In the settings' order."""

    @property
    def created_seconds(self) -> int:
        """When it says it was made, in seconds since 1970; 0 where it does not say."""
        return 0 if self.config.created is None else int(self.config.created.timestamp())


def prove(workshop: Workshop, lock: Lock, store: ImageStore, platforms: Sequence[Platform]) -> tuple[BuiltImage, ...]:
    """The image of each platform, proved to be what lock and settings say; reads manifests and configs alone.

    Raises BaseError naming what differs, LockError where the lock lacks something, and what the store raises.
    """
    root = store.root()
    built = tuple(_read(workshop, lock, store, root, platform) for platform in platforms)
    bases = alike([item.base for item in built], inherit_from_base(workshop, lock).carried)
    for base, item in zip(bases, built, strict=True):
        again = assemble(workshop, lock, base, item, epoch=item.created_seconds)
        if again.image_id != item.config.digest or again.manifest.annotations != item.manifest.annotations:
            parts = ", ".join(_differing(again, item)) or "annotations"
            raise BaseError(
                f"{store.name} for {item.platform} is not what the lock and the settings make of the locked base; "
                f"these differ: {parts}",
                hint=BUILD_INSTEAD,
            )
    return built


def assemble(workshop: Workshop, lock: Lock, base: Image, item: BuiltImage, *, epoch: int | None) -> Image:
    """The tool layers of `item` on `base`, by the very steps of a build.

    When the tools' files were changed last is not known any more. It was not after the image's own `created`, which
    stands for it: so a newer base decides, as it does in a build.
    """
    settings = workshop.settings
    versions = [locked_tool(lock, tool, item.platform)[0].version for tool in settings.tools]
    additions = [
        Addition(_annotate(layer, tool, version, base.manifest.family), history_line(tool, version))
        for tool, version, layer in zip(settings.tools, versions, item.tools, strict=True)
    ]
    created = choose_created(base.config, [item.created_seconds], epoch)
    # The base's name as it was when it was locked: the settings may have moved on.
    names = base_annotations(lock.base.name, Digest.parse(lock.base.digest)) if lock.base is not None else {}
    edits = config_edits(settings, lock, item.platform)
    return with_config(
        append_layers(base, additions, created=created),
        dataclasses.replace(edits, annotations={**names, **settings.image.annotations}),
    )


def _annotate(layer: Layer, tool: ToolSettings, version: str, family: Family) -> Layer:
    """The layer with the annotations that a build gives it on a base of that family."""
    notes = {
        key: text
        for key, text in layer.descriptor.annotations.items()
        if key not in (keys.TOOL_NAME, keys.TOOL_VERSION)
    }
    if family is Family.OCI:
        notes |= {keys.TOOL_NAME: tool.name, keys.TOOL_VERSION: version}
    return dataclasses.replace(layer, descriptor=dataclasses.replace(layer.descriptor, annotations=notes))


def _read(workshop: Workshop, lock: Lock, store: ImageStore, root: Manifest | Index, platform: Platform) -> BuiltImage:
    """Part the image into the locked base and what is on it."""
    manifest = choose_manifest(store, root, platform)
    config = read_config(store, manifest)
    base = load_base(lock.base, platform, workshop.open_store, workshop.cache)
    count, tools = len(base.layers), workshop.settings.tools
    of_base = [layer.digest for layer in manifest.layers[:count]]
    if of_base != [layer.descriptor.digest for layer in base.layers] or config.diff_ids[:count] != base.config.diff_ids:
        raise BaseError(
            f"{store.name} for {platform}: its lowest layers are not those of the locked base", hint=BUILD_INSTEAD
        )
    if not len(manifest.layers) == len(config.diff_ids) == count + len(tools):
        raise BaseError(
            f"{store.name} for {platform}: it has {len(manifest.layers) - count} layers on its base, and the settings "
            f"have {len(tools)} tools",
            hint=BUILD_INSTEAD,
        )
    pairs = zip(manifest.layers[count:], config.diff_ids[count:], strict=True)
    layers = tuple(Layer(item, store.source(item), diff_id) for item, diff_id in pairs)
    return BuiltImage(platform, manifest, config, base, layers)


def _differing(again: Image, item: BuiltImage) -> list[str]:
    """Names of the config's members that differ."""
    one, two = again.config.value(), item.config.value()
    found = [key for key in sorted({*one, *two} - {"config"}) if one.get(key) != two.get(key)]
    runtime, there = again.config.runtime, item.config.runtime
    return found + [key for key in sorted({*runtime, *there}) if runtime.get(key) != there.get(key)]
