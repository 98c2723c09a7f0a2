"""Every dialect of tar, packed by the standard library, by GNU tar, and by hand."""

from __future__ import annotations

import gzip
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from kobuild.errors import ArchiveError, LimitExceeded, TruncatedArchive, UnsafeMember
from kobuild.layers.members import REGULAR, Member
from kobuild.layers.pax import format_records, parse_records
from kobuild.layers.plan import LayerPlan
from kobuild.layers.tarheader import encode_header, padding
from kobuild.oci.mediatypes import Compression
from tests.support.archives import MTIME, Entry, Made, folder, hard_link, make, make_tar, symlink
from tests.support.programs import require_program

MOVED = LayerPlan(root="/r", compression=Compression.NONE)
LONG = "/".join(["directory-with-a-long-name"] * 12)


def move(tar: bytes) -> Made:
    return make(gzip.compress(tar), MOVED)


def raw_member(kind: bytes, name: bytes = b"x", content: bytes = b"", size: int | None = None) -> bytes:
    """A header block of any kind with its content, as another writer might have made it."""
    header = bytearray(encode_header(Member(name, REGULAR, 0o644, len(content) if size is None else size, MTIME)))
    header[156:157] = kind
    return fix_checksum(header) + content + bytes(padding(len(content)))


def fix_checksum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_field_survives(tar_format: int) -> None:
    entry = Entry("d/file", b"content", mode=0o4751, uid=1234, gid=567, uname="somebody", gname="some-group")
    entries = [folder("d", 0o1777), entry, symlink("d/s", "../t"), hard_link("d/h", "d/file")]
    infos = move(make_tar(entries, tar_format)).infos
    info = infos["r/d/file"]
    assert (info.mode, info.uid, info.gid, info.uname, info.gname) == (0o4751, 1234, 567, "somebody", "some-group")
    assert (info.mtime, info.size) == (MTIME, 7)
    assert infos["r/d"].mode == 0o1777
    assert infos["r/d/s"].linkname == "../t"
    assert infos["r/d/h"].linkname == "r/d/file"


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_long_links(tar_format: int) -> None:
    entries = [Entry(f"{LONG}/file", b"x"), symlink("s", LONG), hard_link("h", f"{LONG}/file")]
    made = move(make_tar(entries, tar_format))
    assert made.names == [f"r/{LONG}/file", "r/s", "r/h"]
    assert made.infos["r/s"].linkname == LONG
    assert made.infos["r/h"].linkname == f"r/{LONG}/file"


def test_short_names_need_no_pax_header() -> None:
    name = "a" * 80 + "/" + "b" * 90
    made = move(make_tar([Entry(name, b"x")], tarfile.GNU_FORMAT))
    assert made.names == ["r/" + name]
    assert len(made.tar) == 4 * 512  # one header, one content block, the end


@pytest.mark.parametrize("length", [99, 100, 101, 154, 155, 156, 255, 256, 257, 300])
def test_names_around_the_fields_limits(length: int) -> None:
    for name in ("n" * length, "d/" + "n" * (length - 2), "n" * (length - 2) + "/f", "p" * 60 + "/" + "n" * length):
        assert move(make_tar([Entry(name, b"x")], tarfile.GNU_FORMAT)).names == [f"r/{name}"]
        assert move(make_tar([folder(name)], tarfile.PAX_FORMAT)).names == [f"r/{name}"]


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_numbers_beyond_octal(tar_format: int) -> None:
    entries = [Entry("big-ids", uid=3_000_000_000, gid=2**31), Entry("old", mtime=-5), Entry("late", mtime=2**36)]
    infos = move(make_tar(entries, tar_format)).infos
    assert (infos["r/big-ids"].uid, infos["r/big-ids"].gid) == (3_000_000_000, 2**31)
    assert infos["r/old"].mtime == -5
    assert infos["r/late"].mtime == 2**36


def test_fractions_of_a_second_are_kept() -> None:
    made = move(make_tar([Entry("a", mtime=MTIME + 0.25), Entry("b", mtime=MTIME)]))
    assert made.infos["r/a"].mtime == MTIME + 0.25
    assert made.infos["r/b"].mtime == MTIME
    assert made.result.newest_mtime == MTIME


