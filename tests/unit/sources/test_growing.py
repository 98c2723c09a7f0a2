"""A file between its writer and its readers, with no network and no time in between."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kobuild.errors import FetchError
from kobuild.sources.growing import GrowingFile


def test_readers_get_what_there_is_and_the_end_after_the_verdict(tmp_path: Path) -> None:
    growing, path = GrowingFile(), tmp_path / "partial"
    path.write_bytes(b"0123456789")
    growing.grow(path, 4)
    with growing.open() as stream:
        assert stream.read(0) == b""
        assert stream.read(100) == b"0123"
        growing.grow(path, 10)
        assert stream.read(100) == b"456789"
        assert not growing.is_over()
        growing.settle(lambda: path.rename(tmp_path / "blob"))
        assert stream.read(100) == b""
    assert growing.is_over()
    assert growing.wait() == tmp_path / "blob"


def test_an_empty_file_has_an_end(tmp_path: Path) -> None:
    growing, path = GrowingFile(), tmp_path / "empty"
    path.touch()
    growing.settle(lambda: path)
    with growing.open() as stream:
        assert stream.read() == b""


def test_a_failure_reaches_all_who_wait(tmp_path: Path) -> None:
    growing = GrowingFile()
    found: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(FetchError) as raised:
            growing.wait()
        found.append(raised.value)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    error = FetchError("broken")
    growing.fail(error)
    for thread in threads:
        thread.join()
    assert found == [error] * 3
    growing.settle(lambda: tmp_path)
    with pytest.raises(FetchError):
        growing.wait()


def test_a_failure_after_the_verdict_changes_nothing(tmp_path: Path) -> None:
    growing, path = GrowingFile(), tmp_path / "blob"
    path.write_bytes(b"x")
    growing.settle(lambda: path)
    growing.fail(FetchError("too late"))
    assert growing.wait() == path


def test_a_file_thrown_away_before_it_was_opened_tells_why(tmp_path: Path) -> None:
    growing = GrowingFile()
    growing.grow(tmp_path / "gone", 4)
    timer = threading.Timer(0.01, growing.fail, [FetchError("the sum is wrong")])
    timer.start()
    with pytest.raises(FetchError, match="the sum is wrong"), growing.open():
        pass
    timer.join()
