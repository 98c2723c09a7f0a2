"""What a run comes to: the closing table for a person, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kobuild.build import Build, ToolLayer
from kobuild.image.image import Carried, Image
from kobuild.report import format_size, format_table


def build_table(build: Build) -> str:
    """One line a layer: where it came from, what it weighs, whether it was made."""
    several = len(build.images.images) > 1
    rows = [row for image in build.images.images for row in _rows(image, build, several=several)]
    header = ("layer", "size", "unpacked", "made", "diff ID")
    table = format_table(header, rows, right=frozenset({1, 2}))
    kept = ", ".join(str(item.descriptor.platform) for item in _kept(build))
    return f"{table}\nkept of the base: {kept}" if kept else table


def _kept(build: Build) -> list[Carried]:
    """The base's images that go along."""
    carried = build.images.carried
    return [item for item in carried if item.descriptor.platform and item.descriptor.platform.is_known]


def _rows(image: Image, build: Build, *, several: bool) -> list[tuple[str, ...]]:
    suffix = f" [{image.platform}]" if several else ""
    tools = [item for item in build.layers if item.platform == image.platform]
    base = image.layers[: len(image.layers) - len(tools)]
    rows: list[tuple[str, ...]] = []
    if base:
        size = sum(layer.descriptor.size for layer in base)
        name = f"base, {len(base)} layer{'s' if len(base) > 1 else ''}{suffix}"
        rows.append((name, format_size(size), "", "base", base[-1].diff_id.short))
    rows += [_tool_row(item, suffix) for item in tools]
    return rows


def _tool_row(item: ToolLayer, suffix: str) -> tuple[str, ...]:
    result = item.result
    name = f"{item.tool.name} {item.version}".strip() + suffix
    made = "shared" if item.is_shared else "cached" if item.cached else "new"
    return (name, format_size(result.size), format_size(result.uncompressed_size), made, result.diff_id.short)


def build_json(build: Build, images: Sequence[str]) -> dict[str, Any]:
    """The result for machines; `images` are the references with their digest, the first one first."""
    return {
        "digest": str(build.images.descriptor.digest),
        "images": list(images),
        "media_type": build.images.descriptor.media_type,
        "platforms": [_image_json(image, build) for image in build.images.images],
        "kept": [
            {"platform": str(item.descriptor.platform), "digest": str(item.descriptor.digest)} for item in _kept(build)
        ],
    }


def _image_json(image: Image, build: Build) -> dict[str, Any]:
    tools = [item for item in build.layers if item.platform == image.platform]
    return {
        "platform": str(image.platform),
        "digest": str(image.manifest.digest),
        "image_id": str(image.image_id),
        "base_layers": len(image.layers) - len(tools),
        "layers": [_layer_json(item) for item in tools],
    }


def _layer_json(item: ToolLayer) -> dict[str, Any]:
    return {
        "tool": item.tool.name,
        "version": item.version,
        "digest": str(item.result.digest),
        "diff_id": str(item.result.diff_id),
        "size": item.result.size,
        "uncompressed_size": item.result.uncompressed_size,
        "cached": item.cached,
        "shared": item.is_shared,
    }
