"""The build flow: from settings and lock to images, each layer made once or found in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from typing import Any, Final

from kobuild.base import load_base
from kobuild.baseindex import Inherited, inherit
from kobuild.basetree import BaseTree, read_base_tree
from kobuild.errors import LockError
from kobuild.frozen import frozen
from kobuild.image.blobs import BlobSource, Layer
from kobuild.image.created import choose_created
from kobuild.image.image import Image, ImageSet
from kobuild.image.mutate import Addition, ConfigEdits, alike, append_layers, base_annotations, gather, with_config
from kobuild.layerjobs import LayerJob, LayerWatch, NoFollower
from kobuild.layers.plan import LayerResult
from kobuild.lock import Lock, LockedArtifact, LockedTool
from kobuild.oci import annotations as keys
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.recipes import layer_plan
from kobuild.settings.model import Settings, ToolSettings
from kobuild.sharing import NoSharedLayers, SharedLayers
from kobuild.sources.download import stop_all
from kobuild.store.cachedsource import CachedSource, CacheSource
from kobuild.workshop import Workshop

_JOBS: Final = 4
"""Layers made at once: enough to overlap downloads; each one's own threads keep the processors busy."""


@frozen
class ToolLayer:
    """One tool's layer on one platform."""

    tool: ToolSettings
    version: str
    platform: Platform
    result: LayerResult
    cached: bool
    """Whether it was found, not made."""
    source: BlobSource | None = None
    """Where its bytes are beside this machine's cache."""

    @property
    def is_shared(self) -> bool:
        """Whether another machine has made it."""
        return self.cached and self.source is not None


@frozen
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
    shared: SharedLayers | None = None,
) -> Build:
    """Make the images of `platforms` from the lock; nothing is written but the cache.

    `beside` are platforms that are made elsewhere, and joined with these: their bases count where all become OCI.
    `keep_base` keeps a registry's base layers in the cache when they are read, for outputs that read them each time.
    `anew` makes every layer, though the cache holds it; that is for proof, and the new layers are not kept.
    `watch` follows the layers that are made, `shared` has and takes layers of other machines.
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
                _tool_layer,
                workshop,
                lock,
                tool,
                platform,
                bases[platform],
                anew=anew,
                watch=watch or NoFollower(),
                shared=shared or NoSharedLayers(),
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
    # The bases of those beside come last, and have had their say.
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
    shared: SharedLayers,
) -> ToolLayer:
    locked, artifact = locked_tool(lock, tool, platform)
    plan = layer_plan(workshop.settings, tool, workshop.source_date_epoch)
    begin = partial(watch.begin, tool.name, locked.version, platform)
    # Bases were given to the pool before all layers, so none of these waits for one that has not begun.
    job = LayerJob(workshop, artifact, lambda: base_tree(workshop, base.result()), anew, begin, shared)
    layer = job.run(plan)
    return ToolLayer(tool, locked.version, platform, layer.result, layer.found, layer.source)


def base_tree(workshop: Workshop, base: Image) -> BaseTree:
    """The base's links and directories; reads its layers unless the cache knows them."""
    return read_base_tree(base, workshop.cache, workshop.cancelled, workshop.reporter)


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
    held: BlobSource = CacheSource(workshop.cache, result.digest, result.size)
    if item.source is not None:
        held = CachedSource(workshop.cache, replace(descriptor, annotations={}), item.source, is_base=False)
    return Layer(descriptor, held, result.diff_id)


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
