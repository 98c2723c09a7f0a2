"""The braces of address and name templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from kobuild.errors import ResolveError
from kobuild.oci.platforms import Platform
from kobuild.sources.names import architecture_word, machine

_PLACEHOLDER: Final = re.compile(r"\{(\w*)\}")


def placeholders(template: str) -> frozenset[str]:
    """The names in braces."""
    return frozenset(_PLACEHOLDER.findall(template))


def platform_values(platform: Platform) -> dict[str, str]:
    """{os} and {arch} in Go's words, {machine} as `uname -m` says it."""
    return {"os": platform.os, "arch": architecture_word(platform), "machine": machine(platform)}


def fill(template: str, values: Mapping[str, str], *, where: str) -> str:
    """The template with its braces filled; raises ResolveError for a name that `values` lacks."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ResolveError(
                f"{where}: there is no placeholder {match[0]} here",
                hint=f"the placeholders are {', '.join('{' + name + '}' for name in values)}",
            )
        return values[match[1]]

    return _PLACEHOLDER.sub(value, template)
