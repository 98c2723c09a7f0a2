"""Two images, layouts, archives or locks, compared: tools, base, config, layers, files.

A layer that both images have is not read: it holds the same. Of the others every file's content is hashed as it streams
by; nothing is extracted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from kobuild.errors import UsageError
from kobuild.explain.entries import LayerListing
from kobuild.explain.filediff import FileChange, compare_files
from kobuild.explain.imagetree import ImageNode, LayerNode, runtime_config, stays_away
from kobuild.explain.listing import list_layer
from kobuild.explain.origins import BaseName
from kobuild.explain.overlay import lay
from kobuild.explain.subjects import PlatformSubject, Subject, ToolState
from kobuild.frozen import frozen
from kobuild.image.store import ImageStore
from kobuild.oci import annotations as keys
from kobuild.oci.config import format_time
from kobuild.oci.digest import Digest
from kobuild.oci.platforms import Platform
from kobuild.progress import NullReporter, Reporter

_JOBS: Final = 4
_BASE_NOTES: Final = frozenset({keys.BASE_NAME, keys.BASE_DIGEST})


@frozen
class ToolChange:
    """One tool that differs; a side that lacks it is None."""

    name: str
    old: ToolState | None
    new: ToolState | None


@frozen
class ValueChange:
    """One value of the config that differs; None is not set."""

    key: str
    """Such as `Env.PATH`, `WorkingDir`, `annotations.org.opencontainers.image.version`."""
    old: str | None
    new: str | None


@frozen
class PlatformDiff:
    """What differs on one platform; `None` where one side is a lock, which does not say."""

    platform: Platform
    tools: tuple[ToolChange, ...]
    base: tuple[BaseName | None, BaseName | None] | None
    """Both sides' base, None where it is the same."""
    config: tuple[ValueChange, ...] | None
    layers: tuple[tuple[LayerNode, ...], tuple[LayerNode, ...]] | None
    """The layers that only the old image has, and those that only the new one has."""
    files: tuple[FileChange, ...] | None
    sizes: tuple[int, int] | None
    """Stored bytes of both images."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        parts = (self.tools, self.base, self.config, self.files)
        return not any(parts) and not (self.layers is not None and any(self.layers))


@frozen
class Difference:
    """What differs between two subjects."""

    old: Subject
    new: Subject
    only_old: tuple[Platform, ...]
    only_new: tuple[Platform, ...]
    platforms: tuple[PlatformDiff, ...]
    """Of the platforms that both have."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.only_old or self.only_new) and all(item.is_empty for item in self.platforms)


def compare(
    old: Subject,
    new: Subject,
    *,
    platforms: Collection[Platform] = (),
    files: bool = True,
    shared: bool = False,
    whole: bool = False,
    reporter: Reporter | None = None,
) -> Difference:
    """Compare two subjects, on `platforms` or on all that either has.

    Without `files`, layers are not read at all; with `whole`, to their end even where a table of contents would do.
    With `shared`, layers that both have are read too: only then is it told for certain whether a file that one image
    alone puts in its own layers covers one of a shared layer.
    """
    _check_platforms(old, new, platforms)
    wanted = [item for item in sorted({*old.platforms, *new.platforms}) if not platforms or item in platforms]
    both = [item for item in wanted if item in old.platforms and item in new.platforms]
    reading = _Reading(old.store, new.store, reporter or NullReporter(), whole=whole) if files else None
    return Difference(
        old,
        new,
        tuple(item for item in wanted if item not in new.platforms),
        tuple(item for item in wanted if item not in old.platforms),
        tuple(_compare(item, old.platforms[item], new.platforms[item], reading, shared=shared) for item in both),
    )


def _check_platforms(old: Subject, new: Subject, platforms: Collection[Platform]) -> None:
    for platform in platforms:
        if platform not in old.platforms and platform not in new.platforms:
            known = ", ".join(map(str, sorted({*old.platforms, *new.platforms})))
            raise UsageError(f"diff: neither {old.name} nor {new.name} has {platform}", hint=f"they have {known}")


