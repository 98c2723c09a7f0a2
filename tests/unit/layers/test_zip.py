from __future__ import annotations

import io
import os
import random
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from kobuild.decompress import decompressors
from kobuild.errors import ArchiveError, LimitExceeded, MissingMember, UnsafeMember
from kobuild.layers import compressing
from kobuild.layers.plan import LayerPlan, Limits
from kobuild.layers.zipdirectory import read_directory
from kobuild.oci.mediatypes import Compression
from tests.support.archives import Made, MemoryInput, make, make_zip
from tests.support.programs import require_program

REG = stat.S_IFREG
UNPACK = LayerPlan(root="/r", compression=Compression.NONE)


def unpack(data: bytes, folder: Path, plan: LayerPlan = UNPACK, name: str = "tool.zip") -> Made:
    return make(MemoryInput(data, name, folder), plan)


MEMBERS: list[tuple[str, bytes, int | None]] = [
    ("tool/", b"", stat.S_IFDIR | 0o750),
    ("tool/run", b"#!/bin/sh\n", REG | 0o755),
    ("tool/data", b"data" * 100_000, REG | 0o600),
    ("tool/link", b"data", stat.S_IFLNK | 0o777),
    ("tool/empty", b"", REG | 0o644),
]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("isal", [True, False])
def test_members_of_unix_zips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: int, *, isal: bool) -> None:
    for module in (compressing, decompressors):
        monkeypatch.setattr(module, "HAVE_ISAL", isal and module.HAVE_ISAL)
    made = unpack(make_zip(MEMBERS, method), tmp_path)
    infos = made.infos
    assert made.names == ["r/tool", "r/tool/run", "r/tool/data", "r/tool/link", "r/tool/empty"]
    assert [info.mode for info in infos.values()] == [0o750, 0o755, 0o600, 0o777, 0o644]
    assert infos["r/tool/link"].linkname == "data"
    assert made.read("r/tool/data") == b"data" * 100_000
    assert {info.mtime for info in infos.values()} == {1714979290}  # 2024-05-06 07:08:10 UTC
    assert {(info.uid, info.gid, info.uname) for info in infos.values()} == {(0, 0, "")}
    assert made.result.newest_mtime == 1714979290


def test_modes_of_dos_zips_come_from_the_content(tmp_path: Path) -> None:
    members = [
        ("elf", b"\x7fELF" + bytes(50), None),
        ("script", b"#!/usr/bin/env python3\n", None),
        ("mach-o", b"\xcf\xfa\xed\xfe" + bytes(50), None),
        ("text", b"text", None),
        ("dir/", b"", None),
    ]
    modes = [info.mode for info in unpack(make_zip(members), tmp_path).infos.values()]
    assert modes == [0o755, 0o755, 0o755, 0o644, 0o755]


def test_a_unix_zip_without_modes(tmp_path: Path) -> None:
    infos = unpack(make_zip([("a", b"\x7fELF", REG), ("b", b"text", REG)]), tmp_path).infos
    assert [info.mode for info in infos.values()] == [0o755, 0o644]


def test_backslashes_of_dos_zips_are_slashes(tmp_path: Path) -> None:
    data = make_zip([("dirXfile", b"x", None)]).replace(b"dirXfile", b"dir\\file")
    assert unpack(data, tmp_path).names == ["r/dir/file"]
    climbing = make_zip([("..Xfile", b"x", None)]).replace(b"..Xfile", b"..\\file")
    with pytest.raises(UnsafeMember):
        unpack(climbing, tmp_path)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
def test_unsafe_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeMember):
        unpack(make_zip([(name, b"x", REG | 0o644)]), tmp_path)


def test_only_and_strip(tmp_path: Path) -> None:
    made = unpack(make_zip(MEMBERS), tmp_path, LayerPlan(only=("tool/r*",), strip=1, compression=Compression.NONE))
    assert made.names == ["run"]
    with pytest.raises(MissingMember):
        unpack(make_zip(MEMBERS), tmp_path, LayerPlan(only=("ko",)))


