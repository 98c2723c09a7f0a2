"""The cache: verified content by digest, records by key, and nothing half-made."""

from __future__ import annotations

import threading
from pathlib import Path

import platformdirs
import pytest

from kobuild.errors import StorageError
from kobuild.oci.digest import Digest
from kobuild.store.cache import Cache, default_cache_dir

DATA = b"some content"


def put(cache: Cache, data: bytes = DATA) -> Digest:
    with cache.new_blob() as blob:
        blob.write(data)
    return blob.digest


def test_a_blob_is_found_by_its_digest(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.find_blob(Digest.of(DATA)) is None
    assert put(cache) == Digest.of(DATA)
    path = cache.find_blob(Digest.of(DATA), len(DATA))
    assert path is not None
    assert path.read_bytes() == DATA
    assert put(cache) == Digest.of(DATA)
    cache.drop_blob(Digest.of(DATA))
    cache.drop_blob(Digest.of(DATA))
    assert cache.find_blob(Digest.of(DATA)) is None


def test_a_blob_of_another_size_is_forgotten(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    digest = put(cache)
    cache.blob_path(digest).write_bytes(DATA[:-1])
    assert cache.find_blob(digest, len(DATA)) is None
    assert not cache.blob_path(digest).exists()


def fail(cache: Cache) -> None:
    with cache.new_blob() as blob:
        blob.write(DATA)
        raise KeyboardInterrupt


def test_a_blob_that_was_not_finished_never_appears(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fail(cache)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_many_may_write_the_same(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    threads = [threading.Thread(target=put, args=(cache,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [cache.blob_path(Digest.of(DATA))]


def test_adopted_files_move(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    partial = cache.partial_path("x")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA)
    path = cache.adopt(partial, Digest.of(DATA))
    assert path == cache.find_blob(Digest.of(DATA))
    assert not partial.exists()


def test_records_are_kept_by_kind_and_key(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.read_record("layers", "a") is None
    cache.write_record("layers", "a", {"x": [1, "é"]})
    assert cache.read_record("layers", "a") == {"x": [1, "é"]}
    assert cache.read_record("answers", "a") is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_broken_record_is_none(tmp_path: Path, data: bytes) -> None:
    cache = Cache(tmp_path)
    cache.write_record("layers", "a", {})
    [path] = tmp_path.rglob("a.json")
    path.write_bytes(data)
    assert cache.read_record("layers", "a") is None


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / "file" / "cache")
    assert cache.find_blob(Digest.of(DATA)) is None
    assert cache.read_record("layers", "a") is None
    with pytest.raises(StorageError):
        put(cache)
    with pytest.raises(StorageError):
        cache.write_record("layers", "a", {})


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KOBUILD_CACHE_DIR", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOBUILD_CACHE_DIR", "here")
    assert default_cache_dir() == tmp_path / "here"
    monkeypatch.delenv("KOBUILD_CACHE_DIR")
    assert default_cache_dir() == platformdirs.user_cache_path("kobuild")
