from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kobuild.decompress import decompressors
from kobuild.decompress.packing import Packing, sniff
from kobuild.errors import ArchiveError, DigestMismatch, SizeMismatch, TruncatedArchive
from kobuild.layers import compressing
from kobuild.layers.magic import is_executable
from kobuild.layers.plan import LayerPlan
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Compression
from kobuild.streams import Readable, VerifyingReader
from tests.support.archives import COMPRESS, MTIME, Entry, MemoryInput, folder, make, make_tar, make_tar_gz

ENTRIES = [folder("tool"), Entry("tool/run", b"#!/bin/sh\n" * 400, mode=0o755), Entry("tool/empty")]
PLAIN = LayerPlan(compression=Compression.NONE, root="/opt")


@pytest.mark.parametrize("suffix", COMPRESS)
def test_every_packing_gives_the_same_tar(suffix: str) -> None:
    made = make(MemoryInput(COMPRESS[suffix](make_tar(ENTRIES)), f"tool.tar{suffix}", piece=1000), PLAIN)
    assert made.names == ["opt/tool", "opt/tool/run", "opt/tool/empty"]
    assert made.read("opt/tool/run") == b"#!/bin/sh\n" * 400
    assert made.infos["opt/tool/run"].mode == 0o755
    assert str(made.result.diff_id) == "sha256:" + hashlib.sha256(made.tar).hexdigest()


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP, Compression.ZSTD])
def test_the_result_describes_the_bytes(compression: Compression) -> None:
    made = make(make_tar_gz(ENTRIES), LayerPlan(compression=compression))
    result = made.result
    assert str(result.digest) == "sha256:" + hashlib.sha256(made.blob).hexdigest()
    assert str(result.diff_id) == "sha256:" + hashlib.sha256(made.tar).hexdigest()
    assert (result.size, result.uncompressed_size) == (len(made.blob), len(made.tar))
    assert (result.members, result.newest_mtime) == (3, MTIME)
    assert made.tar.endswith(bytes(1024))
    assert len(made.tar) % 512 == 0


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_bytes_do_not_depend_on_how_they_came(compression: Compression) -> None:
    content = b"".join(hashlib.sha256(b"%d" % number).digest() * 3 for number in range(60_000))
    data = make_tar_gz([Entry("big", content), Entry("small", b"x")])
    plan = LayerPlan(compression=compression)
    assert make(data, plan).blob == make(MemoryInput(data, piece=70_001), plan).blob


def test_the_gzip_header_holds_no_time_and_no_name() -> None:
    blob = make(make_tar_gz(ENTRIES), LayerPlan()).blob
    assert blob[:8] == b"\x1f\x8b\x08\0\0\0\0\0"


def test_without_isal_the_diff_id_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [*ENTRIES, Entry("tool/big", bytes(range(256)) * 20_000)]
    fast = make(make_tar_gz(entries), LayerPlan())
    monkeypatch.setattr(compressing, "HAVE_ISAL", False)
    monkeypatch.setattr(decompressors, "HAVE_ISAL", False)
    slow = make(make_tar_gz(entries), LayerPlan())
    assert slow.result.diff_id == fast.result.diff_id
    assert slow.tar == fast.tar


def test_gzip_members_are_joined() -> None:
    tar = make_tar(ENTRIES)
    parts = b"".join(gzip.compress(tar[start : start + 700]) for start in range(0, len(tar), 700))
    assert make(parts, PLAIN).tar == make(gzip.compress(tar), PLAIN).tar


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst", ".bz2"])
def test_zero_padding_is_no_fault_and_garbage_is(suffix: str) -> None:
    data = COMPRESS[suffix](make_tar(ENTRIES))
    assert make(MemoryInput(data + bytes(4096), piece=100), PLAIN).names
    for garbage in (b"x", b"garbage" * 100, bytes(100) + b"x", bytes(8) + data):
        with pytest.raises(ArchiveError, match="after the end"):
            make(MemoryInput(data + garbage, piece=97), PLAIN)


