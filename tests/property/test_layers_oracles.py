"""Re-rooting held against GNU tar: what a layer unpacks to is what tar itself makes of the archive below the root."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kobuild.errors import ArchiveError
from kobuild.layers.plan import LayerPlan
from kobuild.oci.mediatypes import Compression
from tests.property.test_layers_reroot import root, trees
from tests.support.archives import Entry, make, make_tar
from tests.support.programs import require_program

Tree = dict[str, tuple[int, int, str | bytes, int]]


def unpack(tar: bytes, folder: Path, *options: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = [require_program("tar"), "--extract", "--same-permissions", "-C", str(folder), *options, "-f", "-"]
    subprocess.run(command, input=tar, capture_output=True, check=True)


def read_tree(folder: Path) -> Tree:
    """Kind and mode, time, content or target, and how many names each has."""
    found: Tree = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue
        inside: str | bytes = os.readlink(path) if path.is_symlink() else path.read_bytes()
        mtime = 0 if path.is_symlink() else int(status.st_mtime)
        found[str(path.relative_to(folder))] = (status.st_mode, mtime, inside, status.st_nlink)
    return found


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    trees(),
    root,
    st.integers(0, 2),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]),
)
def test_a_layer_is_what_gnu_tar_unpacks_below_the_root(
    entries: list[Entry], top: str, strip: int, tar_format: int
) -> None:
    tar = make_tar([entry for entry in entries if strip == 0 or entry.kind == tarfile.REGTYPE], tar_format)
    plan = LayerPlan(root=top, strip=strip, compression=Compression.NONE, base_has_standard_dirs=False)
    try:
        layer = make(tar, plan).tar
    except ArchiveError as error:
        assume("two members" not in str(error))
        assume("below" not in str(error))
        raise
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(tar, folder / "oracle" / top.strip("/"), f"--strip-components={strip}")
        unpack(layer, folder / "layer")
        assert read_tree(folder / "layer") == read_tree(folder / "oracle")