def _compare(
    platform: Platform, old: PlatformSubject, new: PlatformSubject, reading: _Reading | None, *, shared: bool
) -> PlatformDiff:
    images = (old.image, new.image) if old.image is not None and new.image is not None else None
    return PlatformDiff(
        platform,
        tools=_compare_tools(old.tools, new.tools, is_alike=(old.image is None) == (new.image is None)),
        base=(old.base, new.base) if old.base != new.base else None,
        config=_compare_values(_values(images[0]), _values(images[1])) if images else None,
        layers=_unshared(*images) if images else None,
        files=reading.compare(*images, shared=shared) if images and reading is not None else None,
        sizes=(images[0].size, images[1].size) if images else None,
    )


def _compare_tools(
    old: Mapping[str, ToolState], new: Mapping[str, ToolState], *, is_alike: bool
) -> tuple[ToolChange, ...]:
    """Tools that differ; an image's diff IDs and a lock's sums say different things, so that there versions decide."""
    changes = []
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name), new.get(name)
        is_same = before == after if is_alike else before and after and before.version == after.version
        if not is_same:
            changes.append(ToolChange(name, before, after))
    return tuple(changes)


def _values(image: ImageNode) -> dict[str, str]:
    """The config as one flat table."""
    flat: dict[str, str] = {}
    for key, value in runtime_config(image.config).items():
        if key == "Env":
            flat.update(_variables(value))
        elif key == "Labels":
            flat.update({f"Labels.{name}": str(text) for name, text in value.items()})
        elif isinstance(value, dict) and key in ("ExposedPorts", "Volumes"):
            flat[key] = " ".join(sorted(value))
        else:
            flat[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    notes = image.manifest.annotations
    flat.update({f"annotations.{name}": notes[name] for name in sorted(set(notes) - _BASE_NOTES)})
    created = image.config.created
    return {**flat, "created": format_time(created)} if created is not None else flat


def _variables(env: list[Any]) -> dict[str, str]:
    pairs = (str(item).partition("=") for item in env)
    return {f"Env.{name}": value for name, _, value in pairs}


def _compare_values(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[ValueChange, ...]:
    names = dict.fromkeys((*old, *new))
    return tuple(ValueChange(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name))


def _unshared(old: ImageNode, new: ImageNode) -> tuple[tuple[LayerNode, ...], tuple[LayerNode, ...]]:
    before, after = ({_identity(layer) for layer in image.layers} for image in (old, new))
    return (
        tuple(layer for layer in old.layers if _identity(layer) not in after),
        tuple(layer for layer in new.layers if _identity(layer) not in before),
    )


def _identity(layer: LayerNode) -> str:
    """The diff ID: two compressions of one tar are the same layer."""
    return layer.diff_id or str(layer.descriptor.digest)


class _Reading:
    """Lists layers, each blob of each side once."""

    def __init__(self, old: ImageStore | None, new: ImageStore | None, reporter: Reporter, *, whole: bool) -> None:
        self._stores = (old, new)
        self._whole = whole
        self._reporter = reporter
        self._known: dict[Digest, LayerListing] = {}

    def compare(self, old: ImageNode, new: ImageNode, *, shared: bool) -> tuple[FileChange, ...]:
        """The files that differ between two images."""
        chosen = (old.layers, new.layers) if shared else _unshared(old, new)
        self._read(chosen)
        before, after = (
            lay(self._listings(layers), whole=len(layers) == len(image.layers))
            for layers, image in zip(chosen, (old, new), strict=True)
        )
        return compare_files(before, after)

    def _listings(self, layers: tuple[LayerNode, ...]) -> list[LayerListing]:
        return [self._known[layer.descriptor.digest] for layer in _present(layers)]

    def _read(self, chosen: tuple[tuple[LayerNode, ...], tuple[LayerNode, ...]]) -> None:
        with ThreadPoolExecutor(max_workers=_JOBS, thread_name_prefix="kobuild-diff") as pool:
            jobs: dict[Digest, Future[LayerListing]] = {}
            for store, layers in zip(self._stores, chosen, strict=True):
                for layer in _present(layers):
                    digest = layer.descriptor.digest
                    if store is not None and digest not in self._known and digest not in jobs:
                        jobs[digest] = pool.submit(
                            list_layer,
                            store,
                            layer.descriptor,
                            digests=True,
                            whole=self._whole,
                            reporter=self._reporter,
                        )
            try:
                self._known.update({digest: job.result() for digest, job in jobs.items()})
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _present(layers: tuple[LayerNode, ...]) -> list[LayerNode]:
    return [layer for layer in layers if not stays_away(layer.descriptor)]
