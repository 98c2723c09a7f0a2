"""What can be compared: an image, wherever it lies, or a lock; both as platforms with tools and a base."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from kobuild.errors import LockError
from kobuild.explain.imagetree import ImageNode, ImageTree, inspect_image
from kobuild.explain.origins import BaseName
from kobuild.frozen import frozen
from kobuild.image.store import ImageStore
from kobuild.lock import MAX_LOCK_BYTES, Lock, load, parse
from kobuild.oci.platforms import Platform

STDIN: Final = "-"
_LOCK_SUFFIX: Final = ".lock"


@frozen
class ToolState:
    """One tool as one side has it."""

    version: str
    proof: str
    """What tells two makings of one version apart: a layer's diff ID, or in a lock the file's sha256."""
    proven: tuple[str, ...] = ()
    """What was proven of the file, in a lock's words; an image says nothing of it."""


@frozen
class PlatformSubject:
    """One side of a comparison on one platform."""

    tools: Mapping[str, ToolState]
    base: BaseName | None
    image: ImageNode | None
    """None for a lock."""


@frozen
class Subject:
    """One side of a comparison."""

    name: str
    digest: str
    """Of what the name points at; empty for a lock."""
    platforms: Mapping[Platform, PlatformSubject]
    store: ImageStore | None
    """None for a lock."""


def open_subject(text: str, folder: Path, opener: Callable[[str], ImageStore]) -> Subject:
    """`-` is a lock on standard input, a name that ends with `.lock` one in a file, all else an image.

    Raises LockError for a lock that is missing or broken, and what reading an image raises.
    """
    if text == STDIN:
        return lock_subject("-", parse(sys.stdin.buffer.read(MAX_LOCK_BYTES + 1), Path("(standard input)")))
    if text.endswith(_LOCK_SUFFIX):
        lock = load(folder / text)
        if lock is None:
            raise LockError(f"read {text}: there is no such lock", hint="run `kobuild resolve`, which writes it")
        return lock_subject(text, lock)
    store = opener(text)
    return image_subject(inspect_image(store), store)


def lock_subject(name: str, lock: Lock) -> Subject:
    """What a lock says of each platform."""
    platforms = {platform for tool in lock.tools.values() for platform in tool.artifacts}
    base = BaseName(lock.base.name, lock.base.digest) if lock.base is not None else None
    if lock.base is not None:
        platforms.update(lock.base.platforms)
    return Subject(
        name, "", {item: PlatformSubject(_locked(lock, item), base, None) for item in sorted(platforms)}, None
    )


def _locked(lock: Lock, platform: Platform) -> dict[str, ToolState]:
    return {
        name: ToolState(tool.version, tool.artifacts[platform].sha256, tool.artifacts[platform].proofs)
        for name, tool in lock.tools.items()
        if platform in tool.artifacts
    }


def image_subject(tree: ImageTree, store: ImageStore) -> Subject:
    """What an image says of itself; of two images for one platform the first counts."""
    platforms: dict[Platform, PlatformSubject] = {}
    for image in tree.images:
        tools = {
            layer.origin.tool: ToolState(layer.origin.version, layer.diff_id)
            for layer in image.layers
            if layer.origin.tool
        }
        platforms.setdefault(image.platform, PlatformSubject(tools, image.base, image))
    return Subject(tree.name, str(tree.root.digest), platforms, store)
