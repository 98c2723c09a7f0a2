"""What settings and lock say that an image must be, for verify to hold it against."""

from __future__ import annotations

from collections.abc import Sequence

from kobuild.base import load_base
from kobuild.basetree import BaseTree
from kobuild.build import base_tree, build, config_edits, history_line, inherit_from_base, locked_tool
from kobuild.errors import UsageError
from kobuild.image.image import Image
from kobuild.image.mutate import alike
from kobuild.image.store import ImageStore
from kobuild.lock import Lock
from kobuild.oci.platforms import Platform
from kobuild.recipes import find_made, layer_plan, moves_of
from kobuild.settings.model import ToolSettings
from kobuild.toollayers import ToolExpectation
from kobuild.verify import ImageExpectation, IndexExpectation
from kobuild.workshop import Workshop

_DOCKER_TRANSPORT = "docker://"


def open_subject(workshop: Workshop, text: str) -> ImageStore:
    """The image to look at: `oci:…`, `oci-archive:…`, `docker-archive:…`, or a reference, with or without `docker://`.

    Paths are relative to the working folder. Raises UsageError for `scratch`, which is nothing to look at.
    """
    if text == "scratch":
        raise UsageError("verify scratch: there is nothing to look at")
    return workshop.open_here(text.removeprefix(_DOCKER_TRANSPORT))


def expect(workshop: Workshop, lock: Lock, platforms: Sequence[Platform]) -> list[ImageExpectation]:
    """What the image for each platform must be; reads the base's manifests and configs. Raises LockError."""
    settings = workshop.settings
    loaded = [load_base(lock.base, platform, workshop.open_store, workshop.cache) for platform in platforms]
    bases = alike(loaded, inherit_from_base(workshop, lock).carried)
    return [
        ImageExpectation(
            platform=platform,
            base=base,
            edits=config_edits(settings, lock, platform),
            tools=tuple(_expect_tool(workshop, lock, tool, base) for tool in settings.tools),
        )
        for platform, base in zip(platforms, bases, strict=True)
    ]


def expect_index(workshop: Workshop, lock: Lock) -> IndexExpectation:
    """What the index of the images must be, where there is one."""
    inherited = inherit_from_base(workshop, lock)
    return IndexExpectation({**inherited.annotations, **workshop.settings.image.annotations}, inherited.carried)


def _expect_tool(workshop: Workshop, lock: Lock, tool: ToolSettings, base: Image) -> ToolExpectation:
    locked, artifact = locked_tool(lock, tool, base.platform)
    plan = layer_plan(workshop.settings, tool, workshop.source_date_epoch)

    def open_tree() -> BaseTree:
        return base_tree(workshop, base)

    made = find_made(workshop.cache, plan, artifact.sha256, open_tree)
    return ToolExpectation(
        name=tool.name,
        root=tool.root,
        only=tool.only,
        strip=tool.strip,
        rename=tool.rename,
        compression=workshop.settings.image.compression,
        diff_id=made.diff_id if made is not None else None,
        history=history_line(tool, locked.version),
        whiteouts=tool.whiteouts,
        max_members=tool.max_members,
        moved=moves_of(workshop.cache, plan, artifact.sha256, open_tree),
    )


def rebuild(workshop: Workshop, lock: Lock, platform: Platform) -> Image:
    """The image for `platform`, made again from the locked archives: no layer of the cache is believed."""
    return build(workshop, lock, (platform,), anew=True).images.images[0]
