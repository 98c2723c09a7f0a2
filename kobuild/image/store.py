"""What verify and the base reader ask of a place that holds images: a layout, an archive, a registry's repository."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from kobuild.image.blobs import BlobSource
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.streams import Readable


class ImageStore(Protocol):
    """A place that one image, or one index of images, can be read from."""

    @property
    def name(self) -> str:
        """The place in containers/image's spelling, such as `oci:dist/image`, for messages."""

    def root(self) -> Manifest | Index:
        """What the place's name or tag points at, digest checked."""

    def child(self, descriptor: Descriptor) -> Manifest | Index:
        """A manifest or index by descriptor, size and digest checked; raises NotFound or IntegrityError."""

    def source(self, descriptor: Descriptor) -> BlobSource:
        """A way to a blob's bytes; nothing is read yet."""

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """Open a blob; the reader raises IntegrityError at its end if the bytes are not the descriptor's."""


@runtime_checkable
class RangedStore(ImageStore, Protocol):
    """A place from afar, of whose blobs parts can be read."""

    def read_range(self, descriptor: Descriptor, start: int, size: int) -> bytes:
        """Exactly `size` bytes of a blob from `start` on, not verified: only the whole blob has a digest."""


@runtime_checkable
class NamingStore(ImageStore, Protocol):
    """A place that says itself which digest a name has, beside handing out what it points at."""

    def named_digest(self) -> Digest | None:
        """What it says; None where it does not, or where the digest was asked for."""
