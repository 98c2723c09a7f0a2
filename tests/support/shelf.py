"""A registry's repository in memory, which counts what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from kobuild.errors import NotFound
from kobuild.image.blobs import BlobSource, BytesSource
from kobuild.image.image import Image
from kobuild.image.store import ImageStore
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import OCI_INDEX
from kobuild.oci.reference import Reference
from kobuild.streams import Readable


class Shelf:
    """Documents and blobs by digest, and a count of what was asked for."""

    def __init__(self, *images: Image) -> None:
        self.documents: dict[Digest, Manifest | Index] = {}
        self.blobs: dict[Digest, bytes] = {}
        self.tags: dict[str, Digest] = {}
        self.asked: list[str] = []
        for image in images:
            self.add(image)

    def add(self, image: Image) -> Descriptor:
        self.documents[image.manifest.digest] = image.manifest
        for blob in image.blobs:
            with blob.source.open() as file:
                self.blobs[blob.descriptor.digest] = file.read()
        return image.descriptor

    def tag(self, root: Manifest | Index, tag: str = "latest") -> None:
        self.documents[root.digest] = root
        self.tags[tag] = root.digest

    def open(self, text: str) -> ImageStore:
        return ShelfStore(self, Reference.parse(text))


class ShelfStore:
    """One reference of a shelf."""

    def __init__(self, shelf: Shelf, reference: Reference) -> None:
        self.shelf = shelf
        self.reference = reference
        self.name = str(reference)

    def root(self) -> Manifest | Index:
        return self._document(self.reference.digest or self.shelf.tags[str(self.reference.tag)])

    def child(self, descriptor: Descriptor) -> Manifest | Index:
        return self._document(descriptor.digest)

    def source(self, descriptor: Descriptor) -> BlobSource:
        return ShelfSource(self.shelf, descriptor)

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self.source(descriptor).open()

    def _document(self, digest: Digest) -> Manifest | Index:
        self.shelf.asked.append(f"manifest {digest}")
        if digest not in self.shelf.documents:
            raise NotFound(f"no manifest {digest}")
        return self.shelf.documents[digest]


class ShelfSource:
    repository = None

    def __init__(self, shelf: Shelf, descriptor: Descriptor) -> None:
        self.shelf = shelf
        self.descriptor = descriptor

    def open(self) -> AbstractContextManager[Readable]:
        self.shelf.asked.append(f"blob {self.descriptor.digest}")
        return BytesSource(self.shelf.blobs[self.descriptor.digest]).open()


def shelf_of(*images: Image, entries: Callable[[Image], Descriptor] = lambda image: image.descriptor) -> Shelf:
    shelf = Shelf(*images)
    shelf.tag(Index.build(media_type=OCI_INDEX, manifests=tuple(entries(image) for image in images)))
    return shelf