def test_extended_attributes_are_kept() -> None:
    records = {"SCHILY.xattr.security.capability": "\x01\x02", "comment": "kept"}
    made = move(make_tar([Entry("ping", b"x", pax=records), Entry("plain")]))
    assert made.infos["r/ping"].pax_headers == records
    assert made.infos["r/plain"].pax_headers == {}


def test_global_headers_are_applied_and_dropped() -> None:
    records = {"comment": "a commit", "uname": "everybody", "SCHILY.xattr.user.a": "1"}
    made = move(make_tar([Entry("a", uname=""), Entry("b", pax={"uname": "me"})], pax_globals=records))
    assert [info.uname for info in made.infos.values()] == ["everybody", "me"]
    assert made.infos["r/a"].pax_headers == {"SCHILY.xattr.user.a": "1"}
    with made.open() as tar:
        assert tar.pax_headers == {}


def test_long_user_names_need_pax() -> None:
    made = move(make_tar([Entry("a", uname="u" * 40, gname="g" * 32)]))
    assert (made.infos["r/a"].uname, made.infos["r/a"].gname) == ("u" * 40, "g" * 32)


def test_v7_headers() -> None:
    header = bytearray(encode_header(Member(b"dir/", REGULAR, 0o755, 0, MTIME)))
    header[257:512] = bytes(255)
    header[156:157] = b"\0"
    file = bytearray(raw_member(b"\0", b"dir/f", b"hello")[:512])
    file[257:512] = bytes(255)
    tar = fix_checksum(header) + fix_checksum(file) + b"hello" + bytes(507 + 1024)
    made = move(tar)
    assert made.infos["r/dir"].isdir()
    assert made.read("r/dir/f") == b"hello"


def test_signed_checksums_of_old_writers() -> None:
    header = bytearray(encode_header(Member("\u00e9".encode(), REGULAR, 0o644, 0, MTIME)))
    header[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in header)
    header[148:156] = b"%06o\0 " % signed
    assert move(bytes(header) + bytes(1024)).names == ["r/\u00e9"]


@pytest.mark.parametrize("kind", [b"M", b"D", b"A", b"Z"])
def test_unknown_kinds_are_refused(kind: bytes) -> None:
    with pytest.raises(ArchiveError, match="unknown kind"):
        move(raw_member(kind) + bytes(1024))


def test_volume_labels_are_passed_over() -> None:
    assert move(raw_member(b"V", b"label") + raw_member(b"0", b"a") + bytes(1024)).names == ["r/a"]


def test_sizes_of_links_and_directories_are_not_believed() -> None:
    tar = raw_member(b"5", b"d", size=512) + raw_member(b"0", b"d/f", b"x") + bytes(1024)
    assert move(tar).names == ["r/d", "r/d/f"]


def test_a_name_with_nul_is_refused() -> None:
    long_name = raw_member(b"L", b"././@LongLink", b"a\0b/c\0") + raw_member(b"0")
    pax = raw_member(b"x", b"pax", format_records([(b"path", b"a\0b")])) + raw_member(b"0")
    link = raw_member(b"x", b"pax", format_records([(b"linkpath", b"a\0b")])) + raw_member(b"2")
    for tar in (long_name, pax, link):
        with pytest.raises(UnsafeMember, match="NUL"):
            move(tar + bytes(1024))


@pytest.mark.parametrize(
    "content",
    [
        b"10 path=a",
        b"99 path=a\n",
        b"x path=a\n",
        b"9 patha\n",
        b"7 =abc\n",
        b"-9 path=a\n",
        b"3 \n",
        b"0 a=b\n",
        b"9 path=a\n9path=a\n",
    ],
)
def test_malformed_pax_records(content: bytes) -> None:
    with pytest.raises(ArchiveError, match="pax record"):
        move(raw_member(b"x", b"pax", content) + raw_member(b"0") + bytes(1024))


