from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from kobuild.errors import ArchiveError, UnsafeMember
from kobuild.layers.engine import make_layer, pack_directory
from kobuild.layers.plan import FileInput, LayerPlan
from kobuild.oci.mediatypes import Compression
from tests.support.archives import Made, make_tar_gz

PLAN = LayerPlan(root="/opt/app", compression=Compression.NONE, epoch=1_600_000_000)


def pack(folder: Path, plan: LayerPlan = PLAN) -> Made:
    sink = io.BytesIO()
    result = pack_directory(folder, plan, sink)
    return Made(result, sink.getvalue(), sink.getvalue())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "b").mkdir(parents=True)
    (root / "a").write_text("a")
    (root / "b" / "run").write_text("#!/bin/sh\n")
    (root / "b" / "run").chmod(0o700)
    (root / "b" / "link").symlink_to("run")
    (root / "b.txt").write_bytes(b"x" * 3_000_000)
    return root


def test_sorted_normalised_and_owned_by_root(tree: Path) -> None:
    made = pack(tree)
    prefix = "opt/app/"
    assert made.names == [prefix + name for name in ("a", "b", "b/link", "b/run", "b.txt")]
    assert [info.mode for info in made.infos.values()] == [0o644, 0o755, 0o777, 0o755, 0o644]
    assert {(info.uid, info.gid, info.mtime) for info in made.infos.values()} == {(0, 0, 1_600_000_000)}
    assert made.read(prefix + "b.txt") == b"x" * 3_000_000
    assert made.infos[prefix + "b/link"].linkname == "run"
    assert made.result.newest_mtime is None


def test_neither_umask_nor_times_change_it(tree: Path) -> None:
    before = pack(tree).result.diff_id
    (tree / "a").chmod(0o600)
    (tree / "b").chmod(0o711)
    os.utime(tree / "a", (1, 1))
    assert pack(tree).result.diff_id == before
    (tree / "a").chmod(0o755)
    assert pack(tree).result.diff_id != before


def test_only_and_mode_hold_here_too(tree: Path) -> None:
    plan = LayerPlan(only=("b/*",), strip=1, mode=0o555, compression=Compression.NONE)
    made = pack(tree, plan)
    assert made.names == ["link", "run"]
    assert made.infos["run"].mode == 0o555


def test_links_that_climb_out_are_refused(tree: Path) -> None:
    (tree / "escape").symlink_to("../../etc")
    with pytest.raises(UnsafeMember, match="would leave its root"):
        pack(tree)


def test_what_is_no_file_is_refused(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    with pytest.raises(UnsafeMember, match="neither"):
        pack(tree)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no such directory"):
        pack(tmp_path / "missing")


def test_files_of_this_machine(tmp_path: Path) -> None:
    archive = tmp_path / "x.tgz"
    archive.write_bytes(make_tar_gz([]))
    assert make_layer(FileInput(archive), LayerPlan(root="/x"), io.BytesIO()).members == 0
    with pytest.raises(ArchiveError, match="No such file"):
        make_layer(FileInput(tmp_path / "missing"), LayerPlan(), io.BytesIO())
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\n")
    sink = io.BytesIO()
    result = make_layer(FileInput(script), LayerPlan(rename="tool", compression=Compression.NONE), sink)
    assert Made(result, sink.getvalue(), sink.getvalue()).infos["tool"].mode == 0o755
