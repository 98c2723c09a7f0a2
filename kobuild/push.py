"""The push flow: what a build made, to its targets in registries."""

from __future__ import annotations

from collections.abc import Sequence

from kobuild.build import Build
from kobuild.errors import UsageError
from kobuild.image.image import ImageSet
from kobuild.oci.reference import Reference
from kobuild.registry import AheadUploads, PushResult
from kobuild.settings.model import Settings
from kobuild.workshop import Workshop


def choose_targets(settings: Settings, tags: Sequence[str]) -> tuple[Reference, ...]:
    """Where to push: the settings' targets, each under `tags` instead of its own tag where some are given.

    Raises UsageError where there is no target, or where one is a digest, which nobody can choose.
    """
    targets = settings.image.targets
    if not targets:
        raise UsageError(
            f"push: {settings.path} names no target",
            hint='set target = "registry/repository:tag" in its image table, or pass --target',
        )
    for target in targets:
        if target.digest is not None:
            raise UsageError(f"push: the target {target} has a digest", hint="name a tag; the digest comes of the push")
    if not tags:
        return tuple(dict.fromkeys(targets))
    return tuple(dict.fromkeys(target.with_tag(tag) for target in targets for tag in tags))


def push_by_digest(
    workshop: Workshop, build: Build, target: Reference, ahead: AheadUploads | None = None
) -> tuple[list[Reference], PushResult]:
    """Push each platform's image alone, under its digest and no tag, into the target's repository.

    `ahead` has a head start for some of the layers. Returns what to call them, and what the pushes did together.
    """
    names: list[Reference] = []
    total = PushResult(build.images.descriptor)
    for image in build.images.images:
        names.append(target.with_digest(image.manifest.digest))
        total += workshop.registry.push(ImageSet((image,), None), names[-1:], workshop.reporter, ahead=ahead)
    return names, total


def push(
    workshop: Workshop,
    build: Build,
    targets: Sequence[Reference],
    ahead: AheadUploads | None = None,
    *,
    move_tags: bool = True,
) -> PushResult:
    """Push the images: layers from the cache, the base's from where they are; manifests last, tags at the very end.

    `ahead` has a head start for some of the layers. With `move_tags` off, a tag that points at another image raises
    PushRefused before anything is sent to its repository.
    """
    return workshop.registry.push(build.images, targets, workshop.reporter, ahead=ahead, move_tags=move_tags)
