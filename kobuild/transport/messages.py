"""Requests and answers as values; an answer's body streams."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import field
from types import TracebackType
from typing import Any, Final, final

from kobuild.frozen import frozen
from kobuild.streams import Readable, read_bounded
from kobuild.transport.addresses import redact

_READ_SECONDS: Final = 60.0
"""How long a server may say nothing before the connection counts as broken."""
_DRAIN_BYTES: Final = 64 * 1024
"""An unread rest up to this is read to the end, so that its connection can be used again."""


@frozen
class Body:
    """A request body that can be opened again for each attempt."""

    open: Callable[[], AbstractContextManager[Readable]]
    size: int
    """In bytes; the opened reader must give exactly this many."""


@frozen
class Request:
    """One request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Not shown: they may hold a credential."""
    body: bytes | Body | None = field(default=None, repr=False)
    compressed: bool = False
    """Let the server compress the body; for documents, never for archives and blobs, whose bytes count."""
    netrc: bool = False
    """Use the user's netrc file where no Authorization is given; for downloads, never for registries."""
    read_seconds: float = _READ_SECONDS
    """How long the server may say nothing."""


@final
class Response:
    """An answer whose body streams; a context manager that gives the connection back."""

    def __init__(self, raw: Any, request: Request, url: str) -> None:
        self._raw = raw
        self._raw.enforce_content_length = True
        self._request = request
        self._count = 0
        self.url = url
        """After redirects."""
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers
        """Names are case-insensitive; repeated headers are joined by commas."""

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes; raises FetchError for a body that breaks or ends before its Content-Length."""
        if size == 0:
            return b""
        from kobuild.transport import broken  # noqa: PLC0415 - as in client.py

        try:
            data: bytes = self._raw.read(size if size > 0 else None, decode_content=self._request.compressed)
        except broken.BROKEN_BODY as error:
            self._raw.close()
            failure = broken.body_failure(self.place, self._count, error, self._request.read_seconds)
        else:
            self._count += len(data)
            return data
        raise failure

    def read_all(self, limit_bytes: int) -> bytes:
        """Read to the end and close; raises SizeMismatch beyond `limit_bytes`."""
        with self:
            return read_bounded(self, limit_bytes, self.place)

    @property
    def place(self) -> str:
        """Method and address, for messages."""
        return f"{self._request.method} {redact(self.url)}"

    def close(self) -> None:
        """Give the connection back; one with a long rest of a body on it is closed."""
        rest = self._raw.length_remaining
        if rest is not None and rest <= _DRAIN_BYTES:
            with contextlib.suppress(Exception):
                self._raw.drain_conn()
        else:
            self._raw.close()
        self._raw.release_conn()

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
