"""Blobs from afar: read from the cache where they are there, and kept there on their way where that is wanted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kobuild.image.blobs import BlobSource, FileSource
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.reference import Repository
from kobuild.store.cache import Cache
from kobuild.streams import Readable, disk_errors


@dataclass(frozen=True, slots=True)
class CachedSource:
    """A BlobSource in front of another one."""

    cache: Cache
    descriptor: Descriptor
    origin: BlobSource
    keep: bool = True
    """Whether bytes that come from the origin are kept; they are, once they were read to their verified end."""

    @property
    def repository(self) -> Repository | None:
        """Where the origin's blob can be mounted from."""
        return self.origin.repository

    @contextlib.contextmanager
    def open(self) -> Iterator[Readable]:
        """Open the blob, verified, from the cache or else from its origin."""
        digest, size = self.descriptor.digest, self.descriptor.size
        path = self.cache.find_blob(digest, size)
        if path is not None:
            with FileSource(path, digest, size).open() as file:
                yield file
        elif not self.keep:
            with self.origin.open() as file:
                yield file
        else:
            with self._keeping() as file:
                yield file

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[Readable]:
        temporary = self.cache.partial_path(f"blob-{os.urandom(8).hex()}")
        with disk_errors("write", temporary):
            temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.origin.open() as source, temporary.open("xb") as file:
                tee = _Tee(source, file)
                yield tee
            if tee.is_complete:
                self.cache.adopt(temporary, self.descriptor.digest)
        finally:
            temporary.unlink(missing_ok=True)


class _Tee:
    """A reader that writes down what it hands out."""

    def __init__(self, source: Readable, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self.is_complete = False
        """Whether the source's end was seen, which a source reports only of bytes that it found right."""

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        with disk_errors("write", Path(self._sink.name)):
            self._sink.write(data)
        self.is_complete = self.is_complete or size < 0 or (not data and size > 0)
        return data
