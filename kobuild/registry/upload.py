"""One blob's way into a repository: asked for, mounted, sent whole, or sent on in chunks after a break.

A blob goes as one streaming PUT. When that breaks, the registry is asked how far it came, and the rest goes in chunks,
each a request of its own: behind a gateway that cuts every long request, sending the whole again could never end well.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from typing import Final

from kobuild.errors import AuthError, RegistryError, SizeMismatch
from kobuild.image.blobs import Blob
from kobuild.oci.reference import Repository
from kobuild.progress import Transfer
from kobuild.registry.connection import Connection
from kobuild.registry.parallel import Stop, StoppableReader
from kobuild.registry.pull import RepositoryReader
from kobuild.registry.scopes import Scopes
from kobuild.registry.sessions import Session, Uploads
from kobuild.streams import CHUNK_BYTES, Readable
from kobuild.transport import Body

_ATTEMPTS: Final = 6
"""How often a blob's upload may fail without one more chunk stored."""
_ALL_ATTEMPTS: Final = 30
"""How often it may fail in all: docker-registry forgets a whole upload when one of its chunks breaks."""
_TOO_LARGE: Final = 413
_LARGE_BYTES: Final = 4 * 1024 * 1024
_LARGE_UPLOADS: Final = 4
"""How many blobs beyond `_LARGE_BYTES` go at once: more would share one line, and each take longer for it."""
_REFUSED_CHUNK: Final = (400, 404, 405, 416)
"""Answers to a chunk after which the whole may still be taken."""


class Outcome(Enum):
    """How a blob came to be in the repository."""

    EXISTING = "already there"
    MOUNTED = "mounted"
    UPLOADED = "uploaded"


class BlobPusher:
    """Puts blobs into one repository; safe to use from many threads."""

    def __init__(self, connection: Connection, repository: Repository, scopes: Scopes, stop: Stop) -> None:
        self._connection = connection
        self._stop = stop
        self._reader = RepositoryReader(connection, repository, scopes)
        self._uploads = Uploads(connection, repository, scopes)
        self._unmountable: set[Repository] = set()
        self._large_uploads = threading.Semaphore(_LARGE_UPLOADS)

    def push(self, blob: Blob, mount_from: Repository | None, transfer: Transfer) -> tuple[Outcome, int]:
        """See to it that the blob is there; returns how, and the bytes sent.

        `mount_from` is a repository of the same registry that has it. Raises RegistryError, and what reading it raises.
        """
        self._stop.check()
        digest = blob.descriptor.digest
        session = None
        if mount_from is not None and mount_from not in self._unmountable:
            mounted, session = self._mount(blob, mount_from)
            if mounted:
                transfer.done(f"mounted from {mount_from.path}")
                return Outcome.MOUNTED, 0
        if self._has(blob):
            if session is not None:
                self._uploads.cancel(digest, session)
            transfer.done(Outcome.EXISTING.value)
            return Outcome.EXISTING, 0
        sent = self._upload(blob, session, transfer)
        transfer.done()
        return Outcome.UPLOADED, sent

    def _upload(self, blob: Blob, session: Session | None, transfer: Transfer) -> int:
        """Send the blob; returns the bytes sent."""
        with self._large_uploads if blob.descriptor.size > _LARGE_BYTES else contextlib.nullcontext():
            self._stop.check()
            upload = _Upload(self._connection, self._reader, self._uploads, blob, _Counter(transfer, self._stop))
            upload.run(session or self._uploads.start(blob.descriptor.digest))
            return upload.sent

    def _has(self, blob: Blob) -> bool:
        try:
            return self._reader.has_blob(blob.descriptor)
        except AuthError as error:
            if error.may_mean_absence:
                return False
            raise

    def _mount(self, blob: Blob, source: Repository) -> tuple[bool, Session | None]:
        """Whether the blob was mounted, and the upload that was opened instead; any refusal means an upload."""
        try:
            session = self._uploads.mount(blob.descriptor.digest, source)
        except RegistryError as error:
            if error.status is None:
                raise
            self._unmountable.add(source)
            return False, None
        return session is None, session


