"""A download under way on disk: hashed as it is written, and found again by the next run after a break.

partial/NAME         the bytes so far; locked by the process that writes them
partial/NAME.json    the validator (a strong ETag) that the bytes belong to
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import final

from kobuild.store.cache import Cache, is_at
from kobuild.streams import CHUNK_BYTES, disk_errors

_CLAIMS = 10


@final
class Partial:
    """One partial file, for one writer."""

    def __init__(self, path: Path, file: FileIO, *, sha512: bool) -> None:
        """`sha512` asks for that sum too, which costs more than all the rest of a download."""
        self.path = path
        self.offset = 0
        """How many bytes there are."""
        self._file = file
        self._sha256 = hashlib.sha256()
        self._sha512 = hashlib.sha512() if sha512 else None
        self.validator: str | None = self._load()

    @property
    def sha256(self) -> str:
        """Of the bytes so far, in hex."""
        return self._sha256.hexdigest()

    @property
    def sha512_base64(self) -> str | None:
        """Of the bytes so far, as npm writes it; None where nobody asked for it."""
        return base64.b64encode(self._sha512.digest()).decode() if self._sha512 is not None else None

    def write(self, data: bytes) -> None:
        """Append; raises StorageError."""
        with disk_errors("write", self.path):
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._count(data)

    def restart(self, validator: str | None) -> None:
        """Throw away the bytes so far; the next ones belong to `validator`."""
        with disk_errors("write", self.path):
            self._file.seek(0)
            self._file.truncate()
            self._record_path.unlink(missing_ok=True)
            if validator is not None:
                self._record_path.write_text(json.dumps({"validator": validator}), "utf-8")
        self.offset, self.validator = 0, validator
        self._sha256 = hashlib.sha256()
        self._sha512 = hashlib.sha512() if self._sha512 is not None else None

    def discard(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Remove what was kept to go on from."""
        with contextlib.suppress(OSError):
            self._record_path.unlink(missing_ok=True)

    @property
    def _record_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _load(self) -> str | None:
        """Take over what an earlier run left, if it is known to which validator it belongs; returns that."""
        try:
            validator = json.loads(self._record_path.read_bytes())["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            validator = None
        with disk_errors("read", self.path):
            if not isinstance(validator, str):
                self._file.truncate(0)
                return None
            while data := self._file.read(CHUNK_BYTES):
                self._count(data)
        return validator if self.offset else None

    def _count(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._sha512 is not None:
            self._sha512.update(data)
        self.offset += len(data)


@contextmanager
def claim(cache: Cache, name: str, *, sha512: bool = False) -> Iterator[Partial]:
    """The partial file of that name, or a private one while another process or thread writes to it."""
    path, file = _claim(cache, name)
    with file:
        yield Partial(path, file, sha512=sha512)


def _claim(cache: Cache, name: str) -> tuple[Path, FileIO]:
    path = cache.partial_path(name)
    with disk_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_CLAIMS):
            # Not buffered: what a full disk refused must not be written once more, and fail once more, by closing.
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0)
            # Its last owner may have made it a blob since it was opened.
            if _lock(file) and is_at(file, path):
                return path, file
            file.close()
            path = cache.partial_path(f"{name}-{os.urandom(6).hex()}")
    raise AssertionError("unreachable: nobody else knows a random name")


def _lock(file: FileIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
