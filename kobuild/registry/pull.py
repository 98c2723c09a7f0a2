"""Reading: manifests whose digest is checked over the exact bytes, and blobs that survive broken connections."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from typing import Final

from kobuild.errors import DigestMismatch, FetchError, MalformedDocument, NotFound, RegistryError, SizeMismatch
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest, document_media_type
from kobuild.oci.reference import Repository
from kobuild.registry.connection import Call, Connection
from kobuild.registry.headers import parse_count
from kobuild.registry.scopes import Scopes, pull_scope
from kobuild.streams import CHUNK_BYTES, Readable, VerifyingReader
from kobuild.transport import Request, Response

_logger = logging.getLogger(__name__)

ACCEPT: Final = ", ".join(sorted(mediatypes.MANIFESTS | mediatypes.INDEXES))
_IDLE_FAILURES: Final = 5
"""How often a blob may break in a row without one more byte."""
_ALL_FAILURES: Final = 50


class RepositoryReader:
    """Reads from one repository under one set of scopes."""

    def __init__(self, connection: Connection, repository: Repository, scopes: Scopes | None = None) -> None:
        self._connection = connection
        self._repository = repository
        self._scopes = scopes or (pull_scope(repository),)

    def manifest(self, identifier: str, digest: Digest | None = None) -> Manifest | Index:
        """The manifest or index of a tag or digest; `digest`, where known, is checked over the exact bytes.

        Raises NotFound, other RegistryErrors, DigestMismatch, SizeMismatch beyond 4 MiB, and MalformedDocument.
        """
        place = self._place(identifier)
        call = self._call(f"read manifest {place}", "GET", f"manifests/{identifier}", {"Accept": ACCEPT})
        response, raw = self._connection.read(call, jsonio.MAX_DOCUMENT_BYTES)
        if digest is not None:
            check_bytes(raw, digest, f"manifest {place}")
        else:
            self._compare_header(raw, response.headers, place)
        return parse_document(raw, response.headers.get("Content-Type"), f"manifest {place}")

    def head_manifest(self, identifier: str) -> Descriptor | None:
        """What a tag or digest points at, without its bytes; None where there is no such manifest."""
        action = f"look for manifest {self._place(identifier)}"
        call = self._call(action, "HEAD", f"manifests/{identifier}", {"Accept": ACCEPT})
        try:
            with self._connection.send(call) as response:
                found = _described(response.headers)
        except NotFound:
            return None
        # A few proxies leave the digest out: then only the bytes can tell.
        return found if found is not None else self.manifest(identifier).descriptor

    def has_tags(self) -> bool:
        """Whether the repository has any tag; raises RegistryError."""
        call = self._call(f"look for tags in {self._repository}", "GET", "tags/list?n=1")
        try:
            _, raw = self._connection.read(call, jsonio.MAX_DOCUMENT_BYTES)
        except NotFound:
            return False
        return bool(jsonio.parse_object(raw, f"tags of {self._repository}").get("tags"))

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the repository has the blob; raises RegistryError for any answer but yes and no."""
        action = f"look for blob {descriptor.digest} in {self._repository}"
        try:
            self._connection.send(self._call(action, "HEAD", f"blobs/{descriptor.digest}")).close()
        except NotFound:
            return False
        return True

    @contextlib.contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Readable]:
        """Open a blob: verified, and resumed where its connection breaks; the reader raises RegistryError."""
        if descriptor.data is not None:
            yield io.BytesIO(descriptor.data)
            return
        place = f"blob {descriptor.digest} of {self._repository}"
        with contextlib.closing(_ResumingReader(self, descriptor)) as reader:
            yield VerifyingReader(reader, digest=descriptor.digest, size=descriptor.size, place=place)

    def read_range(self, descriptor: Descriptor, start: int, size: int) -> bytes:
        """Exactly `size` bytes of a blob from `start` on, not verified; raises RegistryError.

        A server that does not know ranges sends all up to there, which is skipped.
        """
        if descriptor.data is not None:
            return descriptor.data[start : start + size]
        call = self._blob_call(descriptor, {"Range": f"bytes={start}-{start + size - 1}"})
        attempt = 1
        while True:
            try:
                with self._connection.send(call) as response:
                    return _read_part(response, start, size)
            except FetchError as error:
                if attempt == _IDLE_FAILURES or not error.retryable:
                    raise self.blob_error(descriptor, error) from error
                self.pause(error, attempt)
            attempt += 1

    def request_blob(self, descriptor: Descriptor, offset: int) -> Response:
        """An answer with the blob's bytes, those from `offset` on where the server can; raises RegistryError."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if mediatypes.is_foreign(descriptor.media_type):
            elsewhere = self._request_foreign(descriptor, headers)
            if elsewhere is not None:
                return elsewhere
        call = self._blob_call(descriptor, headers)
        return self._connection.send(call)

    def blob_error(self, descriptor: Descriptor, failure: FetchError) -> Exception:
        """The error for a blob whose body broke."""
        return self._connection.error(self._blob_call(descriptor, {}), failure)

    def pause(self, failure: Exception, attempt: int) -> None:
        """Wait before going on."""
        self._connection.transport.pause(failure, attempt)

    def _request_foreign(self, descriptor: Descriptor, headers: Mapping[str, str]) -> Response | None:
        """A foreign layer from the addresses that its descriptor names; None where none of them has it."""
        answers = (self._request_address(url, headers) for url in descriptor.urls)
        return next((answer for answer in answers if answer is not None), None)

    def _request_address(self, url: str, headers: Mapping[str, str]) -> Response | None:
        try:
            return self._connection.transport.send(Request("GET", url, headers), expect=(200, 206))
        except FetchError as error:
            _logger.debug("foreign layer: %s", error)
            return None

    def _blob_call(self, descriptor: Descriptor, headers: Mapping[str, str]) -> Call:
        action = f"read blob {descriptor.digest} of {self._repository}"
        return self._call(action, "GET", f"blobs/{descriptor.digest}", headers, expect=(200, 206))

    def _call(
        self,
        action: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        expect: tuple[int, ...] = (200,),
    ) -> Call:
        return Call(action, self._repository, method, path, self._scopes, headers or {}, expect=expect)

    def _place(self, identifier: str) -> str:
        return f"{self._repository}{'@' if ':' in identifier else ':'}{identifier}"

    def _compare_header(self, raw: bytes, headers: Mapping[str, str], place: str) -> None:
        """Note a digest header that does not fit the bytes; what was read decides, and is what gets locked."""
        promised = _digest_header(headers)
        if promised is not None and not _fits(raw, promised):
            _logger.warning("manifest %s: the registry's Docker-Content-Digest is not that of the bytes", place)


class _ResumingReader:
    """A blob's bytes; when the connection breaks, asks for the rest by Range, a bounded number of times."""

    def __init__(self, reader: RepositoryReader, descriptor: Descriptor) -> None:
        self._reader = reader
        self._descriptor = descriptor
        self._offset = 0
        self._idle_failures = 0
        self._failures = 0
        self._response: Response | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes; raises RegistryError when going on is hopeless."""
        while (data := self._try_to_read(size)) is None:
            pass
        return data

    def close(self) -> None:
        """Give the connection back."""
        if self._response is not None:
            self._response.close()
            self._response = None

    def _try_to_read(self, size: int) -> bytes | None:
        """The next bytes; None after a failure that does not end it all."""
        try:
            data = self._read_once(size)
        except FetchError as error:
            self._count_failure(error)
            return None
        self._offset += len(data)
        if data:
            self._idle_failures = 0
        return data

    def _read_once(self, size: int) -> bytes:
        if self._response is None:
            self._response = self._open()
        data = self._response.read(size)
        if not data and size != 0 and self._offset < self._descriptor.size:
            # Without a Content-Length an early end looks like a good one.
            missing = self._descriptor.size - self._offset
            raise FetchError(f"{self._response.place}: ended {missing} bytes early", retryable=True)
        return data

    def _open(self) -> Response:
        response = self._reader.request_blob(self._descriptor, self._offset)
        start = _range_start(response)
        if start > self._offset:
            response.close()
            raise FetchError(f"{response.place}: it answers with other bytes than were asked for")
        _skip(response, self._offset - start)
        return response

    def _count_failure(self, error: FetchError) -> None:
        self.close()
        self._failures += 1
        self._idle_failures += 1
        hopeless = self._idle_failures > _IDLE_FAILURES or self._failures > _ALL_FAILURES
        if hopeless or not error.retryable:
            raise self._reader.blob_error(self._descriptor, error) from error
        self._reader.pause(error, self._idle_failures)


def check_bytes(raw: bytes, digest: Digest, place: str, size: int | None = None) -> None:
    """Raise SizeMismatch or DigestMismatch unless `raw` is what was promised."""
    if size is not None and len(raw) != size:
        raise SizeMismatch(place, expected=size, actual=len(raw))
    if not _fits(raw, digest):
        hasher = digest.hasher()
        hasher.update(raw)
        raise DigestMismatch(place, expected=str(digest), actual=f"{digest.algorithm}:{hasher.hexdigest()}")


def parse_document(raw: bytes, content_type: str | None, what: str) -> Manifest | Index:
    """Read a manifest or an index, whichever it says it is; raises MalformedDocument."""
    media_type = document_media_type(jsonio.parse_object(raw, what), content_type, what)
    if media_type in mediatypes.INDEXES:
        return Index.from_bytes(raw, media_type=media_type, what=what)
    return Manifest.from_bytes(raw, media_type=media_type, what=what)


def _fits(raw: bytes, digest: Digest) -> bool:
    hasher = digest.hasher()
    hasher.update(raw)
    return hasher.hexdigest() == digest.hex


def _digest_header(headers: Mapping[str, str]) -> Digest | None:
    try:
        return Digest.parse(headers.get("Docker-Content-Digest", ""))
    except MalformedDocument:
        return None


def _described(headers: Mapping[str, str]) -> Descriptor | None:
    """The descriptor that a HEAD's headers give; None where they are not whole."""
    digest = _digest_header(headers)
    length = parse_count(headers.get("Content-Length", ""))
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if digest is None or length is None or not media_type:
        return None
    return Descriptor(media_type, digest, length)


def _range_start(response: Response) -> int:
    """Where an answer's bytes start: 206 says so in Content-Range, 200 is the whole."""
    if response.status != 206:
        return 0
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    start = parse_count(rest.partition("-")[0])
    if unit.lower() != "bytes" or start is None:
        raise RegistryError(f"{response.place}: 206 without a Content-Range that can be read")
    return start


def _read_part(response: Response, start: int, size: int) -> bytes:
    """Read `size` bytes from `start` of an answer that may begin before them."""
    first = _range_start(response)
    if first > start:
        raise FetchError(f"{response.place}: it answers with other bytes than were asked for")
    _skip(response, start - first)
    parts: list[bytes] = []
    while size > 0:
        data = response.read(min(CHUNK_BYTES, size))
        if not data:
            raise FetchError(f"{response.place}: ended {size} bytes early", retryable=True)
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _skip(response: Response, count: int) -> None:
    while count > 0:
        data = response.read(min(CHUNK_BYTES, count))
        if not data:
            raise FetchError(f"{response.place}: ended early", retryable=True)
        count -= len(data)
