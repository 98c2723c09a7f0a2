"""eStargz and zstd:chunked layers, read back from their specifications: by offsets, never from the start."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import tarfile
import zlib
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kobuild.errors import ArchiveError
from kobuild.layers import compressing, indexed
from kobuild.layers.crc64 import crc64, fold
from kobuild.layers.estargz import format_time
from kobuild.layers.plan import LayerPlan
from kobuild.oci.mediatypes import Compression
from tests.support.archives import MTIME, Entry, Made, folder, hard_link, make, make_tar, make_tar_gz, symlink
from tests.support.programs import require_program

CHUNK = 64 * 1024
BIG = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(7_000))  # 3.4 chunks
ENTRIES = [
    folder("d", 0o750),
    Entry("d/small", b"small", uid=7, gid=8, uname="me", gname="us", pax={"SCHILY.xattr.user.k": "v"}),
    Entry("d/empty"),
    Entry("big", BIG, mode=0o4755, mtime=MTIME + 60),
    Entry("exact", BIG[: 2 * CHUNK]),
    symlink("d/link", "small"),
    hard_link("d/hard", "d/small"),
    Entry("zero-time", b"0", mtime=0),
    Entry("fifo", kind=tarfile.FIFOTYPE),
    Entry("dev", kind=tarfile.CHRTYPE),
]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(indexed, "_BLOCK_BYTES", CHUNK + 32 * 1024)
    monkeypatch.setattr(indexed, "_ENOUGH_BYTES", CHUNK // 2)


def build(compression: Compression, entries: list[Entry] = ENTRIES, **plan: Any) -> Made:
    settings = LayerPlan(compression=compression, root="/r", allow_devices=True, **plan)
    return make(make_tar_gz(entries), settings)


def gunzip_at(blob: bytes, offset: int) -> bytes:
    assert blob[offset : offset + 2] == b"\x1f\x8b"
    stream = zlib.decompressobj(31)
    return stream.decompress(blob[offset:])


def unzstd(frame: bytes) -> bytes:
    return subprocess.run(["zstd", "-dc"], input=frame, capture_output=True, check=True).stdout


def read_estargz(blob: bytes) -> tuple[dict[str, Any], int, str]:
    """The index, where it starts, and its digest, found through the footer."""
    footer = blob[-51:]
    assert gzip.decompress(footer) == b""
    assert (footer[:4], footer[10:16]) == (b"\x1f\x8b\x08\x04", struct.pack("<H2sH", 26, b"SG", 22))
    assert footer[32:38] == b"STARGZ"
    offset = int(footer[16:32], 16)
    with tarfile.open(fileobj=io.BytesIO(gunzip_at(blob, offset))) as tar:
        member = tar.next()
        assert member is not None
        assert member.name == "stargz.index.json"
        file = tar.extractfile(member)
        assert file is not None
        raw = file.read()
        assert tar.next() is None
    return json.loads(raw), offset, "sha256:" + hashlib.sha256(raw).hexdigest()


def files_of(entries: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Each file's entry with its chunks."""
    files: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry["type"] == "reg":
            files[entry["name"]] = [entry]
        elif entry["type"] == "chunk":
            files[entry["name"]].append(entry)
    return files


def test_estargz_by_the_letter() -> None:
    made = build(Compression.ESTARGZ)
    index, toc_offset, digest = read_estargz(made.blob)
    assert made.result.annotations == {
        "containerd.io/snapshot/stargz/toc.digest": digest,
        "io.containers.estargz.uncompressed-size": str(len(made.tar)),
    }
    assert index["version"] == 1
    contents = {name: made.read(name) for name, info in made.infos.items() if info.isreg()}
    for name, chunks in files_of(index["entries"]).items():
        content = contents[name]
        assert chunks[0].get("size", 0) == len(content)
        if not content:
            continue
        assert chunks[0]["digest"] == "sha256:" + hashlib.sha256(content).hexdigest()
        for number, chunk in enumerate(chunks):
            start = chunk.get("chunkOffset", 0)
            last = number == len(chunks) - 1
            assert ("chunkSize" in chunk) is not last
            part = content[start:] if last else content[start : start + chunk["chunkSize"]]
            assert gunzip_at(made.blob, chunk["offset"])[: len(part)] == part
            assert chunk["chunkDigest"] == "sha256:" + hashlib.sha256(part).hexdigest()
            assert chunk["offset"] < toc_offset
    assert len(files_of(index["entries"])["r/big"]) == 4
    assert len(files_of(index["entries"])["r/exact"]) == 2


