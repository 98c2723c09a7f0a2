"""Where a blob's bytes are, without saying whether that is a disk or a network."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from kobuild.errors import LayoutError
from kobuild.frozen import frozen
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Repository
from kobuild.streams import Readable, ReadRange, VerifyingReader


class BlobSource(Protocol):
    """Somewhere that one blob can be read from, again and again."""

    @property
    def repository(self) -> Repository | None:
        """The registry repository that holds the blob, from where it can be mounted; None for local blobs."""

    def open(self) -> AbstractContextManager[Readable]:
        """Open the bytes from the start; the reader raises IntegrityError at its end if they are not the blob's."""


@runtime_checkable
class RangedSource(BlobSource, Protocol):
    """A blob from afar, of which parts may be read."""

    def ranges(self) -> ReadRange | None:
        """How to read parts; None where the whole is at hand, or is wanted anyway."""


@frozen
class FileSource:
    """A blob in a file: the cache's or a layout's."""

    path: Path
    digest: Digest
    size: int
    repository: Repository | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[Readable]:
        """Open the file, verifying it as it is read; raises LayoutError where it is missing."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise LayoutError(f"read blob {self.digest} from {self.path}: {error.strerror}") from error
        with file:
            yield VerifyingReader(file, digest=self.digest, size=self.size, place=str(self.path))


@frozen
class BytesSource:
    """A blob in memory: a config or an embedded descriptor's data."""

    data: bytes
    repository: Repository | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[Readable]:
        """Open the bytes."""
        yield io.BytesIO(self.data)


@frozen
class Blob:
    """A descriptor and a way to its bytes."""

    descriptor: Descriptor
    source: BlobSource


@frozen
class Layer(Blob):
    """A blob that is a layer: `descriptor.digest` names the compressed bytes, `diff_id` the uncompressed tar."""

    diff_id: Digest
