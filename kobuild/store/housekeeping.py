"""Looking after the cache: what is in it, what may go, and what is damaged.

All of it is safe while others use the cache. What a running process is writing is locked by it, or is a record of this
moment, and stays; what it reads may go, and the process then gets or makes it again (`Cache.open_blob`).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Final

from kobuild.errors import KobuildError, LostEntry, MalformedDocument
from kobuild.frozen import frozen
from kobuild.oci.digest import Digest
from kobuild.store.cache import BASE_BLOBS, LOCK, TEMPORARY, Cache, is_at, try_lock
from kobuild.streams import CHUNK_BYTES, disk_errors

LAYER_RECORDS: Final = "layers"
"""Records of which recipe made which layer; each names the blob under `digest`."""
DEFAULT_MAX_AGE: Final = 30 * 86400
"""Seconds after which what nobody used is pruned, where nothing else is said."""
_TEMPORARY_SECONDS: Final = 3600
"""A record is written in a moment: a temporary file of this age has lost its writer."""


class Kind(str, Enum):
    """What a file of the cache is."""

    DOWNLOAD = "downloads"
    LAYER = "layers"
    BASE = "base blobs"
    PARTIAL = "partial"
    RECORD = "records"


@frozen
class CacheFile:
    """One file."""

    path: Path
    kind: Kind
    size: int
    """In bytes."""
    used: float
    """Seconds since 1970."""
    unit: str
    """Files of one unit come and go together: a layer and its records, a partial download and its validator."""
    abandoned: bool = False
    """Whether a run that has ended left it behind, and nobody will go on with it."""


@frozen
class Pruned:
    """What pruning did, or would do."""

    removed: tuple[CacheFile, ...]
    kept: tuple[CacheFile, ...]


def survey(cache: Cache, now: float | None = None) -> list[CacheFile]:
    """Every file of the cache; none is touched."""
    moment = time.time() if now is None else now
    with disk_errors("read", cache.root):
        layers = dict(_layer_records(cache))
        files = list(_records(cache, layers, moment))
        base = {path.stem for path in _files(cache.root / "records" / BASE_BLOBS)}
        files += _blobs(cache, set(layers.values()), base)
        files += _partials(cache)
    return files


def prune(
    cache: Cache,
    *,
    max_age_seconds: float | None = None,
    max_size_bytes: int | None = None,
    everything: bool = False,
    dry_run: bool = False,
    now: float | None = None,
) -> Pruned:
    """Remove what dead runs left, what was not used for `max_age_seconds`, then the least recently used down to size.

    `everything` removes all but what running processes write. Raises StorageError.
    """
    moment = time.time() if now is None else now
    files = survey(cache, moment)
    chosen = _choose(files, moment, max_age_seconds, max_size_bytes, everything=everything)
    take = _is_free if dry_run else _remove
    removed = [file for file in files if file.unit in chosen and not _is_being_written(file) and take(file)]
    gone = {file.path for file in removed}
    return Pruned(tuple(removed), tuple(file for file in files if file.path not in gone))


def find_damaged(cache: Cache) -> Iterator[tuple[CacheFile, bool]]:
    """Read every blob and every record; each file, and whether it was damaged, and so was removed."""
    for file in survey(cache):
        if file.kind is Kind.PARTIAL:
            continue
        intact = _is_record(file.path) if file.kind is Kind.RECORD else _is_blob(cache, file)
        if not intact:
            with disk_errors("remove", file.path):
                file.path.unlink(missing_ok=True)
        yield file, not intact


def _choose(
    files: Iterable[CacheFile], now: float, max_age: float | None, max_size: int | None, *, everything: bool
) -> set[str]:
    """The units that must go."""
    used: dict[str, float] = {}
    sizes: dict[str, int] = {}
    chosen: set[str] = set()
    for file in files:
        used[file.unit] = max(used.get(file.unit, 0.0), file.used)
        sizes[file.unit] = sizes.get(file.unit, 0) + file.size
        if everything or file.abandoned:
            chosen.add(file.unit)
    left = sum(size for unit, size in sizes.items() if unit not in chosen)
    for unit in sorted(used.keys() - chosen, key=lambda unit: (used[unit], unit)):
        is_old = max_age is not None and now - used[unit] > max_age
        if is_old or (max_size is not None and left > max_size):
            chosen.add(unit)
            left -= sizes[unit]
    return chosen


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder, which need not be there."""
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def _layer_records(cache: Cache) -> Iterator[tuple[Path, str]]:
    """Each layer record, and the hex digits of the blob that it names."""
    for path in _files(cache.root / "records" / LAYER_RECORDS):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError, KobuildError):
            yield path, Digest.parse(json.loads(path.read_bytes())["digest"]).hex


