"""Release pages and dates as sources tell them, for people to read; nothing is fetched from them."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Final

from kobuild.oci.config import format_time
from kobuild.transport import redact

_PAGE: Final = re.compile(r"https?://[^\s/@\"'<>]+(/[^\s\"'<>]*)?\Z")
_MAX_LETTERS: Final = 500


def page_address(text: object) -> str:
    """An address that may be shown and followed; empty for anything else, or where it holds what could be a secret."""
    if not isinstance(text, str) or len(text) > _MAX_LETTERS or not text.isprintable() or not _PAGE.match(text):
        return ""
    page = text.partition("#")[0]  # a fragment is hidden as a query is
    return page if redact(page) == page else ""


def read_time(text: object) -> str:
    """A date or time as RFC 3339 in UTC, to the second; empty for what is neither."""
    if not isinstance(text, str) or len(text) > _MAX_LETTERS:
        return ""
    try:
        found = datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", text.strip()))
        aware = found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
        return format_time(aware.astimezone(timezone.utc).replace(microsecond=0))
    except (ValueError, OverflowError):
        return ""
