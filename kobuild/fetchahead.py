"""What is begun while the pins are still being resolved: downloads, each as soon as its tool is known."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from kobuild.errors import KobuildError
from kobuild.lock import LockedTool
from kobuild.oci.platforms import Platform
from kobuild.recipes import find_record, layer_plan
from kobuild.sources.download import fetch_ahead
from kobuild.workshop import Workshop


def get_ready(workshop: Workshop) -> None:
    """Import what makes layers while the network is waited for: where there is no lock yet, it will be needed."""
    if not workshop.settings.lock_path.exists() and workshop.settings.sources.layer_cache is None:
        threading.Thread(target=_import_engine, name="kobuild-import", daemon=True).start()


def _import_engine() -> None:
    import kobuild.layers.engine  # noqa: F401, PLC0415
    from kobuild.layers.budget import limit_arenas  # noqa: PLC0415

    limit_arenas()


def fetch_for_layers(workshop: Workshop, platforms: Sequence[Platform], tool: LockedTool) -> None:
    """Begin to fetch the tool's files for the layers of those platforms that nobody is known to have made."""
    if workshop.settings.sources.layer_cache is not None:  # whose layers need no files
        return
    try:
        (wanted,) = (item for item in workshop.settings.tools if item.name == tool.name)
        plan = layer_plan(workshop.settings, wanted, workshop.source_date_epoch)
        for platform in platforms:
            artifact = tool.artifacts[platform]
            lacks_proof = artifact.lacks(wanted.require) is not None
            if not lacks_proof and find_record(workshop.cache, plan.recipe(artifact.sha256)) is None:
                fetch_ahead(artifact, workshop.sources)
                _import_engine()
    except KobuildError:
        return  # the build meets it again, and tells it in its place
