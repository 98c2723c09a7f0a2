"""The rebase flow: the same tool layers on the base as it is now, without making a layer.

The image must be proved to be what the lock and the settings make of the locked base. Then the very same steps on the
new base give an image in which nothing but the base differs.
"""

from __future__ import annotations

import dataclasses

from kobuild.base import SCRATCH, load_base, resolve_base
from kobuild.build import gather_with, inherit_from_base
from kobuild.errors import UsageError
from kobuild.frozen import frozen
from kobuild.image.image import ImageSet
from kobuild.image.mutate import alike
from kobuild.image.store import ImageStore
from kobuild.lock import Lock, LockedBase
from kobuild.placing import require_same_places
from kobuild.proof import assemble, prove
from kobuild.workshop import Workshop


@frozen
class Rebased:
    """The image on the new base."""

    images: ImageSet
    lock: Lock
    """The lock with the new base."""


def find_new_base(workshop: Workshop, lock: Lock) -> LockedBase | None:
    """What the settings' base points at now; None where that is what is locked. Raises UsageError for scratch."""
    name = workshop.settings.image.base
    if name == SCRATCH or lock.base is None:
        raise UsageError("rebase: the image has no base: it was built from scratch")
    found = resolve_base(name, workshop.settings.image.platforms, workshop.open_store, workshop.cache)
    return found if found != lock.base else None


def rebase(workshop: Workshop, lock: Lock, store: ImageStore, new_base: LockedBase) -> Rebased:
    """The image of `store`, which was built from `lock`, on `new_base`; nothing is written or pushed.

    Raises BaseError where the image is not exactly what the lock and the settings make of the locked base, or where a
    tool layer would be made differently for the new one.
    """
    platforms = workshop.settings.image.platforms
    built = prove(workshop, lock, store, platforms)
    new_lock = dataclasses.replace(lock, base=new_base)
    inherited = inherit_from_base(workshop, new_lock)
    loaded = [load_base(new_base, platform, workshop.open_store, workshop.cache) for platform in platforms]
    bases = alike(loaded, inherited.carried)
    for base, item in zip(bases, built, strict=True):
        require_same_places(workshop, lock, item, base)
    images = [
        assemble(workshop, new_lock, base, item, epoch=workshop.source_date_epoch)
        for base, item in zip(bases, built, strict=True)
    ]
    return Rebased(gather_with(workshop.settings, images, inherited), new_lock)
