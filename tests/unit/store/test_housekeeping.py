"""Looking after the cache: kinds, the order of pruning, what running processes hold, what dead ones left."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from kobuild.errors import LostEntry
from kobuild.oci.digest import Digest
from kobuild.store.cache import Cache, try_lock
from kobuild.store.housekeeping import Kind, find_damaged, prune, survey
from kobuild.streams import StoppedError

NOW = 1_790_000_000
DAY = 86400


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def put(cache: Cache, data: bytes, *, used: int = NOW) -> Path:
    with cache.new_blob() as blob:
        blob.write(data)
    return at(cache.blob_path(blob.digest), used)


def put_layer(cache: Cache, data: bytes, *, used: int = NOW) -> tuple[Path, Path]:
    path = put(cache, data, used=used)
    cache.write_record("layers", f"recipe-of-{path.name[:8]}", {"digest": f"sha256:{path.name}"})
    return path, at(cache.root / "records" / "layers" / f"recipe-of-{path.name[:8]}.json", used)


def at(path: Path, used: int) -> Path:
    os.utime(path, (used, used))
    return path


def partial(cache: Cache, name: str, *, used: int = NOW) -> Path:
    path = cache.partial_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"1234")
    return at(path, used)


def names(files: object) -> set[str]:
    return {file.path.name for file in files}  # type: ignore[attr-defined]


def test_an_empty_cache_is_nothing(cache: Cache) -> None:
    assert survey(cache) == []
    assert prune(cache, everything=True).removed == ()
    assert list(find_damaged(cache)) == []
    assert not cache.root.exists()


def test_files_have_their_kinds(cache: Cache) -> None:
    download = put(cache, b"download")
    layer, record = put_layer(cache, b"layer")
    base = put(cache, b"base")
    cache.note_base_blob(Digest.of(b"base"))
    cache.note_base_blob(Digest.of(b"base"))
    under_way = partial(cache, "abc")
    kinds = {file.path: file.kind for file in survey(cache)}
    assert (kinds[download], kinds[layer], kinds[base]) == (Kind.DOWNLOAD, Kind.LAYER, Kind.BASE)
    assert (kinds[record], kinds[under_way]) == (Kind.RECORD, Kind.PARTIAL)
    assert len(kinds) == 6


def test_what_was_not_used_for_long_goes_with_its_records(cache: Cache) -> None:
    old, old_record = put_layer(cache, b"old", used=NOW - 31 * DAY)
    new, _ = put_layer(cache, b"new", used=NOW - 29 * DAY)
    pruned = prune(cache, max_age_seconds=30 * DAY, now=NOW)
    assert {file.path for file in pruned.removed} == {old, old_record}
    assert new.exists()
    assert not old.exists()
    assert not old_record.exists()


def test_the_least_recently_used_goes_first_until_the_size_fits(cache: Cache) -> None:
    paths = [put(cache, bytes([number]) * 100, used=NOW - number) for number in range(5)]
    prune(cache, max_size_bytes=300, now=NOW)
    assert [path.exists() for path in paths] == [True, True, True, False, False]
    prune(cache, max_size_bytes=0, now=NOW)
    assert survey(cache) == []


def test_use_is_noted(cache: Cache) -> None:
    path, record = put_layer(cache, b"layer", used=NOW - 40 * DAY)
    assert cache.find_blob(Digest.of(b"layer")) == path
    assert cache.read_record("layers", record.stem) is not None
    assert path.stat().st_mtime > NOW - 40 * DAY
    assert record.stat().st_mtime > NOW - 40 * DAY


def test_what_is_used_between_look_and_removal_stays(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(cache, b"data", used=NOW - 40 * DAY)
    seen = survey(cache)
    monkeypatch.setattr("kobuild.store.housekeeping.survey", lambda *_: seen)
    cache.find_blob(Digest.of(b"data"))
    assert prune(cache, max_age_seconds=DAY, now=NOW).removed == ()
    assert path.exists()


def test_what_a_running_process_writes_stays_and_what_a_dead_one_left_goes(cache: Cache) -> None:
    left = partial(cache, "blob-0123456789abcdef")
    orphan = partial(cache, "gone.json")
    stuck_record = cache.root / "records" / "layers" / ".x.json.abc.tmp"
    stuck_record.parent.mkdir(parents=True)
    stuck_record.touch()
    at(stuck_record, NOW - 2 * 3600)
    fresh_record = cache.root / "records" / "layers" / ".y.json.abc.tmp"
    fresh_record.touch()
    at(fresh_record, NOW)
    resumable = partial(cache, "download")
    validator = partial(cache, "download.json")
    with cache.new_blob() as blob, cache.exclusive("layers-x", threading.Event()):
        blob.write(b"under way")
        dry = prune(cache, max_age_seconds=DAY, dry_run=True, now=NOW)
        assert left.exists()
        pruned = prune(cache, max_age_seconds=DAY, now=NOW)
        assert names(dry.removed) == names(pruned.removed) == {left.name, orphan.name, stuck_record.name}
        assert resumable.exists()
        assert validator.exists()
        dry = prune(cache, everything=True, dry_run=True, now=NOW)
        pruned = prune(cache, everything=True, now=NOW)
        assert names(dry.removed) == names(pruned.removed) == {resumable.name, validator.name}
        assert fresh_record.exists()
    assert cache.find_blob(Digest.of(b"under way")) is not None


def test_a_file_whose_lock_a_pruner_tries_in_that_moment_is_still_held(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []

    def lock_after_a_pruner(file: BinaryIO) -> bool:
        if lost:
            return try_lock(file)
        lost.append(file.name)
        with open(file.name, "rb") as other:
            assert try_lock(other)
            return try_lock(file)

    monkeypatch.setattr("kobuild.store.cache.try_lock", lock_after_a_pruner)
    with cache.new_blob() as blob:
        blob.write(b"under way")
        assert prune(cache, everything=True).removed == ()
    assert cache.find_blob(Digest.of(b"under way")) is not None
    assert lost
    assert list((cache.root / "partial").iterdir()) == []


def test_damaged_entries_are_found_and_removed(cache: Cache) -> None:
    good = put(cache, b"good")
    bad = put(cache, b"bad one")
    bad.write_bytes(b"bad two")
    foreign = bad.with_name("notes.txt")
    foreign.write_text("not a blob")
    cache.write_record("layers", "x", {})
    broken = cache.root / "records" / "layers" / "y.json"
    broken.write_bytes(b"{")
    damaged = {file.path for file, is_damaged in find_damaged(cache) if is_damaged}
    assert damaged == {bad, foreign, broken}
    assert good.exists()
    assert [path.exists() for path in damaged] == [False] * 3
    assert [is_damaged for _, is_damaged in find_damaged(cache)] == [False, False]


def test_a_lost_entry_is_told_as_such(cache: Cache) -> None:
    path = put(cache, b"some data")
    digest = Digest.of(b"some data")
    path.write_bytes(b"same size")
    with pytest.raises(LostEntry, match="is damaged and has been removed"), cache.open_blob(digest, 9) as file:
        file.read()
    assert not path.exists()
    with pytest.raises(LostEntry, match="no longer in the cache") as caught, cache.open_blob(digest):
        pass
    assert caught.value.entry == str(digest)
    assert cache.read_blob(digest, 100) is None
    assert not cache.has_intact(digest)


def test_small_blobs_are_read_whole_or_not_at_all(cache: Cache) -> None:
    path = put(cache, b"some data")
    assert cache.read_blob(Digest.of(b"some data"), 9) == b"some data"
    assert cache.read_blob(Digest.of(b"some data"), 8) is None
    path.write_bytes(b"same size")
    assert cache.read_blob(Digest.of(b"some data"), 9) is None


def test_a_name_is_held_by_one_at_a_time(cache: Cache) -> None:
    cancelled, order = threading.Event(), []

    def work(name: str) -> None:
        with cache.exclusive("layer", cancelled):
            order.append(f"{name} in")
            order.append(f"{name} out")

    with cache.exclusive("layer", cancelled):
        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        assert order == []
    for thread in threads:
        thread.join()
    assert [item.split()[1] for item in order] == ["in", "out"] * 3
    assert list((cache.root / "partial").iterdir()) == []


def test_waiting_for_a_name_can_be_stopped(cache: Cache) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with cache.exclusive("layer", cancelled), pytest.raises(StoppedError), cache.exclusive("layer", cancelled):
        pass
