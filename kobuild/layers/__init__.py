"""The layer engine: upstream archives become image layers, streamed and verified."""

from __future__ import annotations

from kobuild.layers.engine import make_layer, pack_directory
from kobuild.layers.plan import FORMAT_VERSION, ArchiveInput, FileInput, LayerPlan, LayerResult, Limits

__all__ = [
    "FORMAT_VERSION",
    "ArchiveInput",
    "FileInput",
    "LayerPlan",
    "LayerResult",
    "Limits",
    "make_layer",
    "pack_directory",
]