def _look(path: Path, kind: Kind, unit: str, *, abandoned: bool = False) -> Iterator[CacheFile]:
    """The file, unless it has gone meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        yield CacheFile(path, kind, status.st_size, status.st_mtime, unit, abandoned)


def _records(cache: Cache, layers: dict[Path, str], now: float) -> Iterator[CacheFile]:
    for path in _files(cache.root / "records"):
        is_temporary = path.suffix == ".tmp"
        digits = path.stem if path.parent.name == BASE_BLOBS else layers.get(path)
        has_blob = digits is not None and (cache.root / "blobs" / "sha256" / digits).exists()
        for file in _look(path, Kind.RECORD, f"blob {digits}" if has_blob else str(path)):
            if is_temporary:
                abandoned = now - file.used > _TEMPORARY_SECONDS
                yield CacheFile(path, Kind.PARTIAL, file.size, file.used, str(path), abandoned)
            else:
                yield file


def _blobs(cache: Cache, layers: set[str], base: set[str]) -> Iterator[CacheFile]:
    for path in _files(cache.root / "blobs"):
        kind = Kind.LAYER if path.name in layers else Kind.BASE if path.name in base else Kind.DOWNLOAD
        yield from _look(path, kind, f"blob {path.name}")


def _partials(cache: Cache) -> Iterator[CacheFile]:
    for path in _files(cache.root / "partial"):
        partner = _partner(path)
        is_unfinishable = path.name.startswith((TEMPORARY, LOCK)) or not partner.exists()
        yield from _look(path, Kind.PARTIAL, str(partner), abandoned=is_unfinishable and _is_unlocked(path))


def _partner(path: Path) -> Path:
    """The file of a partial download's validator, or the file itself."""
    return path.with_suffix("") if path.suffix == ".json" else path


def _is_unlocked(path: Path) -> bool:
    """Whether no process writes the file."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return try_lock(file)
    return False


def _is_being_written(file: CacheFile) -> bool:
    """Whether it is a record on its way, which has no lock but only its age to tell."""
    return file.path.suffix == ".tmp" and not file.abandoned


def _is_free(file: CacheFile) -> bool:
    """Whether `_remove` would take it."""
    partner = _partner(file.path)
    return file.kind is not Kind.PARTIAL or file.abandoned or not partner.exists() or _is_unlocked(partner)


def _remove(file: CacheFile) -> bool:
    """Remove a file, unless somebody writes or has used it since it was looked at."""
    with disk_errors("remove", file.path), contextlib.suppress(FileNotFoundError):
        if file.kind is Kind.PARTIAL and file.path.suffix != ".tmp":
            return _remove_unlocked(file.path)
        if file.path.stat().st_mtime > file.used:
            return False
        file.path.unlink()
        return True
    return False


def _remove_unlocked(path: Path) -> bool:
    if _partner(path) != path and _partner(path).exists():
        # The validator of a download that goes on; else the file itself, which sorts before it, would have gone.
        return False
    with path.open("rb") as file:
        # A writer that opened the file before it went finds that out once it has the lock, and takes another name.
        if not (try_lock(file) and is_at(file, path)):
            return False
        path.unlink()
    return True


def _is_record(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except FileNotFoundError:
        return True
    except (OSError, ValueError, RecursionError):
        return False


def _is_blob(cache: Cache, file: CacheFile) -> bool:
    """Whether the file is the blob that its name says; one that has gone meanwhile is not damaged."""
    try:
        with cache.open_blob(Digest.parse(f"{file.path.parent.name}:{file.path.name}")) as reader:
            while reader.read(CHUNK_BYTES):
                pass
    except LostEntry as error:
        return isinstance(error.__cause__, FileNotFoundError)
    except MalformedDocument:
        return False
    return True