@pytest.mark.parametrize("record", [(b"size", b"-1"), (b"size", b"1e3"), (b"uid", b"0x1"), (b"mtime", b"now")])
def test_pax_values_that_are_no_numbers(record: tuple[bytes, bytes]) -> None:
    with pytest.raises(ArchiveError, match="is not a"):
        move(raw_member(b"x", b"pax", format_records([record])) + raw_member(b"0") + bytes(1024))


def test_pax_lengths_count_themselves() -> None:
    for length in (1, 5, 6, 7, 90, 91, 92, 93, 94, 95, 96, 990, 991, 9987):
        record = (b"k", b"v" * length)
        assert parse_records(format_records([record, record]), "test") == [record, record]


def test_numbers_with_underscores_or_prefixes_are_lies() -> None:
    for field in (b"0o17\0", b"1_00\0", b"-1\0", b"+7\0", b"89\0"):
        header = bytearray(raw_member(b"0"))
        header[124:136] = field.ljust(12, b"\0")
        with pytest.raises(ArchiveError, match="octal"):
            move(fix_checksum(header) + bytes(1024))


def test_a_negative_size_is_a_lie() -> None:
    header = bytearray(raw_member(b"0"))
    header[124:136] = b"\xff" * 12
    with pytest.raises(ArchiveError, match="negative"):
        move(fix_checksum(header) + bytes(1024))


def test_a_size_beyond_the_archive_is_truncation() -> None:
    with pytest.raises(TruncatedArchive, match="'x'"):
        move(raw_member(b"0", b"x", b"abc", size=10**9) + bytes(1024))


def test_huge_extended_headers_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="extended header"):
        move(raw_member(b"x", b"pax", b"", size=2**30) + bytes(1024))


@pytest.mark.parametrize("kind", [b"x", b"X", b"L", b"K"])
def test_an_extended_header_that_says_nothing_needs_its_member_too(kind: bytes) -> None:
    with pytest.raises(TruncatedArchive, match="after an extended header"):
        move(raw_member(kind, b"pax", bytes(43)) + bytes(1024))


def test_an_extended_header_needs_its_member() -> None:
    for kind in (b"x", b"L", b"K"):
        lone = raw_member(kind, b"pax", b"12 path=abc\n")
        with pytest.raises(TruncatedArchive):
            move(lone + bytes(1024))
        with pytest.raises(TruncatedArchive):
            move(lone)


def test_a_plain_tar_cut_anywhere_is_an_error() -> None:
    tar = make_tar([Entry(f"{LONG}/{number}", b"x" * 700) for number in range(4)])
    end = len(tar.rstrip(b"\0")) // 512 * 512 + 512
    for length in [*range(1, end + 1, 512), *range(512, end + 1, 512)]:
        with pytest.raises(TruncatedArchive):
            make(tar[:length], MOVED)
    assert len(make(tar[: end + 512], MOVED).names) == 4


def test_every_damaged_header_is_found() -> None:
    tar = make_tar([Entry("a", b"x"), Entry("b", b"y")])
    for position in (1024, 1024 + 150, 1024 + 300):
        bad = bytearray(tar)
        bad[position] ^= 0x40
        with pytest.raises(ArchiveError, match="checksum of the header after 'a'"):
            move(bytes(bad))


def test_data_after_the_end_is_an_error() -> None:
    tar = make_tar([Entry("a", b"x")])
    with pytest.raises(ArchiveError, match="after the end"):
        move(tar + tar)
    with pytest.raises(ArchiveError, match="after the end"):
        make(tar + b"\1", MOVED)
    assert move(tar + bytes(100_000)).names == ["r/a"]


def _sparse_file(path: Path) -> bytes:
    with path.open("wb") as file:
        for offset, data in ((0, b"start"), (300_000, b"middle" * 1000), (900_000, b"x")):
            file.seek(offset)
            file.write(data)
        file.truncate(2_000_000)
    return path.read_bytes()


