"""The build flow: from settings and lock to images, each layer made once or found in the cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from kobuild.base import load_base
from kobuild.baseindex import Inherited, inherit
from kobuild.basetree import BaseTree, read_base_tree
from kobuild.errors import (
    ArchiveError,
    DigestMismatch,
    IntegrityError,
    LockError,
    LostEntry,
    StorageError,
)
from kobuild.image.blobs import Layer
from kobuild.image.created import choose_created
from kobuild.image.image import Image, ImageSet
from kobuild.image.mutate import Addition, ConfigEdits, alike, append_layers, base_annotations, gather, with_config
from kobuild.layers.plan import LayerPlan, LayerResult
from kobuild.lock import Lock, LockedArtifact, LockedTool
from kobuild.oci import annotations as keys
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.recipes import OpenTree, find_blob, find_record, fit, layer_plan
from kobuild.settings.model import Settings, ToolSettings
from kobuild.sources.download import open_artifact, stop_all
from kobuild.sources.path import is_directory, resolve_path, tree_digest
from kobuild.store.cachedsource import CacheSource
from kobuild.store.housekeeping import LAYER_RECORDS
from kobuild.streams import HashingWriter, Writable
from kobuild.workshop import Workshop

_JOBS: Final = 4
"""Layers made at once: enough to overlap downloads; each one's own threads keep the processors busy."""


class LayerFollower(Protocol):
    """Follows one layer's bytes into a file that grows."""

    def grown(self, count: int, /) -> None:
        """So many more bytes were written."""

    def finished(self, digest: Digest, /) -> None:
        """The layer is whole; its file may be moved from now on."""

    def abandon(self) -> None:
        """The layer will not be finished."""


class LayerWatch(Protocol):
    """Is told of layers that are being made."""

    def begin(self, tool: str, version: str, platform: Platform, path: Path, /) -> LayerFollower:
        """A layer is about to be written at `path`."""


@dataclass(frozen=True, slots=True)
class ToolLayer:
    """One tool's layer on one platform."""

    tool: ToolSettings
    version: str
    platform: Platform
    result: LayerResult
    cached: bool
    """Whether it was found, not made."""


@dataclass(frozen=True, slots=True)
class Build:
    """What a build made."""

    images: ImageSet
    layers: tuple[ToolLayer, ...]
    """By platform, then in the settings' order."""

    @property
    def without_index(self) -> Build:
        """The same images, each for itself; the first one's digest stands for them."""
        return Build(ImageSet(self.images.images, None), self.layers)


def build(
    workshop: Workshop,
    lock: Lock,
    platforms: Sequence[Platform],
    *,
    beside: Sequence[Platform] = (),
    keep_base: bool = False,
    anew: bool = False,
    watch: LayerWatch | None = None,
) -> Build:
    """Make the images of `platforms` from the lock; nothing is written but the cache.

    `beside` are platforms that are made elsewhere, and joined with these: their bases count where all become OCI.
    `keep_base` keeps a registry's base layers in the cache when they are read, for outputs that read them each time.
    `anew` makes every layer, though the cache holds it; that is for proof, and the new layers are not kept.
    `watch` follows the layers that are made.
    Raises whatever downloading, reading archives and reading the base raise; what is under way then stops, and leaves
    nothing behind.
    """
    workshop.cancelled.clear()
    jobs = [(platform, tool) for platform in platforms for tool in workshop.settings.tools]
    with ThreadPoolExecutor(max_workers=_JOBS, thread_name_prefix="kobuild-build") as pool:
        wanted = dict.fromkeys((*platforms, *beside))
        bases = {platform: pool.submit(_load_base, workshop, lock, platform, keep=keep_base) for platform in wanted}
        inherited = pool.submit(inherit_from_base, workshop, lock, keep=keep_base)
        layers = [
            pool.submit(
                _tool_layer, workshop, lock, tool, platform, bases[platform], anew=anew, watch=watch or _NoFollower()
            )
            for platform, tool in jobs
        ]
        try:
            _raise_first_failure([*bases.values(), inherited, *layers])
        except BaseException:
            workshop.cancelled.set()
            stop_all()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    made = tuple(layer.result() for layer in layers)
    loaded = alike([base.result() for base in bases.values()], inherited.result().carried)
    images = [
        _assemble(workshop, lock, platform, base, made) for platform, base in zip(platforms, loaded, strict=False)
    ]
    return Build(gather_with(workshop.settings, images, inherited.result()), made)


def inherit_from_base(workshop: Workshop, lock: Lock, *, keep: bool = False) -> Inherited:
    """What the settings keep of the locked base's index."""
    return inherit(lock.base, workshop.settings.image, workshop.open_store, workshop.cache, keep_layers=keep)


