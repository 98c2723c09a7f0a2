"""A shared layer's bytes: where they are gone or wrong, the layer is made here after all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from kobuild.errors import IntegrityError, LostEntry, RegistryError
from kobuild.frozen import frozen
from kobuild.oci.reference import Repository
from kobuild.registry import RegistrySource
from kobuild.streams import Readable


@frozen
class SharedSource:
    """A BlobSource that is a layer cache's repository, from where a push to the same registry mounts it."""

    origin: RegistrySource
    forget: Callable[[], object]
    """Told when the blob turns out to be gone or wrong, or cannot be read."""

    @property
    def repository(self) -> Repository | None:
        """The repository that holds the blob."""
        return self.origin.place

    @contextlib.contextmanager
    def open(self) -> Iterator[Readable]:
        """Open the bytes; the reader raises LostEntry where they cannot be read, or are not those of the digest."""
        with self.origin.open() as reader:
            yield _SharedReader(reader, self)


class _SharedReader:
    def __init__(self, reader: Readable, source: SharedSource) -> None:
        self._reader = reader
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._reader.read(size)
        except (RegistryError, IntegrityError) as error:
            # Whatever the registry's trouble is: the layer can still be made.
            self._source.forget()
            digest = self._source.origin.descriptor.digest
            text = f"layer {digest.short} of the layer cache {self._source.origin.place} cannot be used: {error}"
            raise LostEntry(text, entry=str(digest)) from error
