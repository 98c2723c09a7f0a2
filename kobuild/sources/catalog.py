"""Every kind of source, one line each."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, Final

from kobuild.errors import ResolveError
from kobuild.settings.model import ToolSettings
from kobuild.sources.model import Artifact, Location, Source, SourceContext

_SOURCES: Final[Mapping[str, str]] = {
    "go": "golang:GoSource",
    "github": "github:GithubSource",
    "url": "url:UrlSource",
    "pypi": "pypi:PypiSource",
    "npm": "npm:NpmSource",
    "path": "path:PathSource",
}

_LOCATORS: Final[Mapping[str, str]] = {
    r"pkg:pypi/": "pypi:locate_wheel",
    r"pkg:npm/": "npm:locate_package",
    r"https?://[^/]+/[^/]+/[^/]+/releases/download/": "github:locate_asset",
}
"""Who finds where the bytes of a lock's address are; any other address is where they are."""


def _find(entry: str) -> Any:
    """Import only what is asked for: most runs need one source or none."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(f"kobuild.sources.{module}"), name)


def open_source(tool: ToolSettings, context: SourceContext) -> Source:
    """The source that a tool's settings name; raises ResolveError for a kind that there is not."""
    kind = tool.source.kind
    if kind not in _SOURCES:
        raise ResolveError(f"there is no source {kind!r}", hint=f"the sources are {', '.join(_SOURCES)}")
    source: Source = _find(_SOURCES[kind])(context)
    return source


def locate(artifact: Artifact, context: SourceContext) -> Location:
    """Where an artifact's bytes are to be had now."""
    for pattern, locator in _LOCATORS.items():
        if re.match(pattern, artifact.url):
            location: Location = _find(locator)(artifact, context)
            return location
    return Location(artifact.url)