def test_data_descriptors_and_zip64(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        """A sink that cannot seek: zipfile then writes data descriptors."""

        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(data)  # type: ignore[arg-type]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, force in (("a", False), ("b", True)):
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=force) as file:
                file.write(name.encode() * 5000)
    made = unpack(bytes(pipe.data), tmp_path)
    assert made.read("r/a") == b"a" * 5000
    assert made.read("r/b") == b"b" * 5000


def test_more_members_than_zip_without_64_can_count(tmp_path: Path) -> None:
    data = make_zip([(f"d/{number}", b"", REG | 0o644) for number in range(66_000)], zipfile.ZIP_STORED)
    assert unpack(data, tmp_path).result.members == 66_000


def test_bytes_before_the_zip_are_allowed_and_after_it_are_not(tmp_path: Path) -> None:
    data = make_zip(MEMBERS)
    shifted = io.BytesIO(b"stub" * 100 + data)
    assert next(read_directory(shifted, "x")).offset == 400
    with pytest.raises(ArchiveError, match="after the end"):
        unpack(data + b"garbage", tmp_path)


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    data = bytearray(make_zip([("secret", b"x", REG | 0o644)]))
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ArchiveError, match="encrypted"):
        unpack(bytes(data), tmp_path)


def test_unknown_methods_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="method 12"):
        unpack(make_zip([("a", b"x", REG | 0o644)], zipfile.ZIP_BZIP2), tmp_path)


def test_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="device"):
        unpack(make_zip([("a", b"", stat.S_IFCHR | 0o644)]), tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_sums_and_sizes_that_lie(tmp_path: Path, method: int) -> None:
    content = random.Random(1).randbytes(5000)  # noqa: S311 - any bytes that deflate cannot shrink
    good = make_zip([("a", content, REG | 0o644)], method)
    directory = good.rfind(b"PK\x01\x02")
    for offset, what in ((16, "checksum"), (24, "size"), (20, "size|ends|cut|damaged|checksum|outside")):
        bad = bytearray(good)
        bad[directory + offset] ^= 1
        with pytest.raises(ArchiveError, match=what):
            unpack(bytes(bad), tmp_path)
    for position in (60, 2000, 4000):
        bad = bytearray(good)
        bad[position] ^= 0x10
        with pytest.raises(ArchiveError):
            unpack(bytes(bad), tmp_path)


def test_a_zip_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    data = make_zip(MEMBERS)
    for length in range(4, len(data), 37):
        with pytest.raises(ArchiveError):
            unpack(data[:length], tmp_path)


def test_bombs_meet_the_limits(tmp_path: Path) -> None:
    data = make_zip([(f"zeros-{number}", bytes(1_000_000), REG | 0o644) for number in range(5)])
    for limits in (Limits(members=3), Limits(total_bytes=3_000_000), Limits(ratio=100, ratio_grace_bytes=2_000_000)):
        with pytest.raises(LimitExceeded, match=r"zeros-[234]"):
            unpack(data, tmp_path, LayerPlan(limits=limits))


def test_an_empty_zip(tmp_path: Path) -> None:
    assert unpack(make_zip([]), tmp_path).result.members == 0


def test_a_jar_is_one_file(tmp_path: Path) -> None:
    data = make_zip(MEMBERS)
    made = unpack(data, tmp_path, LayerPlan(rename="app.jar", compression=Compression.NONE), "app-1.2.jar")
    assert made.read("app.jar") == data


def test_what_info_zip_packs(tmp_path: Path) -> None:
    program = require_program("zip")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "run").write_bytes(os.urandom(300_000))
    (tree / "run").chmod(0o751)
    (tree / "link").symlink_to("run")
    (tree / "caf\u00e9").write_text("x")
    subprocess.run([program, "-qry", "../t.zip", "run", "link", "caf\u00e9"], cwd=tree, check=True)
    made = unpack((tmp_path / "t.zip").read_bytes(), tmp_path)
    assert made.names == ["r/run", "r/link", "r/caf\u00e9"]
    assert made.read("r/run") == (tree / "run").read_bytes()
    assert made.infos["r/run"].mode == 0o751
    assert made.infos["r/link"].linkname == "run"
