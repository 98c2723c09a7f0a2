"""The one HTTP client: schemes, retries and redirects, the same for every caller."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Collection, Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urldefrag, urljoin, urlsplit

from kobuild._version import __version__
from kobuild.errors import FetchError, KobuildError
from kobuild.oci.reference import Registry
from kobuild.progress import NullReporter, Reporter
from kobuild.transport.addresses import hide_queries_in_logs, netloc, origin, redact
from kobuild.transport.certs import HostTls, certs_folders, find_host_tls
from kobuild.transport.failures import refusal, refusal_kind
from kobuild.transport.messages import Request, Response
from kobuild.transport.retrying import RETRYABLE_STATUSES, Backoff, Clock, SystemClock, parse_retry_after
from kobuild.transport.scrubbing import scrub

if TYPE_CHECKING:
    from kobuild.transport.wire import Adapter

_logger = logging.getLogger(__name__)

MAX_REDIRECTS: Final = 10
_ERROR_BODY_BYTES: Final = 64 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CROSS_ORIGIN_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "content-type", "if-range", "range", "user-agent"}
)
"""What may follow a redirect to another origin: no credential can hide in these."""


OFFLINE_HINT: Final = "run the command once without --offline; what it fetches stays in the cache"


class Transport:
    """Sends requests; safe to use from many threads at once."""

    def __init__(
        self,
        *,
        reporter: Reporter | None = None,
        clock: Clock | None = None,
        max_attempts: int = 5,
        backoff: Backoff | None = None,
        insecure_hosts: Collection[str] = (),
        environ: Mapping[str, str] | None = None,
        certs: Sequence[Path] | None = None,
        offline: bool = False,
    ) -> None:
        """Make a transport.

        `insecure_hosts` are those (`host` or `host:port`) that may be spoken to over plain HTTP, beside loopback;
        `certs` are the `certs.d` folders, None for the usual ones; `environ` None is the process's own. With `offline`
        every request fails: what its sender knows of the network's absence is a kindness, this is the promise.
        """
        self._reporter = reporter or NullReporter()
        self._clock = clock or SystemClock()
        self._max_attempts = max_attempts
        self._backoff = backoff or Backoff()
        self._insecure_hosts = frozenset(host.lower() for host in insecure_hosts)
        self._environ = os.environ if environ is None else environ
        self._offline = offline
        self._certs = certs_folders(self._environ) if certs is None else tuple(certs)
        self._adapters: dict[str, Adapter] = {}
        self._host_tls: dict[str, HostTls | None] = {}
        self._lock = threading.Lock()
        hide_queries_in_logs()

    def send(self, request: Request, *, expect: Container[int] = (200,), retry: bool = True) -> Response:
        """Send, follow redirects, and return an answer whose status is in `expect`.

        To another origin go neither credentials nor a body of plain bytes, which may be one.
        A failure that may pass is tried again, unless `retry` is off, up to the attempts allowed, with growing waits; a
        server's Retry-After is kept to when it is within patience. Raises RateLimited for 429, FetchError for every
        other status and for connections that fail, and passes on what opening or reading the body raises.
        """
        if self._offline:
            raise FetchError(f"{redact(request.url)} is needed, and --offline forbids the network", hint=OFFLINE_HINT)
        attempts = self._max_attempts if retry else 1
        for attempt in range(1, attempts + 1):
            outcome = self._follow(request, expect)
            if isinstance(outcome, Response):
                return outcome
            wait = self._wait_before_next(outcome, attempt)
            if attempt == attempts or wait is None:
                raise outcome
            self._pause(f"{outcome}; trying again in {wait:.1f} s ({attempt + 1} of {attempts})", wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    @property
    def clock(self) -> Clock:
        """The clock that waits are measured by."""
        return self._clock

    def pause(self, failure: Exception, attempt: int) -> None:
        """Wait before the next attempt of something larger than one request, and say so; the first attempt is 1."""
        wait = self._backoff.delay(attempt)
        self._pause(f"{failure}; going on in {wait:.1f} s", wait)

    def _pause(self, text: str, seconds: float) -> None:
        self._reporter.notice(text)
        self._clock.sleep(seconds)

    def close(self) -> None:
        """Close all pooled connections."""
        with self._lock:
            adapters = list(self._adapters.values())
            self._adapters.clear()
        for adapter in adapters:
            adapter.close()

    def may_use_plain_http(self, host: str) -> bool:
        """Whether `host[:port]` is loopback or was named as insecure."""
        bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        return Registry(host).is_loopback or not self._insecure_hosts.isdisjoint({host.lower(), bare.lower()})

    def _wait_before_next(self, failure: FetchError, attempt: int) -> float | None:
        """Seconds until the next attempt; None where there should be none."""
        if not failure.retryable:
            return None
        asked = parse_retry_after(failure.headers.get("Retry-After"), self._clock.now())
        if asked is not None and asked > self._backoff.patience:
            failure.hint = f"the server asks to wait {asked:.0f} s; run the command again after that"
            return None
        return self._backoff.delay(attempt, asked)

    def _follow(self, request: Request, expect: Container[int]) -> Response | FetchError:
        url = request.url
        headers = {"User-Agent": f"kobuild/{__version__}", **request.headers}
        headers.setdefault("Accept-Encoding", "gzip" if request.compressed else "identity")
        for _ in range(MAX_REDIRECTS + 1):
            response = self._exchange(request, url, headers)
            if isinstance(response, FetchError):
                return response
            if response.status in expect:
                return response
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None or not _may_redirect(request, response.status):
                return _refusal(response, request)
            target = _target(url, location)
            if target is None or origin(target) != origin(url):
                if target is None or isinstance(request.body, bytes):
                    return _refusal(response, request)
                headers = {name: value for name, value in headers.items() if name.lower() in _CROSS_ORIGIN_HEADERS}
            response.close()
            url = target
        return FetchError(f"{request.method} {redact(request.url)}: more than {MAX_REDIRECTS} redirects")

    def _exchange(self, request: Request, url: str, headers: Mapping[str, str]) -> Response | FetchError:
        """One request and its answer's head; a failure of the connection comes back as a value."""
        self._check_scheme(request, url)
        raw = self._adapter(url).exchange(request, url, headers)
        if isinstance(raw, FetchError):
            return raw
        _logger.debug("%s %s: %s", request.method, redact(url), raw.status)
        return Response(raw, request, url)

    def _check_scheme(self, request: Request, url: str) -> None:
        place = f"{request.method} {redact(url)}"
        try:
            scheme, host, _ = origin(url)
        except ValueError as error:
            raise FetchError(f"{place}: not an address: {error}") from error
        if scheme == "https" and host:
            return
        if scheme != "http" or not host:
            raise FetchError(f"{place}: not an https address")
        if not self.may_use_plain_http(netloc(url)):
            raise FetchError(
                f"{place}: plain HTTP is refused, since anyone on the way could read and change it",
                hint="use https; plain HTTP is for loopback, and for hosts that are named as insecure",
            )

    def _adapter(self, url: str) -> Adapter:
        """The pool for the address; hosts with certificates of their own have their own."""
        # Here, not above: half of a short command's time would be the import of requests, which many need not.
        from kobuild.transport.wire import Adapter  # noqa: PLC0415

        parts = urlsplit(url)
        secure = parts.scheme.lower() == "https"
        with self._lock:
            host_tls = self._find_host_tls(netloc(url)) if secure else None
            key = netloc(url) if host_tls else parts.scheme.lower()
            if key not in self._adapters:
                self._adapters[key] = Adapter(self._environ, host_tls, secure=secure)
            return self._adapters[key]

    def _find_host_tls(self, host: str) -> HostTls | None:
        """What the host needs beside the system's store; looked for once."""
        if host not in self._host_tls:
            self._host_tls[host] = find_host_tls(host, self._certs)
        return self._host_tls[host]


def _target(url: str, location: str) -> str | None:
    """Where a Location leads; None where that is no address."""
    try:
        target = urldefrag(urljoin(url, location)).url
        origin(target)
    except ValueError:
        return None
    return target


def _may_redirect(request: Request, status: int) -> bool:
    """Whether the request can be sent again to another place; only 307 and 308 keep a body (RFC 9110, 15.4)."""
    return request.method in ("GET", "HEAD") or status in (307, 308)


def _refusal(response: Response, request: Request) -> FetchError:
    """The error for an answer with a status that was not expected."""
    body = b""
    with contextlib.suppress(KobuildError), response:
        body = scrub(response.read(_ERROR_BODY_BYTES), request.headers, request.body)
    return refusal_kind(response.status)(
        refusal(response.place, response.status, body),
        status=response.status,
        body=body,
        headers=response.headers,
        retryable=response.status in RETRYABLE_STATUSES,
    )
