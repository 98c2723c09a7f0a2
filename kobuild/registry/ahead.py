"""Blobs that are sent while they are still being made; their digest comes last, with the closing PUT.

A layer takes about as long to make as to send; done together, a push waits for the longer of the two. It is only ever a
head start: whatever goes wrong here, the blob is asked for and sent in the usual way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from kobuild.errors import KobuildError
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Repository
from kobuild.registry.connection import Connection
from kobuild.registry.pull import RepositoryReader
from kobuild.registry.scopes import push_scope
from kobuild.registry.sessions import CHUNK_BYTES, Session, Uploads
from kobuild.streams import Readable, StoppedError
from kobuild.transport import Body

_LARGEST_STEP_BYTES: Final = 64 * 1024 * 1024
"""What one request carries where making is faster than sending."""


class AheadUploads:
    """A head start for blobs on their way into one repository; safe to use from many threads."""

    def __init__(self, connection: Connection, repository: Repository) -> None:
        scopes = (push_scope(repository),)
        self.repository = repository
        self.reader = RepositoryReader(connection, repository, scopes)
        """For a look at what the repository has, with the login that pushing needs anyway."""
        self._uploads = Uploads(connection, repository, scopes)
        self._blobs: list[AheadBlob] = []
        self._stopped = threading.Event()

    def begin(self, name: str, path: Path, wanted: Callable[[], bool]) -> AheadBlob:
        """A blob that begins to be written at `path`; `name` is for messages.

        `wanted` is asked once, in a thread of its own, when the blob has become large enough to be worth it.
        """
        blob = AheadBlob(self._uploads, name, path, wanted, self._stopped)
        self._blobs.append(blob)
        return blob

    def settle(self, digest: Digest) -> int | None:
        """Wait for a made blob to be there; the bytes sent, or None where it has yet to be pushed."""
        for blob in self._blobs:
            if blob.digest == digest:
                return blob.settle()
        return None

    def close(self) -> None:
        """Let go of what nobody has settled; returns at once."""
        self._stopped.set()
        for blob in self._blobs:
            blob.abandon()


class AheadBlob:
    """One blob: written by one thread, sent by another."""

    def __init__(
        self, uploads: Uploads, name: str, path: Path, wanted: Callable[[], bool], stopped: threading.Event
    ) -> None:
        self._uploads = uploads
        self._name = name
        self._path = path
        self._wanted = wanted
        self._stopped = stopped
        self._changed = threading.Condition()
        self._size = 0
        self._told = 0
        self._abandoned = False
        self._thread: threading.Thread | None = None
        self._sent: int | None = None
        self.digest: Digest | None = None
        """Known once it is made."""

    def grown(self, count: int) -> None:
        """So many more bytes were written to the file, though some may not have come there yet.

        A blob that stays below one chunk is not worth a head start.
        """
        self._size += count
        if self._size - self._told >= CHUNK_BYTES:
            self._told = self._size
            if self._thread is None:
                self._start()
            with self._changed:
                self._changed.notify()

    def finished(self, digest: Digest) -> None:
        """All bytes are in the file, and this is their digest."""
        with self._changed:
            self.digest = digest
            self._changed.notify()

    def abandon(self) -> None:
        """The blob will not be finished, or nobody wants it any more; does nothing to one that is there."""
        with self._changed:
            self._abandoned = True
            self._changed.notify()

    def settle(self) -> int | None:
        """Wait until the finished blob was sent: its size in bytes, or None where that failed or never began."""
        if self._thread is not None:
            self._thread.join()
        return self._sent

    def _start(self) -> None:
        try:
            # Here, not in the thread: the file may be moved as soon as it is whole.
            file = self._path.open("rb", buffering=0)
        except OSError:
            return  # no reason to stop making the blob
        self._thread = threading.Thread(target=self._run, args=(file,), name="kobuild-ahead", daemon=True)
        self._thread.start()

    def _run(self, file: BinaryIO) -> None:
        with file:
            try:
                if self._wanted():
                    self._send(file)
            except (KobuildError, OSError, StoppedError):
                self._sent = None  # the usual way says what is wrong, if it meets it too

    def _send(self, file: BinaryIO) -> None:
        session = self._uploads.start(self._name)
        try:
            while step := self._wait_beyond(file, session.offset, session.chunk_bytes):
                session = self._send_step(file, session, step)
            assert self.digest is not None, "a finished blob has a digest"  # noqa: S101
            self._uploads.finish(self.digest, session)
        except BaseException:
            self._uploads.cancel(self._name, session)
            raise
        self._sent = session.offset

    def _send_step(self, file: BinaryIO, session: Session, size: int) -> Session:
        start = session.offset

        @contextmanager
        def opened() -> Iterator[Readable]:
            yield _Part(file, start, size, self._stopped)

        after = self._uploads.patch(self._name, session, Body(opened, size))
        if after.offset != start + size:
            raise StoppedError  # a registry that stores less than it was sent needs the patience of the usual way
        return after

    def _wait_beyond(self, file: BinaryIO, offset: int, least: int) -> int:
        """How many bytes to send next; 0 at the end. Raises StoppedError when the blob was abandoned."""
        with self._changed:
            while True:
                if self._abandoned and self._sent is None:
                    raise StoppedError
                ready = os.fstat(file.fileno()).st_size - offset
                if self.digest is not None or ready >= least:
                    return min(ready, max(least, _LARGEST_STEP_BYTES))
                self._changed.wait()


class _Part:
    """A part of a file, read by position."""

    def __init__(self, file: BinaryIO, start: int, size: int, stopped: threading.Event) -> None:
        self._file = file
        self._position = start
        self._end = start + size
        self._stopped = stopped

    def read(self, size: int = -1, /) -> bytes:
        if self._stopped.is_set():
            raise StoppedError
        left = self._end - self._position
        data = os.pread(self._file.fileno(), left if size < 0 else min(size, left), self._position)
        self._position += len(data)
        return data
