"""Connections that broke or could not be made, in words without secrets: requests' own texts hold whole addresses."""

from __future__ import annotations

import http.client
from typing import Final

import requests
import urllib3

from kobuild.errors import FetchError
from kobuild.transport.addresses import netloc, redact

CONNECT_SECONDS: Final = 10.0
BROKEN_BODY: Final = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)
"""What reading a body raises where its connection broke."""
_UNSENDABLE: Final = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidProxyURL,
)
_WORDY: Final = (requests.RequestException, urllib3.exceptions.MaxRetryError, urllib3.exceptions.LocationParseError)
"""Errors whose texts may quote headers and addresses."""


def connection_failure(method: str, url: str, error: Exception, read_seconds: float) -> FetchError:
    """The error for a connection that could not be made, or that broke."""
    cause = root_cause(error)
    refused_certificate = "CERTIFICATE_VERIFY_FAILED" in str(cause)
    hint = None
    if refused_certificate:
        hint = (
            f"if its authority is a private one, put it into certs.d/{netloc(url)}/ca.crt or name it in SSL_CERT_FILE"
        )
    elif speaks_no_tls(cause):
        hint = "the server does not speak TLS; if it is meant to be plain HTTP, name the host as insecure"
    failure = FetchError(
        f"{method} {redact(url)}: {describe(cause, read_seconds)}",
        retryable=not refused_certificate and not isinstance(error, _UNSENDABLE),
        hint=hint,
    )
    # requests' errors are OSErrors too, and hold addresses and headers in full.
    is_plain = isinstance(cause, OSError) and not isinstance(cause, requests.RequestException)
    failure.__cause__ = cause if is_plain else None
    return failure


def body_failure(place: str, count: int, error: Exception, read_seconds: float) -> FetchError:
    """The error for a body that broke off after `count` bytes."""
    reason = describe(root_cause(error), read_seconds)
    return FetchError(f"{place}: broke off after {count} bytes: {reason}", retryable=True)


def root_cause(error: BaseException) -> BaseException:
    """The innermost error: the system's own word, with no address in it."""
    for _ in range(20):
        candidates = (getattr(error, "reason", None), error.__cause__, *error.args, error.__context__)
        inner = next((item for item in candidates if isinstance(item, BaseException) and item is not error), None)
        if inner is None:
            break
        error = inner
    return error


def speaks_no_tls(cause: BaseException) -> bool:
    """Whether a handshake failed because the other side answered in plain text."""
    return any(word in str(cause) for word in ("WRONG_VERSION_NUMBER", "record layer failure", "HTTP_REQUEST"))


def describe(cause: BaseException, read_seconds: float) -> str:
    """A few words on a connection's failure."""
    if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError):
        return f"no answer within {CONNECT_SECONDS:.0f} s (connecting) or {read_seconds:.0f} s (waiting)"
    if isinstance(cause, http.client.IncompleteRead | urllib3.exceptions.IncompleteRead):
        return "the body is shorter than announced"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(cause, _WORDY):
        return f"it cannot be sent ({type(cause).__name__})"
    return str(cause) or type(cause).__name__
