"""Where a registry's API is: its host and the scheme that it speaks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit, urlunsplit

from kobuild.errors import FetchError, RegistryError
from kobuild.oci.reference import Registry
from kobuild.transport import Request, Transport

_SNIFFED_BYTES: Final = 4096


class _AnyStatus(Container[int]):
    """Every status is an answer to a question for the scheme."""

    def __contains__(self, status: object) -> bool:
        return True


class Endpoints:
    """The base address of each registry; asked for once."""

    def __init__(self, transport: Transport, learn: Callable[[str, Mapping[str, str]], None]) -> None:
        """`learn` is given the base and the headers of the first answer: it may hold a challenge."""
        self._transport = transport
        self._learn = learn
        self._bases: dict[Registry, str] = {}
        self._locks: dict[Registry, threading.Lock] = {}
        self._lock = threading.Lock()

    def base(self, registry: Registry) -> str:
        """`https://HOST`, or `http://HOST` where that is allowed and spoken; raises RegistryError."""
        with self._lock:
            lock = self._locks.setdefault(registry, threading.Lock())
        with lock:
            if registry not in self._bases:
                self._bases[registry] = self._find(registry)
            return self._bases[registry]

    def _find(self, registry: Registry) -> str:
        secure, plain = f"https://{registry.endpoint}", f"http://{registry.endpoint}"
        if not self._transport.may_use_plain_http(registry.endpoint):
            return secure
        # On loopback nobody can listen, and plain HTTP is the rule; elsewhere what is safer goes first.
        first, second = (plain, secure) if registry.is_loopback else (secure, plain)
        for base in (first, second):
            found = self._try(base, plain, secure)
            if found is not None:
                return found
        return self._insist(registry, first, plain, secure)

    def _try(self, base: str, plain: str, secure: str) -> str | None:
        """The base that answers, asked once; None where none does."""
        try:
            return self._ask(base, plain, secure, retry=False)
        except FetchError:
            return None

    def _insist(self, registry: Registry, base: str, plain: str, secure: str) -> str:
        """The base, asked as often as anything else is; raises RegistryError."""
        try:
            return self._ask(base, plain, secure, retry=True)
        except FetchError as error:
            message = f"reach registry {registry}: {error}"
            raise RegistryError(message, status=error.status, retryable=error.retryable, hint=error.hint) from error

    def _ask(self, base: str, plain: str, secure: str, *, retry: bool) -> str:
        """Where the API is: at `base`, or, for a TLS server that was spoken to in plain text, at `secure`."""
        with self._transport.send(Request("GET", f"{base}/v2/"), expect=_AnyStatus(), retry=retry) as response:
            if base == plain and response.status == 400 and b"HTTPS" in response.read(_SNIFFED_BYTES):
                return secure
            # Any status is an answer here, a redirect too: a challenge is never that of another host.
            self._learn(base, response.headers)
        return base


def resolve_location(base: str, requested: str, location: str) -> str:
    """The address that a Location header means.

    A registry behind a proxy may call itself `http://` when it is spoken to over TLS; that is put right, since plain
    HTTP would be refused, and should be.
    """
    target = urljoin(requested, location)
    here, there = urlsplit(base), urlsplit(target)
    if here.scheme == "https" and there.scheme == "http" and here.hostname == there.hostname:
        return urlunsplit((here.scheme, here.netloc, there.path, there.query, ""))
    return target


def with_query(url: str, addition: str) -> str:
    """`url` with a query part added to those that it has."""
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, addition) if part)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