def test_the_estargz_index_describes_every_entry_in_order() -> None:
    made = build(Compression.ESTARGZ)
    entries = [entry for entry in read_estargz(made.blob)[0]["entries"] if entry["type"] != "chunk"]
    names = [entry["name"].rstrip("/") for entry in entries]
    assert [*names, "stargz.index.json"] == made.names
    by_name = {entry["name"]: entry for entry in entries}
    small = by_name["r/d/small"]
    assert (small["mode"], small["uid"], small["gid"], small["userName"], small["groupName"]) == (
        0o644,
        7,
        8,
        "me",
        "us",
    )
    assert small["xattrs"] == {"user.k": base64.b64encode(b"v").decode()}
    assert small["modtime"] == "2023-11-14T22:13:20Z"
    assert by_name["r/d/"]["type"] == "dir"
    assert by_name["r/d/link"]["linkName"] == "small"
    assert by_name["r/d/hard"]["type"] == "hardlink"
    assert by_name["r/d/hard"]["linkName"] == "r/d/small"
    assert by_name["r/zero-time"]["modtime"] == "1970-01-01T00:00:00Z"
    assert "modtime" not in by_name[".no.prefetch.landmark"]
    assert (by_name["r/fifo"]["type"], by_name["r/dev"]["type"], by_name["r/dev"]["devMajor"]) == ("fifo", "char", 0)
    assert by_name["r/d/"]["userName"] == "root"
    assert "userName" not in by_name["r/exact"]  # carried on from the entry before with the same number


def test_no_prefetch_landmark_comes_where_nothing_is_prioritized() -> None:
    for prioritized in ((), ("/elsewhere/x",)):
        made = build(Compression.ESTARGZ, prioritized=prioritized)
        assert made.names[0] == ".no.prefetch.landmark"
        assert made.read(".no.prefetch.landmark") == b"\x0f"
        assert ".prefetch.landmark" not in made.names


def test_prioritized_files_come_first_in_the_asked_order_with_what_they_need() -> None:
    made = build(Compression.ESTARGZ, prioritized=("/r/big", "/r/d/hard", "/missing"))
    assert made.names[:5] == ["r/big", "r/d", "r/d/small", "r/d/hard", ".prefetch.landmark"]
    assert sorted(made.names) == sorted({*build(Compression.NONE).names, ".prefetch.landmark", "stargz.index.json"})
    assert made.read("r/big") == BIG
    index, _, _ = read_estargz(made.blob)
    landmark = next(entry for entry in index["entries"] if entry["name"] == ".prefetch.landmark")
    assert landmark["offset"] > max(chunk["offset"] for chunk in files_of(index["entries"])["r/big"])
    assert made.result.members == len(ENTRIES)


def test_a_prioritized_folder_takes_all_below() -> None:
    made = build(Compression.ESTARGZ, prioritized=("/r/d",))
    position = made.names.index(".prefetch.landmark")
    assert set(made.names[:position]) == {"r/d", "r/d/small", "r/d/empty", "r/d/link", "r/d/hard"}


def test_an_estargz_layer_made_again_keeps_one_index() -> None:
    first = build(Compression.ESTARGZ)
    again = make(
        first.blob, LayerPlan(compression=Compression.ESTARGZ, allow_devices=True, base_has_standard_dirs=False)
    )
    assert [name for name in again.names if "stargz" in name or "landmark" in name] == [
        ".no.prefetch.landmark",
        "stargz.index.json",
    ]
    assert len(again.names) == len(ENTRIES) + 2


