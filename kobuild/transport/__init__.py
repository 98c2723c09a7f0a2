"""HTTP for everything else; only this room imports `requests`.

One `Transport` serves a whole process, from any number of threads. It decides, once for all callers: timeouts, pooled
connections, retries, redirects and what is sent along them, which certificates count, where plain HTTP is allowed, and
that no secret reaches a message.
"""

from __future__ import annotations

from kobuild.transport.addresses import netloc, origin, redact
from kobuild.transport.client import OFFLINE_HINT, Transport
from kobuild.transport.messages import Body, Request, Response
from kobuild.transport.retrying import Backoff, Clock, SystemClock, parse_retry_after

__all__ = [
    "OFFLINE_HINT",
    "Backoff",
    "Body",
    "Clock",
    "Request",
    "Response",
    "SystemClock",
    "Transport",
    "netloc",
    "origin",
    "parse_retry_after",
    "redact",
]
