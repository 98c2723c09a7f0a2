"""Bytes in motion: bounded, verified, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import threading
from pathlib import Path

import pytest

from kobuild.errors import DigestMismatch, SizeMismatch, StorageError
from kobuild.oci.digest import Digest
from kobuild.streams import (
    HashingWriter,
    StoppedError,
    VerifyingReader,
    atomic_file,
    atomic_write,
    copy,
    disk_errors,
    read_bounded,
    stoppable,
)

DATA = b"0123456789" * 1000


class Trickle:
    """Hands out few bytes at once, and remembers how much it was asked for in all."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)
        self.handed = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self.file.read(min(size, 999) if size >= 0 else -1)
        self.handed += len(data)
        return data


def reader(data: bytes, size: int | None = len(DATA)) -> VerifyingReader:
    return VerifyingReader(Trickle(data), digest=Digest.of(DATA), size=size, place="here")


@pytest.mark.parametrize("size", [None, len(DATA)])
@pytest.mark.parametrize("step", [-1, 1, 1000, 100_000])
def test_right_bytes_pass(size: int | None, step: int) -> None:
    source, parts = reader(DATA, size), []
    while part := source.read(step):
        parts.append(part)
    assert b"".join(parts) == DATA
    assert source.read(step) == b""
    assert source.read() == b""


def test_the_last_bytes_are_held_back_until_they_are_known_to_be_right() -> None:
    wrong, sink = DATA[:-1] + b"x", io.BytesIO()
    with pytest.raises(DigestMismatch, match=f"here: expected {Digest.of(DATA)}, got {Digest.of(wrong)}"):
        copy(reader(wrong), sink)
    assert sink.tell() < len(DATA)


def test_after_a_failure_there_is_no_quiet_end() -> None:
    for data in (DATA[:-1], DATA[:-1] + b"x", DATA + b"x"):
        source = reader(data)
        for _ in range(2):
            with pytest.raises((DigestMismatch, SizeMismatch)):
                source.read()


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_too_few_bytes_are_an_error(size: int | None) -> None:
    with pytest.raises((SizeMismatch, DigestMismatch)):
        reader(DATA[:-1], size).read()


def test_one_byte_too_many_ends_it_at_once() -> None:
    source = Trickle(DATA + b"x" * 10_000_000)
    with pytest.raises(SizeMismatch, match="expected 10000 bytes"):
        copy(VerifyingReader(source, digest=Digest.of(DATA), size=len(DATA), place="here"), io.BytesIO())
    assert source.handed < len(DATA) + 1000


def test_reading_all_is_bounded_too() -> None:
    source = Trickle(DATA + b"x" * 10_000_000)
    with pytest.raises(SizeMismatch):
        VerifyingReader(source, digest=Digest.of(DATA), size=len(DATA), place="here").read()
    assert source.handed < len(DATA) + 1000


def test_nothing_is_something_that_can_be_verified() -> None:
    empty = VerifyingReader(io.BytesIO(), digest=Digest.of(b""), size=0, place="here")
    assert empty.read() == b""
    with pytest.raises(SizeMismatch):
        VerifyingReader(io.BytesIO(b"x"), digest=Digest.of(b""), size=0, place="here").read(10)


def test_what_is_written_is_hashed_and_counted() -> None:
    sink = io.BytesIO()
    writer = HashingWriter(sink)
    assert copy(io.BytesIO(DATA), writer) == len(DATA)
    assert (writer.size, writer.digest, sink.getvalue()) == (len(DATA), Digest.of(DATA), DATA)
    assert HashingWriter(None).write(memoryview(DATA)) == len(DATA)


def test_reading_can_be_stopped() -> None:
    stopped = threading.Event()
    with stoppable(contextlib.nullcontext(Trickle(DATA)), stopped) as source:
        assert source.read(10) == DATA[:10]
        stopped.set()
        with pytest.raises(StoppedError):
            source.read(10)


def test_bounded_reading_stops_at_its_bound() -> None:
    assert read_bounded(Trickle(DATA), len(DATA), "here") == DATA
    source = Trickle(DATA)
    with pytest.raises(SizeMismatch, match="here"):
        read_bounded(source, 500, "here")
    assert source.handed == 501


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    with atomic_file(path) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" whole")
    assert path.read_bytes() == b"half whole"
    assert stat.S_IMODE(path.stat().st_mode) & 0o700 == 0o600
    atomic_write(path, b"other")
    assert path.read_bytes() == b"other"
    assert [item.name for item in path.parent.iterdir()] == ["file"]


def write_and_fail(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(path)
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "who owns"), (errno.EIO, None)]
)
def test_the_disks_errors_are_named(number: int, hint: str | None) -> None:
    with pytest.raises(StorageError, match="write /x: ") as caught, disk_errors("write", Path("/x")):
        raise OSError(number, os.strerror(number))
    assert caught.value.hint is None if hint is None else hint in str(caught.value.hint)


def test_errors_without_a_number_are_not_the_disks() -> None:
    with pytest.raises(OSError, match="odd"), disk_errors("write", Path("/x")):
        raise OSError("odd")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full, whose writes fail for lack of space")
def test_a_full_disk_is_said_to_be_full() -> None:
    with pytest.raises(StorageError, match="No space left"), disk_errors("write", Path("/dev/full")):
        Path("/dev/full").write_bytes(b"x")


def test_a_file_in_a_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="write"):
        atomic_write(tmp_path / "file" / "below", b"x")