def read_frames(blob: bytes, annotations: dict[str, str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The index and the tar-split entries, found through the annotations; the footer must say the same."""
    prefix = "io.github.containers.zstd-chunked."
    toc = [int(part) for part in annotations[prefix + "manifest-position"].split(":")]
    split = [int(part) for part in annotations[prefix + "tarsplit-position"].split(":")]
    assert blob[-72:-64] == b"\x50\x2a\x4d\x18" + (64).to_bytes(4, "little")
    assert [*struct.unpack("<7Q", blob[-64:-8]), blob[-8:]] == [*toc, *split, b"GNUlInUx"]
    packed = blob[toc[0] : toc[0] + toc[1]]
    assert annotations[prefix + "manifest-checksum"] == "sha256:" + hashlib.sha256(packed).hexdigest()
    raw = unzstd(packed)
    assert (len(raw), toc[3]) == (toc[2], 1)
    index = json.loads(raw)
    packed_split = blob[split[0] : split[0] + split[1]]
    assert index["tarSplitDigest"] == "sha256:" + hashlib.sha256(packed_split).hexdigest()
    raw_split = unzstd(packed_split)
    assert len(raw_split) == split[2]
    return index, [json.loads(line) for line in raw_split.splitlines()]


def test_zstd_chunked_by_the_letter() -> None:
    require_program("zstd")
    made = build(Compression.ZSTD_CHUNKED)
    index, _ = read_frames(made.blob, dict(made.result.annotations))
    for name, chunks in files_of(index["entries"]).items():
        content = made.read(name)
        if not content:
            continue
        first = chunks[0]
        assert first["digest"] == "sha256:" + hashlib.sha256(content).hexdigest()
        assert unzstd(made.blob[first["offset"] : first["endOffset"]]) == content
        ends = [*[chunk["offset"] for chunk in chunks[1:]], first["endOffset"]]
        for chunk, end in zip(chunks, ends, strict=True):
            part = unzstd(made.blob[chunk["offset"] : end])
            if len(chunks) > 1:
                start = chunk.get("chunkOffset", 0)
                assert part == content[start : start + chunk["chunkSize"]]
                assert chunk["chunkDigest"] == "sha256:" + hashlib.sha256(part).hexdigest()
    assert len(files_of(index["entries"])["r/big"]) == 4
    assert [entry["name"].rstrip("/") for entry in index["entries"] if entry["type"] != "chunk"] == made.names


def test_tar_split_makes_the_very_tar_again() -> None:
    require_program("zstd")
    made = build(Compression.ZSTD_CHUNKED)
    _, entries = read_frames(made.blob, dict(made.result.annotations))
    rebuilt = bytearray()
    for position, entry in enumerate(entries):
        assert entry["position"] == position
        payload = base64.b64decode(entry["payload"]) if entry["payload"] else b""
        if entry["type"] == 2:
            rebuilt += payload
        elif entry.get("size"):
            content = made.read(entry["name"])
            assert (len(content), crc64(content).to_bytes(8, "big")) == (entry["size"], payload)
            rebuilt += content
    assert bytes(rebuilt) == made.tar
    assert len([entry for entry in entries if entry["type"] == 1]) == len(ENTRIES)


def test_zstd_chunked_keeps_exact_times() -> None:
    entries = [Entry("a", b"x", mtime=MTIME + 0.5, pax={"atime": "1700000000.25", "ctime": "1600000000"})]
    made = build(Compression.ZSTD_CHUNKED, entries)
    (entry,) = read_frames(made.blob, dict(made.result.annotations))[0]["entries"]
    assert entry["modtime"] == "2023-11-14T22:13:20.5Z"
    assert entry["accesstime"] == "2023-11-14T22:13:20.25Z"
    assert entry["changetime"] == "2020-09-13T12:26:40Z"


@pytest.mark.parametrize("compression", [Compression.ESTARGZ, Compression.ZSTD_CHUNKED])
def test_neither_threads_nor_blocks_show(compression: Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [*ENTRIES, *[Entry(f"many/{number}", os.urandom(number * 7)) for number in range(300)]]
    first = build(compression, entries).blob
    monkeypatch.setattr(indexed, "_ENOUGH_BYTES", 1000)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert build(compression, entries).blob == first


@pytest.mark.parametrize("compression", [Compression.ESTARGZ, Compression.ZSTD_CHUNKED])
def test_an_empty_layer(compression: Compression) -> None:
    made = build(compression, [])
    assert made.result.members == 0
    assert [name for name in made.names if "stargz" not in name and "landmark" not in name] == []


@pytest.mark.parametrize("compression", [Compression.ESTARGZ, Compression.ZSTD_CHUNKED])
def test_names_that_json_cannot_hold_are_refused(compression: Compression) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    with pytest.raises(ArchiveError, match="not UTF-8"):
        make(make_tar([Entry(name, b"x")], tarfile.GNU_FORMAT), LayerPlan(compression=compression))


def test_crc64_is_that_of_the_catalogue() -> None:
    assert crc64(b"123456789") == 0xB90956C775A41001  # CRC-64/GO-ISO's check value
    assert crc64(b"") == 0


def test_crc64_may_be_continued_anywhere() -> None:
    data = os.urandom(50_000)
    for cut in (0, 1, 7, 8, 9, 1000, 49_999):
        assert crc64(data[cut:], crc64(data[:cut])) == crc64(data)


def test_times_in_the_index() -> None:
    assert format_time(1_566_297_043) == "2019-08-20T10:30:43Z"
    assert format_time(-1) == "1969-12-31T23:59:59Z"
    assert format_time(0) == "1970-01-01T00:00:00Z"
    assert format_time(None) == ""
    assert format_time(2**40) == ""
    assert format_time(-(2**40)) == ""


@pytest.mark.parametrize("native", [True, False])
def test_crc64_with_isal_and_without(monkeypatch: pytest.MonkeyPatch, *, native: bool) -> None:
    if not native:
        monkeypatch.setattr("kobuild.layers.crc64._find_native", lambda: None)
    assert crc64(b"123456789") == 0xB90956C775A41001
    for size in [*range(70), 16_384, 16_385, 65_543, 300_001]:
        data = os.urandom(size)
        assert crc64(memoryview(data), 3**40) == fold(data, 3**40)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300_000), st.sampled_from([1, 7, 255])), max_size=6), st.integers())
def test_what_was_compressed_before_does_not_show_in_a_frame(shapes: list[tuple[int, int]], seed: int) -> None:
    random = Random(seed)  # noqa: S311 - test data
    for size, spread in shapes:
        data = random.randbytes(size).translate(bytes(byte % spread for byte in range(256)))
        fresh: Any = compressing.open_zstd(threads=0)
        assert compressing.zstd_frame(data) == fresh.compress(data, fresh.FLUSH_FRAME)
