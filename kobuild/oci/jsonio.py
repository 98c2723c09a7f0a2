"""JSON at the edge: bounded and typed reading with key paths, and one canonical way of writing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from kobuild.errors import MalformedDocument

MAX_DOCUMENT_BYTES: Final = 4 * 1024 * 1024
"""Manifests, indexes and configs are refused beyond this; distribution-spec, "Pushing Manifests", asks for 4 MiB."""


def parse_object(raw: bytes, what: str) -> dict[str, Any]:
    """Parse `raw` as one JSON object; raises MalformedDocument naming `what`."""
    value = _parse(raw, what)
    if not isinstance(value, dict):
        raise MalformedDocument(f"{what}: expected a JSON object, got {type(value).__name__}")
    return value


def parse_objects(raw: bytes, what: str) -> tuple[dict[str, Any], ...]:
    """Parse `raw` as one JSON array of objects; raises MalformedDocument naming `what`."""
    value = _parse(raw, what)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise MalformedDocument(f"{what}: expected a JSON array of objects")
    return tuple(value)


def _parse(raw: bytes, what: str) -> object:
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise MalformedDocument(f"{what}: {len(raw)} bytes is more than the {MAX_DOCUMENT_BYTES} allowed")
    try:
        # Decoded here: json.loads would guess UTF-16 and UTF-32 too, which RFC 8259 does not allow on the wire.
        return json.loads(raw.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedDocument(f"{what}: not JSON: {error}") from error


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def canonical(value: Mapping[str, Any]) -> bytes:
    """Write JSON with no spaces, in the mapping's own order, as UTF-8: the same value gives the same bytes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair, which JSON can spell and UTF-8 cannot: it stays an escape, as it came.
        return json.dumps(value, separators=(",", ":")).encode()


def _fail(what: str, key: str, expected: str, value: object) -> MalformedDocument:
    return MalformedDocument(f"{what}: {key}: expected {expected}, got {value!r}")


def get_str(value: Mapping[str, Any], key: str, what: str, default: str | None = None) -> str:
    """A string member; missing is an error unless there is a default."""
    found = value.get(key, default)
    if not isinstance(found, str):
        raise _fail(what, key, "a string", found)
    return found


def get_int(value: Mapping[str, Any], key: str, what: str) -> int:
    """A non-negative integer member."""
    found = value.get(key)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise _fail(what, key, "a non-negative integer", found)
    return found


def get_object(value: Mapping[str, Any], key: str, what: str) -> dict[str, Any]:
    """An object member; missing or null is an empty object."""
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _fail(what, key, "an object", found)
    return found


def get_objects(value: Mapping[str, Any], key: str, what: str) -> tuple[dict[str, Any], ...]:
    """An array of objects; missing or null is empty."""
    found = value.get(key)
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise _fail(what, key, "an array of objects", found)
    return tuple(found)


def get_strings(value: Mapping[str, Any], key: str, what: str) -> tuple[str, ...]:
    """An array of strings; missing or null is empty."""
    found = value.get(key)
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise _fail(what, key, "an array of strings", found)
    return tuple(found)


def get_string_map(value: Mapping[str, Any], key: str, what: str) -> dict[str, str]:
    """An object whose values are all strings; missing or null is empty."""
    found = get_object(value, key, what)
    for name, item in found.items():
        if not isinstance(item, str):
            raise _fail(what, f"{key}.{name}", "a string", item)
    return found
