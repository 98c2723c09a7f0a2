"""A tar that needs no change keeps its compressed bytes; any other does not."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from collections.abc import Callable

import pytest

from kobuild.errors import UnsafeMember
from kobuild.layers.plan import LayerPlan
from kobuild.oci.mediatypes import Compression
from tests.support.archives import COMPRESS, MTIME, Entry, folder, hard_link, make, make_tar, symlink

LONG = "n" * 120
ENTRIES = [folder("app"), Entry("app/x", b"x" * 5000), Entry(LONG), symlink("l", "app"), hard_link("h", "app/x")]
KEEP = LayerPlan(base_has_standard_dirs=False)


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    ("suffix", "compression"), [(".gz", Compression.GZIP), (".zst", Compression.ZSTD), ("", Compression.NONE)]
)
def test_bytes_are_kept(suffix: str, compression: Compression, tar_format: int) -> None:
    entries = [entry for entry in ENTRIES if entry.name != LONG or tar_format != tarfile.USTAR_FORMAT]
    tar = make_tar(entries, tar_format)
    data = COMPRESS[suffix](tar)
    made = make(data, LayerPlan(compression=compression, base_has_standard_dirs=False))
    assert made.blob == data
    assert str(made.result.diff_id) == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert str(made.result.digest) == "sha256:" + hashlib.sha256(data).hexdigest()
    assert (made.result.size, made.result.uncompressed_size) == (len(data), len(tar))
    assert (made.result.members, made.result.newest_mtime) == (len(entries), MTIME)


@pytest.mark.parametrize(
    "plan",
    [
        LayerPlan(root="/r"),
        LayerPlan(only=("app",)),
        LayerPlan(strip=1, only=("app",)),
        LayerPlan(mode=0o755),
        LayerPlan(compression=Compression.ZSTD),
        LayerPlan(compression=Compression.ESTARGZ),
    ],
)
def test_a_plan_that_changes_something(plan: LayerPlan) -> None:
    data = COMPRESS[".gz"](make_tar(ENTRIES))
    assert make(data, plan).blob != data


@pytest.mark.parametrize(
    "entries",
    [
        [folder("./app"), Entry("./app/x")],
        [Entry("a//b")],
        [folder(".")],
        [folder("usr"), Entry("usr/x")],
        [folder("app"), folder("app")],
        [Entry("a"), hard_link("b", "./a")],
    ],
)
def test_a_member_that_would_change(entries: list[Entry]) -> None:
    data = COMPRESS[".gz"](make_tar(entries))
    made = make(data, LayerPlan())
    assert made.blob != data
    assert all(not name.startswith("./") for name in made.names)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tar: gzip.compress(tar) + bytes(10),
        lambda tar: gzip.compress(tar.rstrip(b"\0").ljust(-(-len(tar.rstrip(b"\0")) // 512) * 512, b"\0")),
        lambda tar: gzip.compress(tar.rstrip(b"\0").ljust(-(-len(tar.rstrip(b"\0")) // 512) * 512 + 512, b"\0")),
        lambda tar: gzip.compress(tar + bytes(100)),
    ],
    ids=["padding after the stream", "no end mark", "half an end mark", "half a block"],
)
def test_what_other_readers_may_stumble_over_is_written_anew(spoil: Callable[[bytes], bytes]) -> None:
    data = spoil(make_tar([Entry("a", b"x" * 512)]))
    made = make(data, KEEP)
    assert made.blob != data
    assert made.names == ["a"]


def test_global_headers_are_written_anew() -> None:
    data = COMPRESS[".gz"](make_tar([Entry("a")], pax_globals={"comment": "x"}))
    assert make(data, KEEP).blob != data


def test_the_rules_hold_all_the_same() -> None:
    with pytest.raises(UnsafeMember):
        make(COMPRESS[".gz"](make_tar([Entry("../x")])), KEEP)
