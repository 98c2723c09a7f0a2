"""The content-addressed cache: blobs by digest, and small JSON records by key.

    blobs/sha256/HEX         verified content: downloads and layers, side by side
    records/KIND/KEY.json    what a recipe made, what an API answered, which blobs are a base's
    partial/                 what is under way, each file locked by who writes it; never read as content

Everything appears by rename after it was verified, so any number of processes may share one cache. A blob may vanish at
any moment, since another process may prune: who opens one is ready for LostEntry. The time of a file's last change says
when it was last used, which is what pruning goes by: many file systems do not keep the time of the last reading.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from kobuild.errors import IntegrityError, LostEntry
from kobuild.frozen import frozen
from kobuild.oci.digest import Digest
from kobuild.streams import (
    CHUNK_BYTES,
    HashingWriter,
    Readable,
    StoppedError,
    VerifyingReader,
    atomic_write,
    disk_errors,
)

BASE_BLOBS: Final = "base-blobs"
"""Records that say which blobs are a base's: nothing else tells them from downloads."""
_LOCK_POLL_SECONDS: Final = 0.05
TEMPORARY: Final = "blob-"
"""What names of blobs under way begin with."""
LOCK: Final = "lock-"
"""What names of files begin with that only stand for a lock."""
CACHE_DIR_VARIABLE: Final = "KOBUILD_CACHE_DIR"


def default_cache_dir() -> Path:
    """`KOBUILD_CACHE_DIR`, else the platform's folder for caches."""
    named = os.environ.get(CACHE_DIR_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs  # noqa: PLC0415 - a twentieth of the start, and only for this

    return platformdirs.user_cache_path("kobuild")


@frozen
class Cache:
    """One cache folder; made when first written to."""

    root: Path

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    def find_blob(self, digest: Digest, size: int | None = None) -> Path | None:
        """The blob's file, if it is there with that size in bytes; one of another size is damaged and is removed."""
        path = self.blob_path(digest)
        try:
            found = path.stat().st_size
        except OSError:
            return None
        if size is not None and found != size:
            self.drop_blob(digest)
            return None
        mark_used(path)
        return path

    @contextmanager
    def open_blob(self, digest: Digest, size: int | None = None) -> Iterator[Readable]:
        """Open a blob that was found; its reader raises LostEntry, and drops it, where its bytes are damaged.

        Raises LostEntry where it has gone since.
        """
        path = self.blob_path(digest)
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise LostEntry(f"{path} is no longer in the cache", entry=str(digest)) from error
        with file:
            verifying = VerifyingReader(file, digest=digest, size=size, place=str(path))
            yield _EntryReader(verifying, self, digest)

    def read_blob(self, digest: Digest, limit_bytes: int) -> bytes | None:
        """A small blob's verified bytes; None where it is missing, damaged, or larger than `limit_bytes`."""
        path = self.find_blob(digest)
        try:
            if path is None or path.stat().st_size > limit_bytes:
                return None
            with self.open_blob(digest) as file:
                return file.read()
        except (FileNotFoundError, LostEntry):
            return None

    def has_intact(self, digest: Digest, size: int | None = None) -> bool:
        """Whether the blob is there with the right bytes, all of which are read; a damaged one is dropped."""
        try:
            with self.open_blob(digest, size) as file:
                while file.read(CHUNK_BYTES):
                    pass
        except LostEntry:
            return False
        return True

    def drop_blob(self, digest: Digest) -> None:
        """Forget a blob; absence is no error."""
        with disk_errors("remove", self.blob_path(digest)):
            self.blob_path(digest).unlink(missing_ok=True)

    @contextmanager
    def new_blob(self) -> Iterator[HashingWriter]:
        """Write a blob of yet unknown digest; it appears under its digest when the block ends well."""
        with self.temporary() as (path, file):
            writer = HashingWriter(file)
            yield writer
            file.flush()
            self.adopt(path, writer.digest)

    @contextmanager
    def temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new file in `partial/`, removed at the end unless it was adopted; locked, so that nobody prunes it."""
        path, file = self._new_temporary()
        with disk_errors("write", path):
            try:
                with file:
                    yield path, file
            finally:
                path.unlink(missing_ok=True)

    def _new_temporary(self) -> tuple[Path, BinaryIO]:
        """A new file with its lock; under another name where somebody who prunes tried that lock first."""
        while True:
            path = self.partial_path(f"{TEMPORARY}{os.urandom(8).hex()}")
            with disk_errors("write", path):
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("xb")
                if try_lock(file) and is_at(file, path):
                    return path, file
                file.close()
                path.unlink(missing_ok=True)

    @contextmanager
    def exclusive(self, name: str, cancelled: threading.Event) -> Iterator[None]:
        """Hold a name for the block; other threads and processes that want it wait, so that work is done once.

        Raises StoppedError when `cancelled` is set while waiting. Who dies lets go of it.
        """
        path = self.partial_path(f"{LOCK}{name}")
        with disk_errors("lock", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab")
            while not (try_lock(file) and is_at(file, path)):
                file.close()
                if cancelled.wait(_LOCK_POLL_SECONDS):
                    raise StoppedError
                file = path.open("ab")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            file.close()

    def adopt(self, path: Path, digest: Digest) -> Path:
        """Move a file whose bytes were verified against `digest` into the cache; returns its new place."""
        target = self.blob_path(digest)
        with disk_errors("write", target):
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        return target

    def partial_path(self, name: str) -> Path:
        """A file name for content under way."""
        return self.root / "partial" / name

    def read_record(self, kind: str, key: str) -> dict[str, Any] | None:
        """A record, or None where there is none or it cannot be read."""
        path = self._record_path(kind, key)
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        mark_used(path)
        return value if isinstance(value, dict) else None

    def write_record(self, kind: str, key: str, value: dict[str, Any]) -> None:
        """Write a record in one step."""
        atomic_write(self._record_path(kind, key), json.dumps(value, sort_keys=True).encode())

    def note_base_blob(self, digest: Digest) -> None:
        """Remember that the blob came from a base."""
        if not self._record_path(BASE_BLOBS, digest.hex).exists():
            self.write_record(BASE_BLOBS, digest.hex, {})

    def _record_path(self, kind: str, key: str) -> Path:
        return self.root / "records" / kind / f"{key}.json"


class _EntryReader:
    """A verifying reader whose bad news is that the cache has lost the entry."""

    def __init__(self, source: VerifyingReader, cache: Cache, digest: Digest) -> None:
        self._source = source
        self._cache = cache
        self._digest = digest

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._source.read(size)
        except IntegrityError as error:
            self._cache.drop_blob(self._digest)
            text = f"the cache's copy of {self._digest} is damaged and has been removed"
            raise LostEntry(text, entry=str(self._digest)) from error


def mark_used(path: Path) -> None:
    """Note that a file of the cache is used now; a cache that may only be read stays as it is."""
    with contextlib.suppress(OSError):
        os.utime(path)


def try_lock(file: BinaryIO) -> bool:
    """Take the file for this process, if nobody has it; where the disk knows no locks, always."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
