"""Secrets that were sent, taken out of what comes back: some servers repeat what they were given."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl

_SECRET_HEADERS: Final = frozenset({"authorization", "cookie", "private-token", "x-api-key"})
_SECRET_FIELDS: Final = frozenset({"password", "refresh_token", "client_secret", "access_token"})
_LEAST_BYTES: Final = 4
"""Shorter ones are no secrets worth the name, and would tear ordinary words apart."""
_MASK: Final = b"***"


def scrub(text: bytes, headers: Mapping[str, str], body: object) -> bytes:
    """`text` without any credential of a request's headers and form."""
    for secret in sorted(set(_secrets(headers, body)), key=len, reverse=True):
        if len(secret) >= _LEAST_BYTES:
            text = text.replace(secret, _MASK)
    return text


def _secrets(headers: Mapping[str, str], body: object) -> Iterator[bytes]:
    for name, value in headers.items():
        if name.lower() in _SECRET_HEADERS:
            scheme, _, credential = value.partition(" ")
            yield (credential or value).encode()
            if scheme.lower() == "basic":
                yield from _basic_parts(credential)
    if isinstance(body, bytes) and len(body) < 64 * 1024:
        yield from (value for name, value in parse_qsl(body) if name.decode("ascii", "replace") in _SECRET_FIELDS)


def _basic_parts(credential: str) -> Iterator[bytes]:
    try:
        pair = base64.b64decode(credential)
    except (binascii.Error, ValueError):
        return
    yield pair
    yield pair.partition(b":")[2]
