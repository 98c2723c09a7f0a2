"""Blobs from afar: read from the cache where they are there, and kept there on their way where that is wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from kobuild.frozen import frozen
from kobuild.image.blobs import BlobSource, RangedSource
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Repository
from kobuild.store.cache import Cache
from kobuild.streams import Readable, ReadRange, disk_errors


@frozen
class CachedSource:
    """A BlobSource in front of another one."""

    cache: Cache
    descriptor: Descriptor
    origin: BlobSource
    keep: bool = True
    """Whether bytes that come from the origin are kept; they are, once they were read to their verified end."""
    is_base: bool = True
    """Whether the blob is one of a base, which the cache counts apart."""

    @property
    def repository(self) -> Repository | None:
        """Where the origin's blob can be mounted from."""
        return self.origin.repository

    @contextlib.contextmanager
    def open(self) -> Iterator[Readable]:
        """Open the blob, verified, from the cache or else from its origin; raises LostEntry where the cache fails."""
        digest, size = self.descriptor.digest, self.descriptor.size
        if self.cache.find_blob(digest, size) is not None:
            with self.cache.open_blob(digest, size) as file:
                yield file
        elif not self.keep:
            with self.origin.open() as file:
                yield file
        else:
            with self._keeping() as file:
                yield file

    def ranges(self) -> ReadRange | None:
        """Parts of the origin's blob, where the cache neither has it nor wants it whole."""
        if self.keep or self.cache.find_blob(self.descriptor.digest, self.descriptor.size) is not None:
            return None
        return self.origin.ranges() if isinstance(self.origin, RangedSource) else None

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[Readable]:
        with self.cache.temporary() as (path, file), self.origin.open() as source:
            tee = _Tee(source, file)
            yield tee
            if tee.is_complete:
                file.flush()
                self.cache.adopt(path, self.descriptor.digest)
                if self.is_base:
                    self.cache.note_base_blob(self.descriptor.digest)


@frozen
class CacheSource:
    """A BlobSource that is the cache alone: a layer that was made here."""

    cache: Cache
    digest: Digest
    size: int
    repository: Repository | None = None

    def open(self) -> AbstractContextManager[Readable]:
        """Open the blob, verified; raises LostEntry where it is gone, and its reader where it is damaged."""
        return self.cache.open_blob(self.digest, self.size)


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
