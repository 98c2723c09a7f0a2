"""Artifacts by tag that are about no image: image-spec, manifest.md, "Guidelines for Artifact Usage"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from kobuild.errors import NotFound
from kobuild.image.blobs import Blob, BytesSource
from kobuild.oci import mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Repository
from kobuild.progress import NullTransfer, Transfer
from kobuild.registry.connection import Connection
from kobuild.registry.manifests import ManifestWriter
from kobuild.registry.parallel import Stop, run_all
from kobuild.registry.pull import RepositoryReader
from kobuild.registry.scopes import Scopes, push_scope
from kobuild.registry.upload import BlobPusher

EMPTY_BLOB: Final = Blob(Descriptor(mediatypes.OCI_EMPTY, Digest.of(b"{}"), 2), BytesSource(b"{}"))
"""What stands where an artifact needs no config, or no content."""


class TaggedArtifacts:
    """The artifacts of one repository; safe to use from many threads.

    It is never read through a mirror: what was written a moment ago must be seen.
    """

    def __init__(self, connection: Connection, repository: Repository) -> None:
        self._connection = connection
        self._repository = repository
        self._scopes: Scopes = (push_scope(repository),)
        self._stored: set[Digest] = set()

    def find(self, tag: str, *, writing: bool) -> Manifest | None:
        """What a tag points at; None where there is nothing, or an index. Raises RegistryError.

        `writing` says that something will be written too: one login for both.
        """
        reader = RepositoryReader(self._connection, self._repository, self._scopes if writing else None)
        try:
            found = reader.manifest(tag)
        except NotFound:
            return None
        return found if isinstance(found, Manifest) else None

    def push(self, tag: str, manifest: Manifest, blobs: Sequence[Blob]) -> None:
        """Store blobs that are not there, then the manifest under the tag.

        Raises RegistryError, and what reading the blobs raises.
        """
        self.store(blobs)
        self.put(tag, manifest)

    def store(self, blobs: Sequence[Blob], transfer: Transfer | None = None) -> None:
        """Store blobs that are not there; `transfer` follows the first one."""
        stop = Stop()
        pusher = BlobPusher(self._connection, self._repository, self._scopes, stop)
        transfers: list[Transfer] = [transfer or NullTransfer(), *(NullTransfer() for _ in blobs[1:])]
        missing = [
            (blob, moving)
            for blob, moving in zip(blobs, transfers, strict=True)
            if blob.descriptor.digest not in self._stored
        ]
        run_all([partial(pusher.push, blob, None, moving) for blob, moving in missing], stop)
        self._stored.update(blob.descriptor.digest for blob in blobs)

    def put(self, tag: str, manifest: Manifest) -> None:
        """Let the tag point at a manifest whose blobs are there."""
        ManifestWriter(self._connection, self._repository, self._scopes).put(manifest, tag)
