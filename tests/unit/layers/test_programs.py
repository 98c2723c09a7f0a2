"""Other people's programs unpack the layers of every format, and find what the archive held."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from kobuild.image.blobs import BytesSource, Layer
from kobuild.layers.plan import LayerPlan
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.mediatypes import Compression, Family
from tests.support.archives import MTIME, Entry, folder, hard_link, make, make_tar_gz, symlink
from tests.support.engines import Engines, run
from tests.support.images import layout_of, make_image
from tests.support.programs import require_program

LONG = "/".join(["directory-with-a-long-name"] * 12)
BIG = os.urandom(64) * 90_000  # more than one chunk of an index
ENTRIES = [
    folder("tool", 0o750),
    Entry("tool/run", b"#!/bin/sh\n" * 100, mode=0o755, uid=12, gid=34),
    Entry("tool/big", BIG, mtime=MTIME + 0.5),
    Entry("tool/empty"),
    Entry(f"{LONG}/file", b"far down"),
    Entry("tool/caf\u00e9", b"utf-8", pax={"SCHILY.xattr.user.note": "kept"}),
    symlink("tool/link", "run"),
    symlink("tool/away", "/etc/elsewhere"),
    replace(hard_link("tool/hard", "tool/run"), mode=0o755, uid=12, gid=34),
]


def layout_with(tmp_path: Path, compression: Compression) -> Path:
    made = make(make_tar_gz(ENTRIES), LayerPlan(root="/opt", compression=compression))
    descriptor = Descriptor(
        Family.OCI.layer(compression), made.result.digest, made.result.size, annotations=made.result.annotations
    )
    image = make_image([Layer(descriptor, BytesSource(made.blob), made.result.diff_id)])
    return layout_of(tmp_path / "layout", image)


def diff_id_of(layout: Path) -> str:
    blobs = layout / "blobs" / "sha256"
    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads((blobs / index["manifests"][0]["digest"].partition(":")[2]).read_bytes())
    config = json.loads((blobs / manifest["config"]["digest"].partition(":")[2]).read_bytes())
    return str(config["rootfs"]["diff_ids"][0]).removeprefix("sha256:")


def check_tree(root: Path) -> None:
    tool = root / "opt" / "tool"
    status = (tool / "run").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid, int(status.st_mtime)) == (0o755, 12, 34, MTIME)
    assert (tool / "run").read_bytes() == b"#!/bin/sh\n" * 100
    assert (tool / "hard").stat().st_ino == status.st_ino
    assert (tool / "big").read_bytes() == BIG
    assert (tool / "empty").stat().st_size == 0
    assert tool.stat().st_mode & 0o7777 == 0o750
    assert os.readlink(tool / "link") == "run"
    assert os.readlink(tool / "away") == "/etc/elsewhere"
    assert (tool / "caf\u00e9").read_bytes() == b"utf-8"
    assert (root / "opt" / LONG / "file").read_bytes() == b"far down"


def require_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("unpacking with owners needs root")


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP, Compression.ESTARGZ])
def test_umoci_unpacks(tmp_path: Path, compression: Compression) -> None:
    require_root()
    check_tree(Engines(tmp_path).umoci_unpack(layout_with(tmp_path, compression), "latest"))


@pytest.mark.parametrize("compression", list(Compression))
def test_buildah_unpacks(tmp_path: Path, compression: Compression) -> None:
    require_root()
    require_program("buildah")
    storage = Engines(tmp_path)._storage()
    layout = layout_with(tmp_path, compression)
    container = run("buildah", *storage, "from", "--quiet", f"oci:{layout}").strip().splitlines()[-1]
    try:
        check_tree(Path(run("buildah", *storage, "mount", container).strip()))
    finally:
        run("buildah", *storage, "rm", container)


@pytest.mark.parametrize("compression", list(Compression))
def test_skopeo_unpacks_to_the_diff_id(tmp_path: Path, compression: Compression) -> None:
    require_program("skopeo")
    layout = layout_with(tmp_path, compression)
    run("skopeo", "copy", "--dest-decompress", f"oci:{layout}:latest", f"dir:{tmp_path / 'unpacked'}")
    blobs = [path for path in (tmp_path / "unpacked").iterdir() if path.stat().st_size > len(BIG)]
    assert [hashlib.sha256(blob.read_bytes()).hexdigest() for blob in blobs] == [diff_id_of(layout)]
