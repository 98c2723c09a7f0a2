"""`kobuild index`: join images that were pushed by digest under their tags."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from kobuild import github
from kobuild.build import locked_tool
from kobuild.commands.output import print_json
from kobuild.commands.reading import require_lock
from kobuild.commands.shared import add_target_options, opened, require_network, tell
from kobuild.explain.markdown import code, plain, table
from kobuild.fleet.join import join
from kobuild.image.image import Image, ImageSet
from kobuild.lock import Lock
from kobuild.oci.reference import Reference
from kobuild.push import choose_targets
from kobuild.report import format_size, format_table, group
from kobuild.workshop import Workshop


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("images", nargs="+", metavar="NAME@DIGEST", help="what `kobuild push --by-digest` printed")
    add_target_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check that the images belong together, and let the tags point at all of them."""
    require_network(arguments, "index")
    with opened(arguments) as workshop:
        targets = choose_targets(workshop.settings, arguments.tag)
        lock = require_lock(workshop)
        with group("Check the images", quiet=arguments.quiet):
            images = join(workshop, lock, [Reference.parse(text) for text in arguments.images])
        with group("Push", quiet=arguments.quiet):
            result = workshop.registry.push(images, targets, workshop.reporter, move_tags=not arguments.keep_tags)
        github.append_summary("\n".join(_summary(images, targets)), workshop.environ)
        value = _json(workshop, lock, images, targets)
    tell(arguments, _table(images))
    tell(arguments, f"uploaded {format_size(result.bytes_sent)} in {result.uploaded} blobs, mounted {result.mounted}")
    if arguments.json:
        print_json({**value, "changed": len(result.unchanged) < len(targets)})
    else:
        print("\n".join(value["images"]))
    return 0


def _rows(images: ImageSet) -> list[tuple[str, str, str]]:
    return [
        (
            str(image.platform),
            format_size(sum(layer.descriptor.size for layer in image.layers)),
            str(image.manifest.digest),
        )
        for image in images.images
    ]


def _table(images: ImageSet) -> str:
    return format_table(("platform", "size", "digest"), _rows(images), right=frozenset({1}))


def _summary(images: ImageSet, targets: Sequence[Reference]) -> Iterator[str]:
    yield from (f"### {plain(str(targets[0]))}", "")
    rows = [("digest", code(str(images.descriptor.digest))), *(("tag", code(str(target))) for target in targets)]
    yield from table(("", ""), rows)
    yield from table(
        ("platform", "size", "digest"), [(name, size, code(digest)) for name, size, digest in _rows(images)]
    )


def _json(workshop: Workshop, lock: Lock, images: ImageSet, targets: Sequence[Reference]) -> dict[str, Any]:
    """The result for machines, as `push` has it."""
    digest = images.descriptor.digest
    return {
        "digest": str(digest),
        "images": [f"{target}@{digest}" for target in targets],
        "media_type": images.descriptor.media_type,
        "platforms": [_image_json(workshop, lock, image) for image in images.images],
    }


def _image_json(workshop: Workshop, lock: Lock, image: Image) -> dict[str, Any]:
    tools = workshop.settings.tools
    base_layers = len(image.layers) - len(tools)
    return {
        "platform": str(image.platform),
        "digest": str(image.manifest.digest),
        "image_id": str(image.image_id),
        "base_layers": base_layers,
        "layers": [
            {
                "tool": tool.name,
                "version": locked_tool(lock, tool, image.platform)[0].version,
                "digest": str(layer.descriptor.digest),
                "diff_id": str(layer.diff_id),
                "size": layer.descriptor.size,
            }
            for tool, layer in zip(tools, image.layers[base_layers:], strict=True)
        ],
    }
