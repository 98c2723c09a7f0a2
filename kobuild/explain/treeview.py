"""The tree of an image as a person reads it, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from kobuild.explain.entries import printable
from kobuild.explain.imagetree import ImageNode, ImageTree, LayerNode, runtime_config
from kobuild.explain.origins import BaseName
from kobuild.frozen import frozen
from kobuild.layers.entries import Entry
from kobuild.oci.config import format_time
from kobuild.oci.index import Index
from kobuild.report import format_size

_HISTORY_SHOWN: Final = 72


@frozen
class _Branch:
    """A line of the tree and what hangs below it."""

    text: str
    below: Sequence[_Branch] = ()

    def lines(self, prefix: str = "") -> Iterator[str]:
        """What hangs below, drawn."""
        for number, branch in enumerate(self.below, 1):
            is_last = number == len(self.below)
            yield f"{prefix}{'└── ' if is_last else '├── '}{printable(branch.text)}"
            yield from branch.lines(prefix + ("    " if is_last else "│   "))


def tree_text(tree: ImageTree, file_count: int) -> str:
    """The tree, with up to `file_count` of the largest files of each image."""
    kind = "index" if isinstance(tree.root, Index) else "image"
    branches = [_image(image, file_count) for image in tree.images]
    branches += [
        _Branch(f"{_other_kind(item.annotations)} {item.digest}, {format_size(item.size)}") for item in tree.others
    ]
    root = _Branch("", branches)
    return "\n".join((f"{tree.name}", f"{kind} {tree.root.digest}", *root.lines()))


def _other_kind(annotations: Any) -> str:
    return str(annotations.get("vnd.docker.reference.type", "artifact")).replace("-manifest", "")


def _image(image: ImageNode, file_count: int) -> _Branch:
    count = len(image.layers)
    text = f"{image.platform}  {image.manifest.digest}  {format_size(image.size)} in {count} layer{'s' * (count != 1)}"
    branches = [*_layers(image), _config(image)]
    largest = image.largest(file_count)
    if largest:
        branches.append(_Branch("largest files", [_file(layer, entry) for layer, entry in largest]))
    return _Branch(text, branches)


def _layers(image: ImageNode) -> Iterator[_Branch]:
    width = max((len(format_size(layer.descriptor.size)) for layer in image.layers), default=0)
    lower = [layer for layer in image.layers if layer.origin.of_base]
    if lower or image.base is not None:
        yield _Branch(f"base {_base_text(image.base)}", [_layer(layer, width) for layer in lower])
    yield from (_layer(layer, width) for layer in image.layers if not layer.origin.of_base)


def _base_text(base: BaseName | None) -> str:
    if base is None:
        return "(not named)"
    return f"{base.name}@{base.digest}" if base.digest and "@" not in base.name else base.name or base.digest


def _layer(layer: LayerNode, width: int) -> _Branch:
    notes = [layer.table] if layer.table else []
    if layer.listing is not None:
        count = len(layer.listing.entries)
        notes.append(f"{count} {'entry' if count == 1 else 'entries'}, {format_size(layer.listing.size)} unpacked")
        notes += [f"takes away {count}" for count in [len(layer.listing.removed) + len(layer.listing.opaque)] if count]
    suffix = f"  ({'; '.join(notes)})" if notes else ""
    size = format_size(layer.descriptor.size).rjust(width)
    return _Branch(f"{layer.number}  {size}  {layer.descriptor.digest.short}  {_made_by(layer)}{suffix}")


def _made_by(layer: LayerNode) -> str:
    origin = layer.origin
    if origin.tool:
        root = f" under {origin.root}" if origin.root else ""
        return f"{origin.tool} {origin.version}".strip() + root
    line = origin.history or "(no history)"
    return line if len(line) <= _HISTORY_SHOWN else f"{line[: _HISTORY_SHOWN - 1]}…"


def _config(image: ImageNode) -> _Branch:
    created = image.config.created
    lines = [_Branch(f"created  {format_time(created)}")] if created is not None else []
    for key, value in runtime_config(image.config).items():
        lines.extend(_value(key, value))
    return _Branch(f"config {image.config.digest}", lines)


def _value(key: str, value: Any) -> Iterator[_Branch]:
    if key in ("Env", "Labels", "ExposedPorts", "Volumes"):
        pairs = [f"{name}={item}" for name, item in sorted(value.items())] if key == "Labels" else list(value)
        yield _Branch(key, [_Branch(str(item)) for item in pairs])
    else:
        yield _Branch(f"{key}  {value if isinstance(value, str) else _compact(value)}")


def _compact(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _file(layer: LayerNode, entry: Entry) -> _Branch:
    return _Branch(f"{format_size(entry.size):>9}  /{entry.path}  (layer {layer.number})")


def tree_json(tree: ImageTree, file_count: int) -> dict[str, Any]:
    """The tree for machines; sizes in bytes."""
    return {
        "name": tree.name,
        "digest": str(tree.root.digest),
        "media_type": tree.root.media_type,
        "images": [_image_json(image, file_count) for image in tree.images],
        "others": [item.to_json() for item in tree.others],
    }


def _image_json(image: ImageNode, file_count: int) -> dict[str, Any]:
    created = image.config.created
    value: dict[str, Any] = {
        "platform": str(image.platform),
        "digest": str(image.manifest.digest),
        "media_type": image.manifest.media_type,
        "image_id": str(image.config.digest),
        "created": format_time(created) if created is not None else None,
        "size": image.size,
        "base": {"name": image.base.name, "digest": image.base.digest} if image.base is not None else None,
        "annotations": dict(image.manifest.annotations),
        "config": runtime_config(image.config),
        "layers": [_layer_json(layer) for layer in image.layers],
    }
    if any(layer.listing is not None for layer in image.layers):
        value["files"] = [{**entry.to_json(), "layer": layer.number} for layer, entry in image.largest(file_count)]
    return value


def _layer_json(layer: LayerNode) -> dict[str, Any]:
    origin = layer.origin
    value: dict[str, Any] = {
        "number": layer.number,
        "digest": str(layer.descriptor.digest),
        "diff_id": layer.diff_id,
        "media_type": layer.descriptor.media_type,
        "size": layer.descriptor.size,
        "tool": origin.tool or None,
        "version": origin.version or None,
        "of_base": origin.of_base,
        "history": origin.history,
        "table_of_contents": layer.table,
    }
    if layer.listing is not None:
        listing = layer.listing
        value["contents"] = {
            "entries": len(listing.entries),
            "size": listing.size,
            "removed": [f"/{path}" for path in listing.removed],
            "opaque": [f"/{path}" for path in listing.opaque],
            "bytes_read": listing.bytes_read,
        }
    return value
