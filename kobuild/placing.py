"""Whether tool layers lie on another base as a build would put them there.

A layer was fitted to the links and directories of the base that it was made for (`recipes`). On a base with others its
entries would land elsewhere, or replace what must not be replaced: such a layer must be made anew.
"""

from __future__ import annotations

from typing import Final

from kobuild.build import base_tree, locked_tool
from kobuild.errors import BaseError
from kobuild.image.image import Image
from kobuild.layerjobs import look_at_landing
from kobuild.layers.landing import POSSIBLE_LINKS
from kobuild.layers.plan import LayerPlan
from kobuild.lock import Lock
from kobuild.proof import BuiltImage
from kobuild.recipes import find_record, fit, layer_plan
from kobuild.settings.model import ToolSettings
from kobuild.workshop import Workshop

REMEDY: Final = "make it anew: run `kobuild resolve --upgrade base`, then `kobuild build` or `kobuild push`"
_LOCAL: Final = (b"opt", b"srv", b"usr/local")
"""Where no base is expected to have anything but the links of POSSIBLE_LINKS."""


def require_same_places(workshop: Workshop, lock: Lock, item: BuiltImage, new_base: Image) -> None:
    """Raise BaseError, naming a path, where a tool layer of `item` would be another one on `new_base`.

    Costs nothing for a root where no layer meets a base, and little where the cache knows how the layer was made; else
    the upstream file is looked through once. Bases are read only where a layer does land on them, and once.
    """
    for tool in workshop.settings.tools:
        plan = layer_plan(workshop.settings, tool, workshop.source_date_epoch)
        landing = _landing(workshop, lock, item, tool, plan)
        if not landing:
            continue
        old, new = (fit(plan, landing, base_tree(workshop, base)) for base in (item.base, new_base))
        found = compare_fits(old, new)
        if found is not None:
            raise BaseError(
                f"rebase for {item.platform}: the layer of {tool.name} does not fit the new base: {found}", hint=REMEDY
            )


def _landing(workshop: Workshop, lock: Lock, item: BuiltImage, tool: ToolSettings, plan: LayerPlan) -> tuple[str, ...]:
    if not may_land(plan):
        return ()
    _, artifact = locked_tool(lock, tool, item.platform)
    known = find_record(workshop.cache, plan.recipe(artifact.sha256))
    return known.landing if known is not None else look_at_landing(workshop, artifact, plan)


def may_land(plan: LayerPlan) -> bool:
    """Whether any archive under the plan's root could meet links or directories of a base (`layers.landing`)."""
    if not plan.base_has_standard_dirs:
        return False
    root = plan.root.strip("/").encode("utf-8", "surrogateescape")
    is_local = any(_is_within(root, place) for place in _LOCAL)
    return not is_local or any(_is_within(root, link) or _is_within(link, root) for link in POSSIBLE_LINKS)


def _is_within(path: bytes, folder: bytes) -> bool:
    """Whether `path` is `folder` or below it; all is below the root, which is empty."""
    return not folder or path == folder or path.startswith(folder + b"/")


def compare_fits(old: LayerPlan, new: LayerPlan) -> str | None:
    """What differs between one layer's fits to two bases, in words; None where it is the same layer."""
    before, after = dict(old.moved), dict(new.moved)
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path, path), after.get(path, path)
        if was != now:
            return f"/{path} is /{was} on the base that it was made for, and /{now} on the new one"
    changed = set(old.base_directories) ^ set(new.base_directories)
    if not changed:
        return None
    path = min(changed)
    has, lacks = ("the new one", "the base that it was made for")[:: 1 if path in new.base_directories else -1]
    return f"{has} has the directory /{path}, and {lacks} has not"