def test_joined_streams_of_every_kind() -> None:
    tar = make_tar(ENTRIES)
    for suffix in (".xz", ".zst", ".bz2"):
        data = COMPRESS[suffix](tar[:1000]) + COMPRESS[suffix](tar[1000:])
        assert make(data, PLAIN).names[0] == "opt/tool"


def test_a_skippable_frame_before_zstd() -> None:
    data = b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + COMPRESS[".zst"](make_tar(ENTRIES))
    assert sniff(data) is Packing.ZSTD
    assert make(data, PLAIN).names[0] == "opt/tool"


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst", ".bz2"])
def test_a_cut_stream_is_never_a_short_layer(suffix: str) -> None:
    data = COMPRESS[suffix](make_tar(ENTRIES))
    for length in range(0, len(data), max(1, len(data) // 60)):
        with pytest.raises(TruncatedArchive):
            make(MemoryInput(data[:length], "tool.tar" + suffix), PLAIN)


@pytest.mark.parametrize("isal", [True, False])
def test_checksum_and_length_of_gzip_are_verified(monkeypatch: pytest.MonkeyPatch, *, isal: bool) -> None:
    monkeypatch.setattr(decompressors, "HAVE_ISAL", isal and decompressors.HAVE_ISAL)
    good = make_tar_gz(ENTRIES)
    for position in (-8, -4, len(good) // 2):
        bad = bytearray(good)
        bad[position] ^= 0x41
        with pytest.raises(ArchiveError):
            make(bytes(bad), PLAIN)


def test_an_empty_file_is_an_error() -> None:
    with pytest.raises(TruncatedArchive, match="empty"):
        make(b"")


def test_an_empty_archive_makes_an_empty_layer() -> None:
    for data in (make_tar([]), gzip.compress(make_tar([])), bytes(1024)):
        made = make(data)
        assert (made.result.members, made.result.newest_mtime, made.tar.strip(b"\0")) == (0, None, b"")


def test_a_bare_binary_is_named_and_executable(tmp_path: Path) -> None:
    data = b"\x7fELF" + bytes(5000)
    made = make(MemoryInput(data, "jq-linux64", tmp_path), LayerPlan(root="/usr/local/bin", rename="jq", epoch=86400))
    info = made.infos["usr/local/bin/jq"]
    assert (info.mode, info.size, info.mtime, info.uid, info.gid) == (0o755, 5004, 86400, 0, 0)
    assert made.names == ["usr/local/bin/jq"]
    assert made.result.newest_mtime is None
    assert made.read("usr/local/bin/jq") == data


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst", ".bz2"])
def test_a_single_compressed_file(tmp_path: Path, suffix: str) -> None:
    data = b"\x7fELF" + bytes(3_000_000)
    source = MemoryInput(COMPRESS[suffix](data), f"tool{suffix}", tmp_path)
    made = make(source, LayerPlan(rename="tool", mode=0o700, compression=Compression.NONE))
    assert made.read("tool") == data
    assert made.infos["tool"].mode == 0o700


def test_a_single_gz_keeps_the_time_that_it_holds(tmp_path: Path) -> None:
    made = make(MemoryInput(gzip.compress(b"content", mtime=MTIME), "tool.gz", tmp_path))
    assert made.infos["tool.gz"].mtime == MTIME
    assert made.result.newest_mtime == MTIME


def test_a_file_named_tar_that_is_none_is_refused(tmp_path: Path) -> None:
    page = b"<!DOCTYPE html>" + b" " * 1000
    for data, name in ((page, "tool.tar"), (gzip.compress(page), "tool.tar.gz"), (gzip.compress(page), "tool.tgz")):
        with pytest.raises(ArchiveError, match="should be a tar"):
            make(MemoryInput(data, name, tmp_path))


def test_a_tar_whose_first_header_is_damaged_is_no_bare_file(tmp_path: Path) -> None:
    bad = bytearray(make_tar(ENTRIES))
    bad[0] ^= 1
    with pytest.raises(ArchiveError, match="checksum"):
        make(MemoryInput(bytes(bad), "tool", tmp_path))


@pytest.mark.parametrize(
    ("head", "kind"), [(b"!<arch>\n", "Debian"), (b"7z\xbc\xaf\x27\x1c", "7-Zip"), (b"\xed\xab\xee\xdb", "RPM")]
)
def test_archives_that_cannot_be_read_are_named(tmp_path: Path, head: bytes, kind: str) -> None:
    with pytest.raises(ArchiveError, match=kind):
        make(MemoryInput(head + bytes(1000), "tool.bin", tmp_path))


def test_a_tar_within_two_zero_blocks_may_lack_them_only_when_sealed() -> None:
    tar = make_tar([Entry("a", b"x")])[:1024]
    assert make(gzip.compress(tar)).names == ["a"]
    assert make(tar + bytes(512)).names == ["a"]
    with pytest.raises(TruncatedArchive, match="end mark"):
        make(tar)


def test_names_of_programs() -> None:
    assert is_executable(b"#!/bin/sh")
    assert is_executable(b"\xcf\xfa\xed\xfe\x07")
    assert not is_executable(b"{}")


def test_standard_readers_read_gzip_layers() -> None:
    with tarfile.open(fileobj=io.BytesIO(make(make_tar_gz(ENTRIES), LayerPlan()).blob), mode="r:gz") as tar:
        assert tar.getnames() == ["tool", "tool/run", "tool/empty"]


class Promised(MemoryInput):
    """A source that knows what its bytes should be, as a download does."""

    promised = Digest.of(make_tar_gz(ENTRIES))

    @contextlib.contextmanager
    def stream(self) -> Iterator[Readable]:
        with super().stream() as raw:
            yield VerifyingReader(raw, digest=self.promised, size=len(make_tar_gz(ENTRIES)), place=self.name)


@pytest.mark.parametrize("plan", [PLAIN, LayerPlan(base_has_standard_dirs=False)])
def test_a_broken_download_is_named_as_one(plan: LayerPlan) -> None:
    good = make_tar_gz(ENTRIES)
    assert make(Promised(good), plan).result.members == 3
    for position in range(2, len(good), 5):
        bad = bytearray(good)
        bad[position] ^= 0x55
        with pytest.raises(DigestMismatch):
            make(Promised(bytes(bad)), plan)
    for length in (10, 100, len(good) - 1):
        with pytest.raises(SizeMismatch):
            make(Promised(good[:length]), plan)


def test_every_format_is_made_where_isal_has_no_wheel() -> None:
    script = """
import sys
sys.modules["isal"] = None
from kobuild.layers import compressing
from kobuild.layers.plan import LayerPlan
from kobuild.oci.mediatypes import Compression
from tests.support.archives import Entry, MemoryInput, make, make_tar_gz, make_zip
assert not compressing.HAVE_ISAL
entries = [Entry(f"m{number}", b"content" * number) for number in range(300)]
for compression in Compression:
    print(compression.value, make(make_tar_gz(entries), LayerPlan(root="/r", compression=compression)).result.diff_id)
assert make(MemoryInput(make_zip([("a", b"x" * 9999, 0o100644)]))).read("a") == b"x" * 9999
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    entries = [Entry(f"m{number}", b"content" * number) for number in range(300)]
    for line in done.stdout.splitlines():
        compression, diff_id = line.split()
        plan = LayerPlan(root="/r", compression=Compression(compression))
        made = make(make_tar_gz(entries), plan).result
        if plan.compression is not Compression.ESTARGZ:  # its tar holds the index, with offsets in the compressed bytes
            assert str(made.diff_id) == diff_id
