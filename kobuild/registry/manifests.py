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
_UNSEEN: Final = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})
_UNSEEN_WAITS: Final = 3
"""How often a registry is asked again that misses a blob which was just pushed: its stores may lag behind each other,
and some lose sight of a blob for a moment while somebody else pushes the same one."""


class ManifestWriter:
    """Stores manifests under tags and digests; safe to use from many threads."""

    def __init__(self, connection: Connection, repository: Repository, scopes: Scopes) -> None:
        self._connection = connection
        self._repository = repository
        self._scopes = scopes

    def put(
        self, document: Manifest | Index, identifier: str, *, waits: int = _UNSEEN_WAITS
    ) -> Mapping[str, str] | None:
        """Store a manifest; returns the answer's headers, None where the answer was lost and the manifest is there.

        After a refusal what is there decides: the answer to an earlier attempt may have been lost, and a tag that may
        not move may be where it should. A registry that does not see yet what was just pushed is asked again, after
        each of `waits`. Raises RegistryError, and DigestMismatch where something else was stored.
        """
        call = self._call(document, identifier)
        for attempt in range(1, waits + 2):
            answer = self._send(call)
            if not isinstance(answer, RegistryError):
                self._check(document, call, answer)
                return answer
            if self._is_at(document, identifier):
                return None
            if attempt > waits or _UNSEEN.isdisjoint(answer.codes):
                raise answer
            self._connection.transport.pause(answer, attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _send(self, call: Call) -> Mapping[str, str] | RegistryError:
        """The answer's headers, or the refusal."""
        try:
            with self._connection.send(call) as response:
                return response.headers
        except RegistryError as error:
            return error

    def _call(self, document: Manifest | Index, identifier: str) -> Call:
        place = f"{self._repository}{'@' if ':' in identifier else ':'}{identifier}"
        return Call(
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

    def _check(self, document: Manifest | Index, call: Call, headers: Mapping[str, str]) -> None:
        stored = headers.get("Docker-Content-Digest")
        if stored is not None and stored.startswith("sha256:") and stored != str(document.digest):
            raise DigestMismatch(call.action, expected=str(document.digest), actual=stored)

    def _is_at(self, document: Manifest | Index, identifier: str) -> bool:
        """Whether the registry has the manifest under that name, whatever it answered."""
        try:
            found = RepositoryReader(self._connection, self._repository, self._scopes).head_manifest(identifier)
        except RegistryError:
            return False
        return found is not None and found.digest == document.digest
