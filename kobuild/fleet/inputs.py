"""The files on this machine that decide what an image is."""

from __future__ import annotations

import os
from pathlib import Path

from kobuild.settings.model import Settings
from kobuild.sources.placeholders import fill, platform_values
from kobuild.store.locations import Location


def input_paths(settings: Settings) -> tuple[Path, ...]:
    """Settings, lock, the files and folders of `path:` tools, and a base on disk: absolute, whether there or not.

    What comes from elsewhere needs no entry of its own: the lock names its digest.
    """
    found = [settings.path, settings.lock_path]
    for tool in settings.tools:
        if tool.source.kind == "path":
            names = [
                fill(tool.source.argument, platform_values(platform), where=f"source = '{tool.source}'")
                for platform in settings.image.platforms
            ]
            found += [settings.folder / name for name in names]
    base = Location.parse(settings.image.base, settings.folder)
    if base is not None:
        found.append(base.path)
    return tuple(dict.fromkeys(Path(os.path.abspath(path)) for path in found))