def gather_with(settings: Settings, images: Sequence[Image], inherited: Inherited) -> ImageSet:
    """The images under an index with what it inherits; the settings' annotations go before the base's."""
    annotations = {**inherited.annotations, **settings.image.annotations}
    return gather(images, annotations=annotations, carried=inherited.carried)


def _raise_first_failure(futures: Sequence[Future[Any]]) -> None:
    """Wait until all are done, or raise the first failure at once."""
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()


def locked_tool(lock: Lock, tool: ToolSettings, platform: Platform) -> tuple[LockedTool, LockedArtifact]:
    """What the lock says of a tool on a platform; raises LockError for nothing, or less proof than is required."""
    locked = lock.tools.get(tool.name)
    artifact = locked.artifacts.get(platform) if locked is not None else None
    if locked is None or artifact is None:
        raise LockError(
            f"the lock has nothing for tool {tool.name} on {platform}",
            hint="run `kobuild resolve`, or leave out --frozen",
        )
    lacking = artifact.lacks(tool.require)
    if lacking is not None:
        raise LockError(
            f"tools.{tool.name}: {tool.require} is required, and of {artifact.filename} {lacking} when it was locked",
            hint="run `kobuild resolve`, which looks for it, or leave out --frozen",
        )
    return locked, artifact


def _tool_layer(
    workshop: Workshop,
    lock: Lock,
    tool: ToolSettings,
    platform: Platform,
    base: Future[Image],
    *,
    anew: bool,
    watch: LayerWatch,
) -> ToolLayer:
    locked, artifact = locked_tool(lock, tool, platform)
    plan = layer_plan(workshop.settings, tool, workshop.source_date_epoch)
    begin = partial(watch.begin, tool.name, locked.version, platform)
    # Bases were given to the pool before all layers, so none of these waits for one that has not begun.
    result, found = _Job(workshop, artifact, lambda: base_tree(workshop, base.result()), anew, begin).run(plan)
    return ToolLayer(tool, locked.version, platform, result, cached=found)


def base_tree(workshop: Workshop, base: Image) -> BaseTree:
    """The base's links and directories; reads its layers unless the cache knows them."""
    return read_base_tree(base, workshop.cache, workshop.cancelled, workshop.reporter)


@dataclass(frozen=True, slots=True)
class _Job:
    """One tool's layer to be found or made."""

    workshop: Workshop
    artifact: LockedArtifact
    open_tree: OpenTree
    anew: bool
    begin: Callable[[Path], LayerFollower]

    def run(self, plan: LayerPlan) -> tuple[LayerResult, bool]:
        """The layer on its base, and whether it was found."""
        known = None if self.anew else find_record(self.workshop.cache, plan.recipe(self.artifact.sha256))
        if known is not None and known.landing:
            return self._find_or_make(fit(plan, known.landing, self.open_tree()))
        result, found = self._find_or_make(plan)
        if not result.landing:
            return result, found
        fitted = fit(plan, result.landing, self.open_tree())
        if fitted == plan:
            return result, found
        if not (found or self.anew):
            self.workshop.cache.drop_blob(result.digest)  # its record stays, and says where it would have landed
        return self._find_or_make(fitted)

    def _find_or_make(self, plan: LayerPlan) -> tuple[LayerResult, bool]:
        """The layer of one plan, and whether it was found. Who else wants the same one waits, and then finds it."""
        cache = self.workshop.cache
        if self.anew:
            return _make(self.workshop, self.artifact, plan, HashingWriter(None)), False
        recipe = plan.recipe(self.artifact.sha256)
        found = find_blob(cache, find_record(cache, recipe))
        if found is not None:
            return found, True
        with cache.exclusive(f"{LAYER_RECORDS}-{recipe}", self.workshop.cancelled):
            found = find_blob(cache, find_record(cache, recipe))
            if found is not None:
                return found, True
            result = self._make_and_keep(plan)
            cache.write_record(LAYER_RECORDS, recipe, result.to_json())
        return result, False

    def _make_and_keep(self, plan: LayerPlan) -> LayerResult:
        cache = self.workshop.cache
        with cache.temporary() as (path, file):
            follower = self.begin(path)
            try:
                result = _make(self.workshop, self.artifact, plan, _FollowedSink(file, follower))
                file.flush()
                cache.adopt(path, result.digest)
            except BaseException:
                follower.abandon()
                raise
            follower.finished(result.digest)
        return result


def _make(workshop: Workshop, artifact: LockedArtifact, plan: LayerPlan, sink: Writable) -> LayerResult:
    """Make the layer; raises LostEntry where the cache's copy of the archive turned out to be damaged or gone."""
    digest = Digest("sha256", artifact.sha256)
    was_here = workshop.cache.find_blob(digest, artifact.size) is not None
    try:
        return _make_from(workshop, artifact, plan, sink)
    except (ArchiveError, IntegrityError, StorageError, OSError) as error:
        # A damaged archive seldom lasts to its end, where its digest tells; so whatever broke, look at the copy.
        if was_here and not workshop.cache.has_intact(digest, artifact.size):
            raise LostEntry(f"the cache's copy of {artifact.filename} is damaged or gone", entry=str(digest)) from error
        raise


