"""What a 401 asks for: the WWW-Authenticate header (RFC 9110, 11.6.1), read as leniently as registries write it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from kobuild.frozen import frozen

_QUOTED_ITEM: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
"""One part between commas; a comma inside quotes belongs to its part, and a missing last quote is forgiven."""
_PARAMETER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?!=*\s*\Z)(.*)\Z", re.DOTALL)
_SCHEME: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s+(.*))?\Z", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


@frozen
class Challenge:
    """One scheme that the server would accept; scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Every challenge of a header, or of several joined by commas, in order; what makes no sense is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    for item in _items(header):
        parameter = _PARAMETER.match(item)
        if parameter:
            if found:
                found[-1][1].setdefault(parameter[1].lower(), _unquote(parameter[2]))
            continue
        scheme = _SCHEME.match(item)
        if scheme:
            found.append((scheme[1].lower(), {}))
            first = _PARAMETER.match(scheme[2] or "")
            if first:
                found[-1][1][first[1].lower()] = _unquote(first[2])
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


def _items(header: str) -> Iterator[str]:
    for match in _QUOTED_ITEM.finditer(header):
        item = match[0].strip()
        if item:
            yield item


def _unquote(text: str) -> str:
    value = text.strip()
    if not value.startswith('"'):
        return value
    return _ESCAPE.sub(r"\1", value[1:-1] if len(value) > 1 and value.endswith('"') else value[1:])
