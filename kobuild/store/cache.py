"""The content-addressed cache: blobs by digest, and small JSON records by key.

    blobs/sha256/HEX         verified content: downloads and layers, side by side
    records/KIND/KEY.json    what a recipe made, what an API answered
    partial/                 downloads under way; never read as content

Everything appears by rename after it was verified, so any number of processes may share one cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import platformdirs

from kobuild.oci.digest import Digest
from kobuild.streams import HashingWriter, atomic_write, disk_errors

CACHE_DIR_VARIABLE: Final = "KOBUILD_CACHE_DIR"


def default_cache_dir() -> Path:
    """`KOBUILD_CACHE_DIR`, else the platform's folder for caches."""
    named = os.environ.get(CACHE_DIR_VARIABLE)
    return Path(named).expanduser().absolute() if named else platformdirs.user_cache_path("kobuild")


@dataclass(frozen=True, slots=True)
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
        return path

    def drop_blob(self, digest: Digest) -> None:
        """Forget a blob; absence is no error."""
        with disk_errors("remove", self.blob_path(digest)):
            self.blob_path(digest).unlink(missing_ok=True)

    @contextmanager
    def new_blob(self) -> Iterator[HashingWriter]:
        """Write a blob of yet unknown digest; it appears under its digest when the block ends well."""
        temporary = self.partial_path(f"blob-{os.urandom(8).hex()}")
        with disk_errors("write", temporary):
            temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with disk_errors("write", temporary), temporary.open("xb") as file:
                writer = HashingWriter(file)
                yield writer
            self.adopt(temporary, writer.digest)
        finally:
            temporary.unlink(missing_ok=True)

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
        try:
            value = json.loads(self._record_path(kind, key).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def write_record(self, kind: str, key: str, value: dict[str, Any]) -> None:
        """Write a record in one step."""
        atomic_write(self._record_path(kind, key), json.dumps(value, sort_keys=True).encode())

    def _record_path(self, kind: str, key: str) -> Path:
        return self.root / "records" / kind / f"{key}.json"
