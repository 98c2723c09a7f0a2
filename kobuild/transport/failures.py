"""Answers that refuse, in words without secrets."""

from __future__ import annotations

from http import HTTPStatus

from kobuild.errors import FetchError, RateLimited


def refusal(place: str, status: int, body: bytes) -> str:
    """The message for a status that was not expected."""
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    line = first_line(body)
    return f"{place}: {phrase}{': ' + line if line else ''}"


def refusal_kind(status: int) -> type[FetchError]:
    """The class of error for a status."""
    return RateLimited if status == HTTPStatus.TOO_MANY_REQUESTS else FetchError


def first_line(body: bytes) -> str:
    """The first line of a text or JSON body; markup is left out: it says little, and object stores sign in it."""
    for line in body[:4096].decode("utf-8", "replace").splitlines():
        text = "".join(letter if letter.isprintable() else " " for letter in line).strip()
        if text:
            return "" if text.startswith("<") else text[:200]
    return ""
