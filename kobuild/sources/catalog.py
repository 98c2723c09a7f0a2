"""Every kind of source, one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kobuild.errors import ResolveError
from kobuild.settings.model import ToolSettings
from kobuild.sources.github import GithubSource
from kobuild.sources.golang import GoSource
from kobuild.sources.model import Artifact, Location, Source, SourceContext
from kobuild.sources.npm import NpmSource, locate_package
from kobuild.sources.path import PathSource
from kobuild.sources.pypi import PypiSource, locate_wheel
from kobuild.sources.url import UrlSource

_SOURCES: Final[Mapping[str, Callable[[SourceContext], Source]]] = {
    "go": GoSource,
    "github": GithubSource,
    "url": UrlSource,
    "pypi": PypiSource,
    "npm": NpmSource,
    "path": PathSource,
}

_LOCATORS: Final[Mapping[str, Callable[[Artifact, SourceContext], Location]]] = {
    "pkg:pypi/": locate_wheel,
    "pkg:npm/": locate_package,
}
"""Who finds the address of a package URL."""


def open_source(tool: ToolSettings, context: SourceContext) -> Source:
    """The source that a tool's settings name; raises ResolveError for a kind that there is not."""
    kind = tool.source.kind
    if kind not in _SOURCES:
        raise ResolveError(f"there is no source {kind!r}", hint=f"the sources are {', '.join(_SOURCES)}")
    return _SOURCES[kind](context)


def locate(artifact: Artifact, context: SourceContext) -> Location:
    """Where an artifact's bytes are to be had now."""
    if artifact.location is not None and not artifact.url.startswith("pkg:"):
        return Location(artifact.location)
    for prefix, locator in _LOCATORS.items():
        if artifact.url.startswith(prefix):
            return locator(artifact, context)
    return Location(artifact.url)
