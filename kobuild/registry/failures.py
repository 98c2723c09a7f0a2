"""A registry's refusals as errors: distribution-spec, "Error Codes"."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from kobuild.errors import AuthError, FetchError, NotFound, PushRefused, RegistryError
from kobuild.oci.reference import Repository
from kobuild.registry.hints import hint_for

_FIXED_TAG: Final = re.compile(r"immutable|cannot be overwritten|already exists", re.IGNORECASE)
_SHOWN_ERRORS: Final = 3
_SHOWN_CHARACTERS: Final = 240


def registry_error(
    action: str, repository: Repository, failure: FetchError, *, problems: Sequence[str] = ()
) -> RegistryError:
    """The error for a request that failed.

    `action` is what was tried, with its place, such as `push blob sha256:… to ghcr.io/a/b`; `problems` are those of the
    keychain, which matter where a login was refused or missing.
    """
    codes, texts = parse_errors(failure.body)
    if failure.status is None:
        return RegistryError(f"{action}: {failure.message}", retryable=failure.retryable, hint=failure.hint)
    cause = "; ".join(tuple(dict.fromkeys(texts))[:_SHOWN_ERRORS]) or _phrase(failure.status)
    kind = _kind(failure.status)
    hint = failure.hint or _hint_for_tag(cause) or hint_for(repository, failure.status)
    if kind is AuthError and problems:
        hint = "; ".join((*problems, *((hint,) if hint else ())))
    status = f"{failure.status} " if texts else ""
    return kind(
        f"{action}: {status}{cause}", status=failure.status, codes=codes, retryable=failure.retryable, hint=hint
    )


def _hint_for_tag(cause: str) -> str | None:
    """The remedy where a registry says that its tags do not move; each says it in its own words."""
    if _FIXED_TAG.search(cause):
        return "this repository's tags are not to be moved: choose a new tag"
    return None


def parse_errors(body: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Codes, and texts for people, of an error body; both empty for a body of another form."""
    try:
        errors = json.loads(body)["errors"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return (), ()
    items = [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    codes = tuple(code for item in items if (code := _text(item.get("code"))))
    texts = tuple(
        text
        for item in items
        if (text := ": ".join(filter(None, (_text(item.get("code")), _text(item.get("message"))))))
    )
    return codes, texts


def _text(value: Any) -> str:
    """One printable line of a value from outside."""
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() else " " for letter in value).strip()[:_SHOWN_CHARACTERS]


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _kind(status: int) -> type[RegistryError]:
    if status in (401, 403):
        return AuthError
    if status == 404:
        return NotFound
    if 400 <= status < 500 and status not in (408, 429):
        return PushRefused
    return RegistryError
