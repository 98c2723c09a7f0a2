"""One tool's layer: found in the cache, taken from a machine that made it before, or made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

from kobuild.errors import ArchiveError, DigestMismatch, IntegrityError, LostEntry, StorageError
from kobuild.frozen import frozen
from kobuild.image.blobs import BlobSource
from kobuild.layers.plan import LayerPlan, LayerResult
from kobuild.lock import LockedArtifact
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Compression
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Repository
from kobuild.recipes import OpenTree, find_blob, find_record, fit
from kobuild.sharing import SharedLayers
from kobuild.sources.download import open_artifact
from kobuild.sources.path import is_directory, resolve_path, tree_digest
from kobuild.store.cachedsource import CacheSource
from kobuild.store.housekeeping import LAYER_RECORDS
from kobuild.streams import HashingWriter, Readable, Writable, stoppable
from kobuild.workshop import Workshop


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


@frozen
class ObtainedLayer:
    """A layer, and how it came."""

    result: LayerResult
    found: bool
    """Whether somebody had made it before."""
    source: BlobSource | None = None
    """Where its bytes are beside this machine's cache; None where they are nowhere else."""


@frozen
class LayerJob:
    """One tool's layer to be found or made."""

    workshop: Workshop
    artifact: LockedArtifact
    open_tree: OpenTree
    anew: bool
    begin: Callable[[Path], LayerFollower]
    shared: SharedLayers

    def run(self, plan: LayerPlan) -> ObtainedLayer:
        """The layer on its base."""
        known = None if self.anew else self._known(plan.recipe(self.artifact.sha256))
        if known is not None and known.landing:
            return self._find_or_make(fit(plan, known.landing, self.open_tree()))
        layer = self._find_or_make(plan)
        if not layer.result.landing:
            return layer
        fitted = fit(plan, layer.result.landing, self.open_tree())
        if fitted == plan:
            return layer
        if not (layer.found or self.anew):
            # Its record stays, and says where it would have landed.
            self.workshop.cache.drop_blob(layer.result.digest)
        return self._find_or_make(fitted)

    def _known(self, recipe: str) -> LayerResult | None:
        return find_record(self.workshop.cache, recipe) or self.shared.find(recipe)

    def _find_or_make(self, plan: LayerPlan) -> ObtainedLayer:
        """The layer of one plan. Who else wants the same one waits, and then finds it."""
        cache = self.workshop.cache
        if self.anew:
            return ObtainedLayer(_make(self.workshop, self.artifact, plan, HashingWriter(None)), found=False)
        recipe = plan.recipe(self.artifact.sha256)
        found = find_blob(cache, find_record(cache, recipe))
        if found is not None:
            self.shared.check(recipe, found)
            return ObtainedLayer(found, found=True)
        with cache.exclusive(f"{LAYER_RECORDS}-{recipe}", self.workshop.cancelled):
            found = find_blob(cache, find_record(cache, recipe))
            if found is not None:
                return ObtainedLayer(found, found=True)
            shared = self.shared.obtain(recipe, self.workshop.cancelled)
            # No record of it is written here: those say what this machine has made.
            if shared is not None:
                return ObtainedLayer(shared.result, found=True, source=shared.source)
            return self._make_and_share(plan, recipe)

    def _make_and_share(self, plan: LayerPlan, recipe: str) -> ObtainedLayer:
        cache = self.workshop.cache
        try:
            result = self._make_and_keep(plan)
            cache.write_record(LAYER_RECORDS, recipe, result.to_json())
            held = _StoppableSource(CacheSource(cache, result.digest, result.size), self.workshop.cancelled)
            return ObtainedLayer(result, found=False, source=self.shared.keep(recipe, plan, result, held))
        except BaseException:
            self.shared.give_up(recipe)
            raise

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


def look_at_landing(workshop: Workshop, artifact: LockedArtifact, plan: LayerPlan) -> tuple[str, ...]:
    """Where the archive's entries may meet a base, as a layer's record has it; nothing is compressed or kept.

    Raises what making the layer raises.
    """
    plain = replace(plan, compression=Compression.NONE, prioritized=())
    return _make(workshop, artifact, plain, HashingWriter(None)).landing


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
    from kobuild.layers.budget import limit_arenas  # noqa: PLC0415
    from kobuild.layers.engine import make_layer, pack_directory  # noqa: PLC0415

    limit_arenas()
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


@frozen
class _StoppableSource:
    """A layer on its way to other machines, which stops once the person has interrupted."""

    source: CacheSource
    cancelled: threading.Event

    @property
    def repository(self) -> Repository | None:
        return self.source.repository

    def open(self) -> AbstractContextManager[Readable]:
        return stoppable(self.source.open(), self.cancelled)


class _FollowedSink:
    """A file whose follower hears of each write."""

    def __init__(self, file: BinaryIO, follower: LayerFollower) -> None:
        self._file = file
        self._follower = follower

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        self._file.write(data)
        self._follower.grown(len(data))
        return len(data)


class NoFollower:
    """A layer that nobody follows; the watch of a build without one."""

    def begin(self, tool: str, version: str, platform: Platform, path: Path, /) -> LayerFollower:
        """Nobody is told."""
        return self

    def grown(self, count: int, /) -> None:
        """Nobody is told."""

    def finished(self, digest: Digest, /) -> None:
        """Nobody is told."""

    def abandon(self) -> None:
        """Nobody is told."""


class CancelledError(Exception):
    """The work was interrupted; never reaches a person, since the interrupt itself does."""
