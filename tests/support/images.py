"""Small real images, made in memory from a seed: the same seed gives the same bytes."""

from __future__ import annotations

import gzip
import io
import random
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kobuild.image.blobs import BytesSource, Layer
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Compression, Family
from kobuild.oci.platforms import Platform
from kobuild.store.layoutwriter import write_layout

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


def make_tar(members: Mapping[str, bytes], *, mtime: int = 1_700_000_000) -> bytes:
    """A ustar archive; a name that ends with `/` is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.mode = 0o755
            info.size = len(data)
            info.mtime = mtime
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def compress(data: bytes, compression: Compression) -> bytes:
    """`data` as a layer of that compression holds it."""
    if compression is Compression.NONE:
        return data
    if compression is Compression.ZSTD:
        return bytes(zstd.compress(data))
    return gzip.compress(data, 1, mtime=0)


def make_layer(
    tar: bytes,
    *,
    family: Family = Family.OCI,
    compression: Compression = Compression.GZIP,
    annotations: Mapping[str, str] | None = None,
) -> Layer:
    """A layer in memory that holds `tar`."""
    data = compress(tar, compression)
    descriptor = Descriptor(family.layer(compression), Digest.of(data), len(data), annotations=annotations or {})
    return Layer(descriptor, BytesSource(data), Digest.of(tar))


def make_image(
    layers: Sequence[Layer] = (),
    *,
    platform: Platform = AMD64,
    family: Family = Family.OCI,
    config: Mapping[str, Any] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Image:
    """An image of `layers`; `config` is its runtime config, `members` are put into the config document as they are."""
    history = [{"created": "2024-05-01T00:00:00Z", "created_by": f"layer {number}"} for number in range(len(layers))]
    document = ImageConfig.from_value(
        {
            **platform.to_json(),
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
            "history": history,
            **(members or {}),
        }
    )
    manifest = Manifest.build(
        media_type=family.manifest,
        config=Descriptor(family.config, document.digest, len(document.raw)),
        layers=tuple(layer.descriptor for layer in layers),
        annotations={},
    )
    return Image(manifest, document, tuple(layers))


def random_image(
    seed: int,
    *,
    count: int = 2,
    platform: Platform = AMD64,
    family: Family = Family.OCI,
    compression: Compression = Compression.GZIP,
) -> Image:
    """An image of `count` layers of one folder and one file each."""
    source = random.Random(seed)  # noqa: S311 - test data
    tars = [
        make_tar({f"layer{number}/": b"", f"layer{number}/file": source.randbytes(2000)}) for number in range(count)
    ]
    layers = [make_layer(tar, family=family, compression=compression) for tar in tars]
    return make_image(
        layers,
        platform=platform,
        family=family,
        config={"Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"]},
        members={"created": "2024-05-01T00:00:00Z"},
    )


def layout_of(folder: Path, *images: Image, names: Sequence[str] = ("latest",)) -> Path:
    """Write `images` (one, or more under an index) as a layout to `folder`."""
    write_layout(folder, gather(images), names=names)
    return folder
