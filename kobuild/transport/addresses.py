"""Addresses: what decides where a credential may go, and what of an address may be shown."""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

_SHOWN_QUERY: Final = frozenset(
    {"digest", "mount", "from", "scope", "service", "mode", "include", "page", "per_page", "n"}
)
"""Query names whose values are no secrets; all others are hidden in messages."""


def redact(url: str) -> str:
    """The address for a message: no user, no password, and no query value that is not known to be harmless."""
    try:
        parts = urlsplit(url)
        place = netloc(url)
        query = "&".join(
            f"{name}={value if name in _SHOWN_QUERY else '…'}"
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
        )
    except ValueError:
        return "(an address that cannot be parsed)"
    return urlunsplit((parts.scheme, place, parts.path, query, ""))


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port (RFC 6454): what decides whether a credential may go along. Raises ValueError."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    port = parts.port if parts.port is not None else {"http": 80, "https": 443}.get(scheme, 0)
    return scheme, (parts.hostname or "").lower(), port


def netloc(url: str) -> str:
    """`host[:port]` as it stands in the address, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


class _QueryFilter(logging.Filter):
    """Hides query values in urllib3's own debug lines: signed addresses are secrets."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without query values."""
        if isinstance(record.args, tuple):
            record.args = tuple(redact(item) if isinstance(item, str) and "?" in item else item for item in record.args)
        return True


def hide_queries_in_logs() -> None:
    """Make urllib3's debug lines safe to keep; asking twice is once."""
    logger = logging.getLogger("urllib3.connectionpool")
    if not any(isinstance(item, _QueryFilter) for item in logger.filters):
        logger.addFilter(_QueryFilter())
