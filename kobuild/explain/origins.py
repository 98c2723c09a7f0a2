"""What made each layer of an image: a tool of kobuild's, the base, or whatever the history tells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kobuild.frozen import frozen
from kobuild.image.validate import FoundImage
from kobuild.oci import annotations as keys
from kobuild.oci import jsonio
from kobuild.oci.descriptor import Descriptor

_HISTORY: Final = re.compile(r"kobuild: (?P<name>[^ ]+)(?: (?P<version>.+))? under (?P<root>/.*)\Z")


@frozen
class Origin:
    """What is known of one layer's making."""

    tool: str = ""
    """The table under `tools`; empty for a layer that no tool of kobuild's made."""
    version: str = ""
    root: str = ""
    """Where the tool's files are, by the history."""
    history: str = ""
    """The history's `created_by`, in one line."""
    of_base: bool = False
    """Whether it lies below kobuild's first layer."""


@frozen
class BaseName:
    """Which base an image says that it has."""

    name: str
    digest: str


def layer_origins(image: FoundImage) -> tuple[Origin, ...]:
    """One origin a layer, in the manifest's order.

    Annotations say it best; Docker's manifests have none, so that there the history's line, in kobuild's words, counts.
    """
    lines = _history_lines(image)
    origins = [_origin(layer, line) for layer, line in zip(image.manifest.layers, lines, strict=True)]
    first = next((number for number, origin in enumerate(origins) if origin.tool), None)
    if first is None:
        return tuple(origins)
    return tuple(
        Origin(history=origin.history, of_base=True) if number < first else origin
        for number, origin in enumerate(origins)
    )


def base_name(image: FoundImage) -> BaseName | None:
    """The base that annotations name, or labels where those cannot be; None where neither does."""
    for notes in (image.manifest.annotations, _labels(image)):
        name, digest = notes.get(keys.BASE_NAME, ""), notes.get(keys.BASE_DIGEST, "")
        if name or digest:
            return BaseName(name, digest)
    return None


def _labels(image: FoundImage) -> Mapping[str, str]:
    return jsonio.get_string_map(image.config.runtime, "Labels", "image config")


def _history_lines(image: FoundImage) -> list[str]:
    """The history of each layer; empty lines where the history does not fit the layers."""
    entries = [entry for entry in image.config.history if not entry.get("empty_layer")]
    if len(entries) != len(image.manifest.layers):
        return [""] * len(image.manifest.layers)
    return [_line(entry) for entry in entries]


def _line(entry: Mapping[str, Any]) -> str:
    found = entry.get("created_by") or entry.get("comment") or ""
    return " ".join(found.split()) if isinstance(found, str) else ""


def _origin(layer: Descriptor, line: str) -> Origin:
    found = _HISTORY.match(line)
    parts = found.groupdict(default="") if found is not None else {}
    name = layer.annotations.get(keys.TOOL_NAME, parts.get("name", ""))
    version = layer.annotations.get(keys.TOOL_VERSION, parts.get("version", ""))
    return Origin(name, version, parts.get("root", ""), line)
