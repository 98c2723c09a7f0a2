"""From settings to a layer's recipe: the plan of a tool's layer, fitted to the base that it goes on.

Which entries a layer has is known only once it was made. So a layer is first made as if the base had no links; what it
says of its landing decides whether the base's tree must be looked at, and whether another plan is needed, which then
has a recipe of its own. All of that is found in the cache the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kobuild.basetree import BaseTree
from kobuild.errors import MalformedDocument
from kobuild.layers.landing import POSSIBLE_LINKS
from kobuild.layers.plan import LayerPlan, LayerResult, Limits
from kobuild.oci.mediatypes import Compression
from kobuild.settings.model import Settings, ToolSettings
from kobuild.store.cache import Cache
from kobuild.store.housekeeping import LAYER_RECORDS

OpenTree = Callable[[], BaseTree]
"""Gives the base's tree, which may have to be read from afar."""


def layer_plan(settings: Settings, tool: ToolSettings, epoch: int | None) -> LayerPlan:
    """How the tool's archive becomes a layer; with the archive's sha256 it decides the layer's bytes.

    `epoch` is SOURCE_DATE_EPOCH, in seconds.
    """
    return LayerPlan(
        root=tool.root,
        only=tool.only,
        strip=tool.strip,
        mode=tool.mode,
        rename=tool.rename or tool.name,
        compression=settings.image.compression,
        prioritized=settings.image.prioritized if settings.image.compression is Compression.ESTARGZ else (),
        epoch=epoch or 0,
        base_has_standard_dirs=settings.image.base != "scratch",
        allow_devices=tool.devices,
        allow_whiteouts=tool.whiteouts,
        limits=_limits(tool),
    )


def _limits(tool: ToolSettings) -> Limits:
    usual = Limits()
    return Limits(
        members=tool.max_members or usual.members,
        total_bytes=tool.max_size or usual.total_bytes,
        ratio=tool.max_ratio or usual.ratio,
    )


def find_record(cache: Cache, recipe: str) -> LayerResult | None:
    """What a recipe made once, whether or not the cache still holds the layer."""
    record = cache.read_record(LAYER_RECORDS, recipe)
    if record is None:
        return None
    try:
        return LayerResult.from_json(record)
    except MalformedDocument:
        return None


def find_blob(cache: Cache, result: LayerResult | None) -> LayerResult | None:
    """The layer itself, if the cache still holds it."""
    if result is None or cache.find_blob(result.digest, result.size) is None:
        return None
    return result


def find_made(cache: Cache, plan: LayerPlan, source_sha256: str, open_tree: OpenTree) -> LayerResult | None:
    """The layer that the plan makes on the base, if it was made before and the cache still holds it."""
    first = find_record(cache, plan.recipe(source_sha256))
    if first is None or not first.landing:
        return find_blob(cache, first)
    fitted = fit(plan, first.landing, open_tree())
    return find_blob(cache, first if fitted == plan else find_record(cache, fitted.recipe(source_sha256)))


def fit(plan: LayerPlan, landing: Sequence[str], tree: BaseTree) -> LayerPlan:
    """The plan that respects the base's links and directories at the landing; the same plan where there are none.

    Only what applies is in it, so that a base that moved on in other respects leaves the recipe as it was.
    """
    moved: dict[str, str] = {}
    directories: list[str] = []
    for entry in landing:
        path = entry.rstrip("/")
        raw = path.encode("utf-8", "surrogateescape")
        place = tree.resolve(raw)
        if place != raw:
            moved |= {_text(step): _text(place) for step in tree.steps(raw)}
        if entry.endswith("/") and place in tree.directories:
            directories.append(path)
    return replace(plan, moved=tuple(sorted(moved.items())), base_directories=tuple(sorted(directories)))


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def outermost(moved: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The moves that do not follow from those of directories above."""
    known = dict(moved)
    return tuple((path, place) for path, place in moved if not _follows(path, place, known))


def _follows(path: str, place: str, known: dict[str, str]) -> bool:
    folder, _, name = path.rpartition("/")
    return folder in known and place == (f"{known[folder]}/{name}" if known[folder] else name)


def moves_of(cache: Cache, plan: LayerPlan, source_sha256: str, open_tree: OpenTree) -> tuple[tuple[str, str], ...]:
    """Where the layer's entries are moved to, each move once.

    Where nobody knows the layer's entries, for it was made elsewhere, the base is asked if the root lies below a
    possible link: else all of it would seem to be in the wrong place.
    """
    known = find_record(cache, plan.recipe(source_sha256))
    if known is not None:
        return outermost(fit(plan, known.landing, open_tree()).moved) if known.landing else ()
    root = plan.root.strip("/")
    parts = root.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    if not plan.base_has_standard_dirs or not any(path.encode() in POSSIBLE_LINKS for path in above):
        return ()
    return outermost(fit(plan, above, open_tree()).moved)
