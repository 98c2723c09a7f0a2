"""A registry's repository as a place that images are read from, and its blobs as sources of a push."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from kobuild.errors import SizeMismatch
from kobuild.image.blobs import BlobSource
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference, Repository
from kobuild.registry.client import RegistryClient
from kobuild.registry.pull import parse_document
from kobuild.streams import Readable, ReadRange


@dataclass(frozen=True)
class RegistrySource:
    """One blob of a repository: mounted by a push to the same registry, streamed across to another."""

    client: RegistryClient
    place: Repository
    descriptor: Descriptor

    @property
    def repository(self) -> Repository | None:
        """The repository that holds the blob."""
        return self.place

    def open(self) -> AbstractContextManager[Readable]:
        """Open the bytes from the start; verified, and resumed where the connection breaks."""
        return self.client.open_blob(self.place, self.descriptor)

    def ranges(self) -> ReadRange | None:
        """Parts of the blob, by ranged requests."""
        return partial(self.client.read_range, self.place, self.descriptor)


@dataclass(frozen=True)
class RegistryStore:
    """What one reference points at, read from its registry."""

    client: RegistryClient
    reference: Reference

    @property
    def name(self) -> str:
        """`docker://REFERENCE`."""
        return f"docker://{self.reference}"

    def root(self) -> Manifest | Index:
        """What the reference points at, digest checked; raises NotFound, AuthError, RegistryError, IntegrityError."""
        return self.client.get_manifest(self.reference)

    def named_digest(self) -> Digest | None:
        """The digest that the registry's own headers give the tag; None where they give none. Raises RegistryError."""
        if self.reference.digest is not None:
            return None
        found = self.client.head_manifest(self.reference)
        return found.digest if found is not None else None

    def child(self, descriptor: Descriptor) -> Manifest | Index:
        """A manifest or index by descriptor, size and digest checked."""
        reference = self.reference.with_digest(descriptor.digest)
        if descriptor.data is not None:
            return parse_document(descriptor.data, descriptor.media_type, f"manifest {reference}")
        document = self.client.get_manifest(reference)
        if len(document.raw) != descriptor.size:
            raise SizeMismatch(f"manifest {reference}", expected=descriptor.size, actual=len(document.raw))
        return document

    def source(self, descriptor: Descriptor) -> BlobSource:
        """A way to a blob's bytes; nothing is read yet."""
        return RegistrySource(self.client, self.reference.repository, descriptor)

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """Open a blob, verified."""
        return self.client.open_blob(self.reference.repository, descriptor)

    def read_range(self, descriptor: Descriptor, start: int, size: int) -> bytes:
        """Exactly `size` bytes of a blob from `start` on, not verified."""
        return self.client.read_range(self.reference.repository, descriptor, start, size)

    def referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """The artifacts about a manifest; raises RegistryError."""
        return self.client.referrers(self.reference.repository).find(subject)
