"""Whether what a target holds is what settings and lock make, found out on paper: nothing is made or downloaded.

The image must be proved to follow from lock and settings with its own tool layers, and each of these must be the one
that its recipe is known to make: known by this machine's cache, or by the layer cache's proved records. So an image
whose push failed, or whose tag somebody moved, is found too, which no comparison of commits can do. What nobody knows
counts as out of date.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from functools import partial

from kobuild.build import base_tree, gather_with, inherit_from_base, locked_tool
from kobuild.errors import KobuildError, NotFound
from kobuild.fitting import find_misfits
from kobuild.frozen import frozen
from kobuild.image.image import Image
from kobuild.layers.plan import LayerPlan, LayerResult
from kobuild.lock import Lock, LockedArtifact, load
from kobuild.proof import BuiltImage, prove
from kobuild.recipes import OpenTree, find_record, fit, layer_plan
from kobuild.registry import RegistryStore
from kobuild.sharing import SharedLayers
from kobuild.sources.hashing import hash_file
from kobuild.sources.path import SCHEME, is_directory, resolve_path, tree_digest
from kobuild.workshop import Workshop


@frozen
class Knowledge:
    """What recipes make, as far as it is known; asked for once each. Safe to use from many threads."""

    shared: SharedLayers
    _seen: dict[str, LayerResult | None] = field(default_factory=dict)

    def find(self, workshop: Workshop, recipe: str) -> LayerResult | None:
        """What a recipe makes; None where nobody knows."""
        if recipe not in self._seen:
            self._seen[recipe] = find_record(workshop.cache, recipe) or self.shared.find(recipe)
        return self._seen[recipe]

    def fitted(self, workshop: Workshop, plan: LayerPlan, sha256: str, tree: OpenTree) -> LayerResult | None:
        """What a plan makes on its base; the base is looked at only where the layer lands in it."""
        first = self.find(workshop, plan.recipe(sha256))
        if first is None or not first.landing:
            return first
        return self.find(workshop, fit(plan, first.landing, tree()).recipe(sha256))


def why_stale(workshop: Workshop, knowledge: Knowledge) -> str | None:
    """Why the targets do not hold what settings and lock make; None where they do."""
    try:
        lock = load(workshop.settings.lock_path)
        return "there is no lock" if lock is None else next(_reasons(workshop, lock, knowledge), None)
    except NotFound as error:
        return f"not pushed yet: {error}"
    except KobuildError as error:
        return str(error).splitlines()[0]


def _reasons(workshop: Workshop, lock: Lock, knowledge: Knowledge) -> Iterator[str]:
    settings = workshop.settings
    targets = settings.image.targets
    if not targets:
        yield "it has no target"
        return
    # What the lock makes may be there, and yet the settings ask for something else by now.
    yield from (f"the lock does not fit the settings: {misfit}" for misfit in find_misfits(settings, lock))
    yield from _changed_files(workshop, lock)
    registry = workshop.registry.without_mirrors
    built = prove(workshop, lock, RegistryStore(registry, targets[0]), settings.image.platforms)
    images = [Image(item.manifest, item.config, ()) for item in built]
    digest = gather_with(settings, images, inherit_from_base(workshop, lock)).descriptor.digest
    for target in targets:
        found = registry.head_manifest(target)
        if found is None or found.digest != digest:
            yield f"{target} points at {found.digest.short if found is not None else 'nothing'}, not at {digest.short}"
    for item in built:
        yield from _unknown_layers(workshop, lock, item, knowledge)


def _changed_files(workshop: Workshop, lock: Lock) -> Iterator[str]:
    """Files and folders beside the settings that are not as they were locked."""
    for tool in workshop.settings.tools:
        for platform in workshop.settings.image.platforms:
            _, artifact = locked_tool(lock, tool, platform)
            if artifact.url.startswith(SCHEME) and _sum(workshop, artifact) != artifact.sha256:
                yield f"{artifact.url} is not as it was locked"


def _sum(workshop: Workshop, artifact: LockedArtifact) -> str:
    path = resolve_path(artifact.url.removeprefix(SCHEME), workshop.settings.folder)
    return (tree_digest if is_directory(artifact.url, artifact.filename) else hash_file)(path)[1]


def _unknown_layers(workshop: Workshop, lock: Lock, item: BuiltImage, knowledge: Knowledge) -> Iterator[str]:
    for tool, layer in zip(workshop.settings.tools, item.tools, strict=True):
        _, artifact = locked_tool(lock, tool, item.platform)
        plan = layer_plan(workshop.settings, tool, workshop.source_date_epoch)
        known = knowledge.fitted(workshop, plan, artifact.sha256, partial(base_tree, workshop, item.base))
        if known is None:
            yield f"nobody knows what {tool.name} makes for {item.platform}"
        elif known.diff_id != layer.diff_id:
            yield f"{tool.name} for {item.platform} makes another layer by now"
