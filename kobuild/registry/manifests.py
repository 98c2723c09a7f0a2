"""Writing manifests and indexes into one repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kobuild.errors import DigestMismatch, RegistryError
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Repository
from kobuild.registry.connection import Call, Connection
from kobuild.registry.pull import RepositoryReader
from kobuild.registry.scopes import Scopes

_MANIFEST_SECONDS: Final = 120.0
"""A registry may look at every blob before it answers."""


class ManifestWriter:
    """Stores manifests under tags and digests; safe to use from many threads."""

    def __init__(self, connection: Connection, repository: Repository, scopes: Scopes) -> None:
        self._connection = connection
        self._repository = repository
        self._scopes = scopes

    def put(self, document: Manifest | Index, identifier: str) -> Mapping[str, str] | None:
        """Store a manifest; returns the answer's headers, None where the answer was lost and the manifest is there.

        After a refusal what is there decides: the answer to an earlier attempt may have been lost, and a tag that may
        not move may be where it should. Raises RegistryError, and DigestMismatch where something else was stored.
        """
        place = f"{self._repository}{'@' if ':' in identifier else ':'}{identifier}"
        call = Call(
            f"push manifest {place}",
            self._repository,
            "PUT",
            f"manifests/{identifier}",
            self._scopes,
            headers={"Content-Type": document.media_type},
            body=document.raw,
            expect=(201, 200, 202, 204),
            read_seconds=_MANIFEST_SECONDS,
        )
        try:
            with self._connection.send(call) as response:
                headers = response.headers
        except RegistryError:
            if not self._is_at(document, identifier):
                raise
            return None
        stored = headers.get("Docker-Content-Digest")
        if stored is not None and stored.startswith("sha256:") and stored != str(document.digest):
            raise DigestMismatch(f"push manifest {place}", expected=str(document.digest), actual=stored)
        return headers

    def _is_at(self, document: Manifest | Index, identifier: str) -> bool:
        """Whether the registry has the manifest under that name, whatever it answered."""
        try:
            found = RepositoryReader(self._connection, self._repository, self._scopes).head_manifest(identifier)
        except RegistryError:
            return False
        return found is not None and found.digest == document.digest
