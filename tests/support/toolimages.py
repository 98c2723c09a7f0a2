"""Images as kobuild builds them: a base, and layers of the real layer engine with the annotations of a build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from kobuild.image.blobs import BytesSource, Layer
from kobuild.image.image import Image
from kobuild.image.mutate import Addition, ConfigEdits, append_layers, base_annotations, with_config
from kobuild.layers.plan import LayerPlan
from kobuild.oci import annotations as keys
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Compression, Family
from tests.support.archives import Entry, make, make_tar_gz
from tests.support.images import make_image, make_layer, make_tar

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
BASE_NAME = "registry.test/base:1"
BASE_DIGEST = Digest.of(b"the base's manifest")


def base_image(files: Mapping[str, bytes] | None = None, *, family: Family = Family.OCI) -> Image:
    """A base of one layer."""
    tar = make_tar(files or {"etc/": b"", "etc/os-release": b"ID=test\n", "usr/bin/sh": b"#!" * 50})
    config = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]}
    return make_image([make_layer(tar, family=family)], family=family, config=config)


def tool(
    name: str,
    version: str,
    entries: Iterable[Entry],
    *,
    root: str = "/usr/local",
    compression: Compression = Compression.GZIP,
    family: Family = Family.OCI,
    prioritized: Sequence[str] = (),
) -> Addition:
    """One tool's layer, made from a tarball of `entries`."""
    plan = LayerPlan(root=root, compression=compression, prioritized=tuple(prioritized))
    made = make(make_tar_gz(entries), plan)
    notes = dict(made.result.annotations)
    if family is Family.OCI:
        notes |= {keys.TOOL_NAME: name, keys.TOOL_VERSION: version}
    descriptor = Descriptor(family.layer(compression), made.result.digest, made.result.size, annotations=notes)
    layer = Layer(descriptor, BytesSource(made.blob), made.result.diff_id)
    return Addition(layer, f"kobuild: {name} {version} under {root}")


def tool_image(base: Image, additions: Sequence[Addition], **edits: Any) -> Image:
    """The tools on the base, and the config edited."""
    notes = base_annotations(BASE_NAME, BASE_DIGEST)
    image = append_layers(base, additions, created=CREATED)
    return with_config(image, ConfigEdits(annotations=notes, **edits))