class _Upload:
    """One blob's upload, through breaks."""

    def __init__(
        self, connection: Connection, reader: RepositoryReader, uploads: Uploads, blob: Blob, counter: _Counter
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._uploads = uploads
        self._blob = blob
        self._digest = blob.descriptor.digest
        self._size = blob.descriptor.size
        self._counter = counter
        self._failures = 0
        self._all_failures = 0
        self._chunked = False

    @property
    def sent(self) -> int:
        """Bytes handed to connections, those of failed attempts too."""
        return self._counter.sent

    def run(self, session: Session) -> None:
        """Send until the blob is there; raises RegistryError when going on is hopeless."""
        current: Session | None = session
        while current is not None:
            current = self._attempt(current)

    def _attempt(self, session: Session) -> Session | None:
        """Try once; None when it is done, else the upload to go on with."""
        try:
            if self._chunked:
                self._send_chunks(session)
            else:
                self._uploads.finish(self._digest, session, Body(self._open_whole, self._size))
        except RegistryError as error:
            return self._after_failure(session, error)
        except BaseException:
            self._uploads.cancel(self._digest, session)
            raise
        return None

    def _after_failure(self, session: Session, error: RegistryError) -> Session | None:
        """How to go on after a failure: None when the blob is there after all; raises `error` when it is hopeless."""
        self._failures += 1
        self._all_failures += 1
        refused_chunk = self._chunked and error.status in _REFUSED_CHUNK
        hopeless = self._failures > _ATTEMPTS or self._all_failures > _ALL_ATTEMPTS
        if hopeless or not (error.retryable or error.status == _TOO_LARGE or refused_chunk):
            self._uploads.cancel(self._digest, session)
            raise error
        self._connection.transport.pause(error, self._failures)
        if self._is_there():
            return None
        if error.status == _TOO_LARGE:
            session = replace(session, chunk_bytes=session.chunk_bytes // 4)
        self._chunked = self._size > session.chunk_bytes and not refused_chunk
        known = self._uploads.status(self._digest, session) if self._chunked else None
        if known is not None and known.offset <= self._size:
            return known
        self._uploads.cancel(self._digest, session)
        return replace(self._uploads.start(self._digest), chunk_bytes=session.chunk_bytes)

    def _is_there(self) -> bool:
        """Whether the blob is there: only the answer may have been lost."""
        with contextlib.suppress(RegistryError):
            return self._reader.has_blob(self._blob.descriptor)
        return False

    def _send_chunks(self, session: Session) -> None:
        with self._blob.source.open() as reader:
            _skip(reader, session.offset)
            while session.offset < self._size:
                chunk = _read_exactly(reader, min(session.chunk_bytes, self._size - session.offset))
                session = self._send_chunk(session, chunk)
        self._uploads.finish(self._digest, session)

    def _send_chunk(self, session: Session, chunk: bytes) -> Session:
        @contextlib.contextmanager
        def opened() -> Iterator[Readable]:
            yield self._counter.over(io.BytesIO(chunk), session.offset)

        expected = session.offset + len(chunk)
        after = self._uploads.patch(self._digest, session, Body(opened, len(chunk)))
        if after.offset != expected:
            text = f"push blob {self._digest}: the registry has {after.offset} bytes of it, not {expected}"
            raise RegistryError(text, retryable=True)
        self._failures = 0
        return after

    @contextlib.contextmanager
    def _open_whole(self) -> Iterator[Readable]:
        with self._blob.source.open() as reader:
            yield self._counter.over(reader, 0)


class _Counter:
    """Bytes sent in all, and how far the transfer's mark has been moved; a second sending does not move it again."""

    def __init__(self, transfer: Transfer, stop: Stop) -> None:
        self._transfer = transfer
        self._stop = stop
        self._mark = 0
        self.sent = 0

    def over(self, source: Readable, position: int) -> _CountingReader:
        """A reader whose first byte is the blob's at `position`."""
        return _CountingReader(StoppableReader(source, self._stop), self, position)

    def count(self, number: int, position: int) -> None:
        """So many bytes were handed to the connection, and the blob was sent up to `position`."""
        self.sent += number
        if position > self._mark:
            self._transfer.advance(position - self._mark)
            self._mark = position


class _CountingReader:
    """Counts what passes."""

    def __init__(self, source: Readable, counter: _Counter, position: int) -> None:
        self._source = source
        self._counter = counter
        self._position = position

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes."""
        data = self._source.read(size)
        self._position += len(data)
        self._counter.count(len(data), self._position)
        return data


def _read_exactly(reader: Readable, count: int) -> bytes:
    parts: list[bytes] = []
    missing = count
    while missing and (data := reader.read(min(CHUNK_BYTES, missing))):
        parts.append(data)
        missing -= len(data)
    if missing:
        raise SizeMismatch("read a blob to push", expected=count, actual=count - missing)
    return b"".join(parts)


def _skip(reader: Readable, count: int) -> None:
    while count > 0:
        count -= len(_read_exactly(reader, min(CHUNK_BYTES, count)))