@pytest.mark.parametrize(
    "options", [["--format=gnu"], *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))]
)
@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])
def test_sparse_files_are_expanded(tmp_path: Path, options: list[str], compression: Compression) -> None:
    require_program("tar")
    content = _sparse_file(tmp_path / "sparse")
    (tmp_path / "after").write_bytes(b"after")
    command = ["tar", "-C", str(tmp_path), *options, "-S", "-cf", "-", "sparse", "after"]
    tar = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(tar) < 500_000, "GNU tar found no holes"
    for plan in (LayerPlan(root="/r", compression=compression), LayerPlan(compression=compression)):
        made = make(gzip.compress(tar), plan)
        prefix = "r/" if plan.root == "/r" else ""
        assert made.read(prefix + "sparse") == content
        assert made.read(prefix + "after") == b"after"
        assert not made.infos[prefix + "sparse"].issparse()


def test_many_holes_need_more_header_blocks(tmp_path: Path) -> None:
    require_program("tar")
    path = tmp_path / "holes"
    with path.open("wb") as file:
        for number in range(60):
            file.seek(number * 20_000)
            file.write(b"%d" % number)
    for options in (["--format=gnu"], ["--format=pax", "--sparse-version=1.0"]):
        command = ["tar", "-C", str(tmp_path), *options, "-S", "-cf", "-", "holes"]
        tar = subprocess.run(command, check=True, capture_output=True).stdout
        assert move(tar).read("r/holes") == path.read_bytes()


@pytest.mark.parametrize(
    "records",
    [
        [(b"GNU.sparse.map", b"5,1,0,1"), (b"GNU.sparse.size", b"10")],
        [(b"GNU.sparse.map", b"0,1,20,1"), (b"GNU.sparse.size", b"10")],
        [(b"GNU.sparse.map", b"0,1"), (b"GNU.sparse.size", b"10")],
        [(b"GNU.sparse.map", b"0,1,2"), (b"GNU.sparse.size", b"10")],
        [(b"GNU.sparse.map", b"a,b"), (b"GNU.sparse.size", b"10")],
        [(b"GNU.sparse.map", b"0,2")],
        [(b"GNU.sparse.major", b"7"), (b"GNU.sparse.size", b"10")],
        [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"10")],
    ],
)
def test_sparse_maps_that_lie(records: list[tuple[bytes, bytes]]) -> None:
    tar = raw_member(b"x", b"pax", format_records(records)) + raw_member(b"0", b"s", b"ab") + bytes(1024)
    with pytest.raises(ArchiveError):
        move(tar)


def test_a_sparse_bomb_meets_the_limit() -> None:
    records = [(b"GNU.sparse.map", b"0,2"), (b"GNU.sparse.size", b"%d" % 2**62)]
    tar = raw_member(b"x", b"pax", format_records(records)) + raw_member(b"0", b"s", b"ab") + bytes(1024)
    with pytest.raises(LimitExceeded, match="'s'"):
        move(tar)


def test_gnu_tar_reads_what_is_written() -> None:
    program = require_program("tar")
    entries = [
        Entry(f"{LONG}/file", b"x" * 3000, mode=0o640, mtime=MTIME + 0.5),
        symlink("link", LONG),
        hard_link("hard", f"{LONG}/file"),
        Entry("late", mtime=2**35, uid=5_000_000, gname="g" * 40),
    ]
    tar = move(make_tar(entries)).tar
    command = [program, "--list", "--verbose", "--numeric-owner", "--utc", "--quoting-style=literal", "-f", "-"]
    listing = subprocess.run(command, input=tar, check=True, capture_output=True, env={**os.environ, "LC_ALL": "C"})
    lines = listing.stdout.decode().splitlines()
    assert listing.stderr == b""
    assert lines[0].startswith("-rw-r----- 0/0")
    assert lines[0].endswith(f"r/{LONG}/file")
    assert lines[1].endswith(f"r/link -> {LONG}")
    assert lines[2].endswith(f"r/hard link to r/{LONG}/file")
    assert "5000000/0" in lines[3]


def test_what_was_made_can_be_made_again() -> None:
    entries = [folder(LONG), Entry(f"{LONG}/f", b"x" * 600, pax={"SCHILY.xattr.user.x": "y"}), symlink("s", LONG)]
    once = move(make_tar(entries)).tar
    again = make(once, LayerPlan(root="/r", strip=1, compression=Compression.NONE)).tar
    assert again == once