def _make_from(workshop: Workshop, artifact: LockedArtifact, plan: LayerPlan, sink: Writable) -> LayerResult:
    # Here, not above: a build that finds all its layers never pays for the engine's import.
    from kobuild.layers.engine import make_layer, pack_directory  # noqa: PLC0415

    cancellable = _CancellableSink(sink, workshop.cancelled)
    if is_directory(artifact.url, artifact.filename):
        return pack_directory(_unchanged_folder(workshop, artifact), plan, cancellable)
    with open_artifact(artifact, workshop.sources) as source:
        return make_layer(source, plan, cancellable)


def _unchanged_folder(workshop: Workshop, artifact: LockedArtifact) -> Path:
    """The locked directory; raises DigestMismatch where it is not as it was locked."""
    folder = resolve_path(artifact.url.removeprefix("path:"), workshop.settings.folder)
    _, sha256 = tree_digest(folder)
    if sha256 != artifact.sha256:
        hint = "`kobuild resolve` locks the folder as it is now"
        raise DigestMismatch(f"read {folder}", expected=artifact.sha256, actual=sha256, hint=hint)
    return folder


class _CancellableSink:
    """A layer's sink that stops the work at its next write once the person has interrupted."""

    def __init__(self, sink: Writable, cancelled: threading.Event) -> None:
        self._sink = sink
        self._cancelled = cancelled

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        if self._cancelled.is_set():
            raise CancelledError
        return self._sink.write(data)


class _FollowedSink:
    """A file whose follower hears of each write."""

    def __init__(self, file: BinaryIO, follower: LayerFollower) -> None:
        self._file = file
        self._follower = follower

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        self._file.write(data)
        self._follower.grown(len(data))
        return len(data)


class _NoFollower:
    """A layer that nobody follows; the watch of a build without one."""

    def begin(self, tool: str, version: str, platform: Platform, path: Path, /) -> LayerFollower:
        return self

    def grown(self, count: int, /) -> None:
        pass

    def finished(self, digest: Digest, /) -> None:
        pass

    def abandon(self) -> None:
        pass


class CancelledError(Exception):
    """The work was interrupted; never reaches a person, since the interrupt itself does."""


def _load_base(workshop: Workshop, lock: Lock, platform: Platform, *, keep: bool) -> Image:
    return load_base(lock.base, platform, workshop.open_store, workshop.cache, keep_layers=keep)


def _assemble(workshop: Workshop, lock: Lock, platform: Platform, base: Image, made: Sequence[ToolLayer]) -> Image:
    family = base.manifest.family
    layers = [item for item in made if item.platform == platform]
    additions = [Addition(_layer(workshop, item, family), history_line(item.tool, item.version)) for item in layers]
    mtimes = [item.result.newest_mtime for item in layers]
    created = choose_created(base.config, mtimes, workshop.source_date_epoch)
    return with_config(append_layers(base, additions, created=created), config_edits(workshop.settings, lock, platform))


def history_line(tool: ToolSettings, version: str) -> str:
    """What the image's history says of a tool's layer."""
    return f"kobuild: {f'{tool.name} {version}'.strip()} under {tool.root}"


def _layer(workshop: Workshop, item: ToolLayer, family: Family) -> Layer:
    result = item.result
    notes = dict(result.annotations)
    if family is Family.OCI:
        notes |= {keys.TOOL_NAME: item.tool.name, keys.TOOL_VERSION: item.version}
    media_type = Family.OCI.layer(workshop.settings.image.compression)
    descriptor = Descriptor(media_type, result.digest, result.size, annotations=notes)
    return Layer(descriptor, CacheSource(workshop.cache, result.digest, result.size), result.diff_id)


def config_edits(settings: Settings, lock: Lock, platform: Platform) -> ConfigEdits:
    """What the settings change in the base's config, and the annotations that name the base."""
    image = settings.image
    digest = Digest.parse(lock.base.digest) if lock.base is not None else None
    return ConfigEdits(
        env=image.env,
        path=image.path,
        workdir=image.workdir,
        user=image.user,
        entrypoint=image.entrypoint,
        cmd=image.cmd,
        expose=image.expose,
        volumes=image.volumes,
        stop_signal=image.stop_signal,
        labels=image.labels,
        annotations={**base_annotations(image.base, digest), **image.annotations},
        keeps_annotations=image.keeps_base_annotations,
        platform=platform,
    )
