"""Uploads as the protocol has them: opened, asked about, written to, closed (distribution-spec, "Pushing blobs")."""

from __future__ import annotations

import contextlib
from typing import Final

from kobuild.errors import KobuildError, RegistryError
from kobuild.frozen import frozen
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Repository
from kobuild.registry.connection import Call, Connection
from kobuild.registry.endpoints import resolve_location, with_query
from kobuild.registry.headers import parse_count
from kobuild.registry.scopes import Scopes
from kobuild.transport import Body, Response, origin

CHUNK_BYTES: Final = 8 * 1024 * 1024
"""How much of a blob one PATCH carries; it is held in memory, so that it can be sent again."""
_LARGEST_CHUNK_BYTES: Final = 256 * 1024 * 1024
_COMMIT_SECONDS: Final = 600.0
"""A registry may move a large blob between stores before it answers."""
_ANSWER_SECONDS: Final = 60.0
_STREAM: Final = {"Content-Type": "application/octet-stream"}


@frozen
class Session:
    """An open upload, as the registry last described it."""

    location: str
    offset: int
    """What the registry has, in bytes."""
    chunk_bytes: int
    """How much one PATCH should carry."""


class Uploads:
    """The uploads of one repository; safe to use from many threads."""

    def __init__(self, connection: Connection, repository: Repository, scopes: Scopes) -> None:
        self._connection = connection
        self._repository = repository
        self._scopes = scopes

    def start(self, blob: Digest | str) -> Session:
        """Open an upload of a blob, whose name is for messages; raises RegistryError."""
        call = self._call(blob, "POST", "blobs/uploads/", expect=(202,))
        with self._connection.send(call) as response:
            return self._described(call, response)

    def mount(self, digest: Digest, source: Repository) -> Session | None:
        """Ask for a blob of another repository: None when it is done, else the upload that was opened instead (202)."""
        call = self._call(digest, "POST", f"blobs/uploads/?mount={digest}&from={source.path}", expect=(201, 202))
        with self._connection.send(call) as response:
            return None if response.status == 201 else self._described(call, response)

    def status(self, digest: Digest, session: Session) -> Session | None:
        """How far an upload came; None where the registry does not know it any more."""
        call = self._call(digest, "GET", session.location, expect=(204, 200, 202))
        try:
            with self._connection.send(call) as response:
                return self._described(call, response, session)
        except RegistryError:
            return None

    def patch(self, blob: Digest | str, session: Session, body: Body) -> Session:
        """Send the next bytes; returns the upload as the registry then describes it. Raises RegistryError."""
        end = session.offset + body.size
        headers = {**_STREAM, "Content-Range": f"{session.offset}-{end - 1}"}
        call = self._call(blob, "PATCH", session.location, body=body, expect=(202, 204, 201), headers=headers)
        with self._connection.send(call) as response:
            return self._described(call, response, session, assumed_offset=end)

    def finish(self, digest: Digest, session: Session, body: Body | None = None) -> None:
        """Close an upload with its last bytes, which may be the whole blob; raises RegistryError."""
        location = with_query(session.location, f"digest={digest}")
        call = self._call(digest, "PUT", location, body=body or b"", expect=(201, 200, 204), headers=_STREAM)
        self._connection.send(call).close()

    def cancel(self, blob: Digest | str, session: Session) -> None:
        """Drop an upload; a registry that does not allow that forgets it by itself."""
        with contextlib.suppress(KobuildError):
            call = self._call(blob, "DELETE", session.location, expect=(204, 202, 200), headers=_STREAM)
            self._connection.send(call).close()

    def _described(
        self, call: Call, response: Response, before: Session | None = None, *, assumed_offset: int = 0
    ) -> Session:
        """The upload that an answer describes; raises RegistryError where its place is not known."""
        location = response.headers.get("Location")
        if location is not None:
            place = self._resolve(call, response, location)
        elif before is not None:
            place = before.location
        else:
            raise RegistryError(f"{call.action}: the registry opened an upload and did not say where")
        stored = stored_bytes(response.headers.get("Range"))
        chunk = before.chunk_bytes if before else chunk_bytes(response.headers.get("OCI-Chunk-Min-Length"))
        return Session(place, assumed_offset if stored is None else stored, chunk)

    def _resolve(self, call: Call, response: Response, location: str) -> str:
        try:
            place = resolve_location(self._connection.base(self._repository), response.url, location)
            origin(place)
        except ValueError as error:
            raise RegistryError(f"{call.action}: the registry opened an upload at what is no address") from error
        return place

    def _call(
        self,
        blob: Digest | str,
        method: str,
        path: str,
        *,
        expect: tuple[int, ...],
        body: bytes | Body | None = None,
        headers: dict[str, str] | None = None,
    ) -> Call:
        """What carries `headers` changes the upload, and may not be sent again blindly."""
        return Call(
            f"push blob {blob} to {self._repository}",
            self._repository,
            method,
            path,
            self._scopes,
            headers=headers or {},
            body=body,
            expect=expect,
            retry=headers is None,
            read_seconds=_COMMIT_SECONDS if body is not None else _ANSWER_SECONDS,
        )


def stored_bytes(header: str | None) -> int | None:
    """How many bytes a Range header (`0-1023`, in some registries `bytes=0-1023`) says are stored; None without one.

    `0-0` is what registries write for nothing at all.
    """
    if header is None:
        return None
    start, _, end = header.strip().removeprefix("bytes=").partition("-")
    last = parse_count(end)
    if start != "0" or last is None:
        return None
    return last + 1 if last else 0


def chunk_bytes(least: str | None) -> int:
    """The size of chunks, at least what an `OCI-Chunk-Min-Length` header asks for."""
    wanted = parse_count(least) if least is not None else None
    return min(max(CHUNK_BYTES, wanted or 0), _LARGEST_CHUNK_BYTES)
