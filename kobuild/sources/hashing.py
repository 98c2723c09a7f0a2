"""The sum of a file on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kobuild.streams import CHUNK_BYTES, disk_errors


def hash_file(path: Path) -> tuple[int, str]:
    """The size in bytes and the sha256 (hex) of a file; raises StorageError."""
    hasher, size = hashlib.sha256(), 0
    with disk_errors("read", path), path.open("rb", buffering=0) as file:
        while data := file.read(CHUNK_BYTES):
            hasher.update(data)
            size += len(data)
    return size, hasher.hexdigest()
