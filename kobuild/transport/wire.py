"""One exchange on the wire: requests' adapter with our certificates, our block size, and bodies that count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import requests
import requests.adapters
import requests.utils
import urllib3

from kobuild.errors import SizeMismatch, StorageError
from kobuild.oci.reference import Registry
from kobuild.streams import CHUNK_BYTES, Readable
from kobuild.transport.addresses import netloc, redact
from kobuild.transport.broken import CONNECT_SECONDS, connection_failure
from kobuild.transport.certs import HostTls
from kobuild.transport.messages import Body, Request
from kobuild.transport.tls import make_context

_CONNECTIONS_PER_HOST: Final = 32


def _proxies_for(url: str) -> dict[str, str]:
    """The environment's proxies for the address; loopback is never reached through one."""
    if Registry(netloc(url)).is_loopback:
        return {}
    return requests.utils.get_environ_proxies(url)


def _prepare(request: Request, url: str, headers: Mapping[str, str]) -> requests.PreparedRequest:
    """The request without its body, for `url`, with the user's netrc where that was asked for."""
    prepared = requests.Request(request.method, url, dict(headers)).prepare()
    if request.netrc and "Authorization" not in prepared.headers:
        prepared.prepare_auth(requests.utils.get_netrc_auth(url))
    return prepared


class Adapter(requests.adapters.HTTPAdapter):
    """requests' own adapter, with our certificates, large blocks, and no retries of its own."""

    def __init__(self, environ: Mapping[str, str], host_tls: HostTls | None, *, secure: bool) -> None:
        self._pool_options: dict[str, Any] = {"blocksize": CHUNK_BYTES}
        if secure:
            self._pool_options["ssl_context"] = make_context(environ, host_tls)
        super().__init__(pool_connections=_CONNECTIONS_PER_HOST, pool_maxsize=_CONNECTIONS_PER_HOST)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Make the pools with our options."""
        super().init_poolmanager(connections, maxsize, block, **options, **self._pool_options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Make the pools behind a proxy with our options."""
        return super().proxy_manager_for(proxy, **options, **self._pool_options)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave all to the context, which verifies; requests would add its own bundle of authorities."""
        conn.cert_reqs = "CERT_REQUIRED"

    def exchange(self, request: Request, url: str, headers: Mapping[str, str]) -> Any:
        """Send to `url`; urllib3's answer with its body unread, or FetchError for a connection that failed."""
        try:
            return self._exchange(_prepare(request, url, headers), request, _proxies_for(url))
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            return connection_failure(request.method, url, error, request.read_seconds)

    def _exchange(self, prepared: requests.PreparedRequest, request: Request, proxies: dict[str, str]) -> Any:
        timeout = (CONNECT_SECONDS, request.read_seconds)
        if isinstance(request.body, Body):
            with request.body.open() as reader:
                prepared.headers["Content-Length"] = str(request.body.size)
                prepared.body = _Upload(reader, request.body.size, redact(request.url))  # type: ignore[assignment]
                return self.send(prepared, stream=True, timeout=timeout, proxies=proxies).raw
        if request.body is not None:
            prepared.body = request.body
            prepared.headers["Content-Length"] = str(len(request.body))
        return self.send(prepared, stream=True, timeout=timeout, proxies=proxies).raw


class _Upload:
    """A body under way: counts, and keeps the errors of its own source apart from those of the connection."""

    def __init__(self, reader: Readable, size: int, place: str) -> None:
        self._reader = reader
        self._left = size
        self._size = size
        self._place = place

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes for the connection; raises SizeMismatch for a body of the wrong length."""
        try:
            data = self._reader.read(size)
        except OSError as error:
            raise StorageError(f"read what goes to {self._place}: {error.strerror or error}") from error
        self._left -= len(data)
        if self._left < 0 or (self._left and not data):
            actual = self._size - self._left
            raise SizeMismatch(f"read what goes to {self._place}", expected=self._size, actual=actual)
        return data
