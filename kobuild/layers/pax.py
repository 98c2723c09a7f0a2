"""pax extended headers: POSIX.1-2017, pax, "pax Extended Header"."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from kobuild.errors import ArchiveError

_TIME: Final = re.compile(rb"-?[0-9]{1,18}(\.[0-9]{0,30})?\Z")


def parse_records(data: bytes, place: str) -> list[tuple[bytes, bytes]]:
    """All `LENGTH KEYWORD=VALUE` records, in order and with repeats; raises ArchiveError for any other shape."""
    records: list[tuple[bytes, bytes]] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 12)
        digits = data[position:space] if space > position else b""
        length = int(digits) if digits.isdigit() else 0
        record = data[space + 1 : position + length]
        keyword, equals, value = record.partition(b"=")
        end = position + length
        if not digits or end <= space or end > len(data) or not record.endswith(b"\n") or not equals or not keyword:
            if not data[position:].strip(b"\0"):
                break  # some writers pad with NULs instead of counting exactly
            raise ArchiveError(f"read {place}: a pax record at byte {position} is malformed")
        records.append((keyword, value[:-1]))
        position = end
    return records


def format_records(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The records as the content of an extended header."""
    return b"".join(_format_record(keyword, value) for keyword, value in records)


def _format_record(keyword: bytes, value: bytes) -> bytes:
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length += 1  # the length counts its own digits, and adding them made one more
    return b"%d %b=%b\n" % (length, keyword, value)


def parse_integer(value: bytes, keyword: str, place: str) -> int:
    """A record that is a whole number, not negative."""
    if not value.isdigit() or len(value) > 20:
        raise ArchiveError(f"read {place}: the pax record {keyword} is not a number")
    return int(value)


def parse_time(value: bytes, place: str) -> tuple[int, bool]:
    """Whole seconds (rounded down) of a time such as `1700000000.25`, and whether it has a fraction."""
    if not _TIME.match(value):
        raise ArchiveError(f"read {place}: the pax record mtime is not a time: {value[:40]!r}")
    exact = Decimal(value.decode("ascii"))
    seconds = math.floor(exact)
    return seconds, exact != seconds
