"""The rebase flow: the same tool layers on the base as it is now, without making a layer.

An image can be put on another base only where it is known for certain how it was made: so the image that was built is
made once more on paper, from the locked base, its own tool layers and the settings, and must come out with the same
image ID. Then the very same steps on the new base give an image in which nothing but the base differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from kobuild.base import SCRATCH, load_base, resolve_base
from kobuild.build import config_edits, history_line, locked_tool
from kobuild.errors import BaseError, LockError, UsageError
from kobuild.image.blobs import Layer
from kobuild.image.choose import choose_manifest, read_config
from kobuild.image.created import choose_created
from kobuild.image.image import Image, ImageSet
from kobuild.image.mutate import Addition, alike, append_layers, base_annotations, gather, with_config
from kobuild.image.store import ImageStore
from kobuild.lock import Lock, LockedBase
from kobuild.oci.config import ImageConfig
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.platforms import Platform
from kobuild.workshop import Workshop

_BUILD_INSTEAD = "build the image instead: `kobuild resolve --upgrade base`, then `kobuild push`"


@dataclass(frozen=True, slots=True)
class Rebased:
    """The image on the new base."""

    images: ImageSet
    lock: Lock
    """The lock with the new base."""


@dataclass(frozen=True, slots=True)
class _Built:
    """One platform's image as it is, with its base as locked."""

    manifest: Manifest
    config: ImageConfig
    base: Image
    tools: tuple[Layer, ...]


def find_new_base(workshop: Workshop, lock: Lock) -> LockedBase | None:
    """What the settings' base points at now; None where that is what is locked. Raises UsageError for scratch."""
    name = workshop.settings.image.base
    if name == SCRATCH or lock.base is None:
        raise UsageError("rebase: the image has no base: it was built from scratch")
    found = resolve_base(name, workshop.settings.image.platforms, workshop.open_store)
    return found if found != lock.base else None


def rebase(workshop: Workshop, lock: Lock, store: ImageStore, new_base: LockedBase) -> Rebased:
    """The image of `store`, which was built from `lock`, on `new_base`; nothing is written or pushed.

    Raises BaseError where the image is not exactly what the lock and the settings make of the locked base.
    """
    platforms = workshop.settings.image.platforms
    root = store.root()
    built = [_read(workshop, lock, store, root, platform) for platform in platforms]
    _prove(workshop, lock, store.name, built)
    new_lock = dataclasses.replace(lock, base=new_base)
    bases = alike([load_base(new_base, platform, workshop.open_store, workshop.cache) for platform in platforms])
    images = [
        _assemble(workshop, new_lock, platform, base, item, epoch=workshop.source_date_epoch)
        for platform, base, item in zip(platforms, bases, built, strict=True)
    ]
    return Rebased(gather(images, annotations=workshop.settings.image.annotations), new_lock)


def _read(workshop: Workshop, lock: Lock, store: ImageStore, root: Manifest | Index, platform: Platform) -> _Built:
    """Part the image into the locked base and what is on it."""
    manifest = choose_manifest(store, root, platform)
    config = read_config(store, manifest)
    base = load_base(lock.base, platform, workshop.open_store, workshop.cache)
    count, tools = len(base.layers), workshop.settings.tools
    of_base = [layer.digest for layer in manifest.layers[:count]]
    if of_base != [layer.descriptor.digest for layer in base.layers] or config.diff_ids[:count] != base.config.diff_ids:
        raise BaseError(
            f"rebase {store.name} for {platform}: its lowest layers are not those of the locked base",
            hint=_BUILD_INSTEAD,
        )
    if not len(manifest.layers) == len(config.diff_ids) == count + len(tools):
        raise BaseError(
            f"rebase {store.name} for {platform}: it has {len(manifest.layers) - count} layers on its base, and the "
            f"settings have {len(tools)} tools",
            hint=_BUILD_INSTEAD,
        )
    pairs = zip(manifest.layers[count:], config.diff_ids[count:], strict=True)
    return _Built(manifest, config, base, tuple(Layer(item, store.source(item), diff_id) for item, diff_id in pairs))


def _prove(workshop: Workshop, lock: Lock, name: str, built: Sequence[_Built]) -> None:
    """Raise BaseError unless lock and settings give exactly these images."""
    platforms = workshop.settings.image.platforms
    bases = alike([item.base for item in built])
    for platform, base, item in zip(platforms, bases, built, strict=True):
        again = _assemble(workshop, lock, platform, base, item, epoch=_seconds(item.config))
        if again.image_id != item.config.digest or again.manifest.annotations != item.manifest.annotations:
            parts = ", ".join(_differing(again, item)) or "annotations"
            raise BaseError(
                f"rebase {name} for {platform}: it is not what the lock and the settings make of the locked base; "
                f"these differ: {parts}",
                hint=_BUILD_INSTEAD,
            )


def _differing(again: Image, item: _Built) -> list[str]:
    """Names of the config's members that differ."""
    one, two = again.config.value(), item.config.value()
    found = [key for key in sorted({*one, *two} - {"config"}) if one.get(key) != two.get(key)]
    runtime, there = again.config.runtime, item.config.runtime
    return found + [key for key in sorted({*runtime, *there}) if runtime.get(key) != there.get(key)]


def _assemble(
    workshop: Workshop, lock: Lock, platform: Platform, base: Image, item: _Built, *, epoch: int | None
) -> Image:
    """The tool layers on a base, by the very steps of a build.

    When the tools' files were changed last is not known any more. It was not after the image's own `created`, which
    stands for it: so a newer base decides, as it does in a build.
    """
    settings = workshop.settings
    additions = [
        Addition(layer, history_line(tool, locked_tool(lock, tool, platform)[0].version))
        for tool, layer in zip(settings.tools, item.tools, strict=True)
    ]
    created = choose_created(base.config, [_seconds(item.config)], epoch)
    edits = config_edits(settings, lock, platform)
    if lock.base is None:
        raise LockError("rebase: the lock has no base")
    names = base_annotations(lock.base.name, Digest.parse(lock.base.digest))
    return with_config(
        append_layers(base, additions, created=created),
        dataclasses.replace(edits, annotations={**names, **settings.image.annotations}),
    )


def _seconds(config: ImageConfig) -> int:
    return 0 if config.created is None else int(config.created.timestamp())
