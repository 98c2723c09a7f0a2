"""Base addresses of the public sources, and where mirrors and air-gapped sites put them instead.

A lock may name the public address of a
file; it is then fetched from the mirror all the same.
"""

from __future__ import annotations

from typing import Final

from kobuild.sources.model import SourceContext

GO_URL: Final = "https://go.dev/dl"
GITHUB_API_URL: Final = "https://api.github.com"
GITHUB_SERVER_URL: Final = "https://github.com"


def go_base(context: SourceContext) -> str:
    """Where Go's releases are: KOBUILD_GO_URL is meant for nothing else, so it wins over the settings."""
    return _first(context.environ.get("KOBUILD_GO_URL"), context.settings.go, GO_URL)


def github_api(context: SourceContext) -> str:
    """Where the GitHub API is; the settings win, since a workflow's own GITHUB_API_URL is about its own repository."""
    return _first(context.settings.github_api, context.environ.get("GITHUB_API_URL"), GITHUB_API_URL)


def github_server(context: SourceContext) -> str:
    """Where GitHub's releases are downloaded from."""
    return _first(context.settings.github_server, context.environ.get("GITHUB_SERVER_URL"), GITHUB_SERVER_URL)


def rebase(url: str, context: SourceContext) -> str:
    """The address on the mirror, when `url` is on a public base that has one."""
    for public, base in ((GO_URL, go_base(context)), (GITHUB_SERVER_URL, github_server(context))):
        if url.startswith(f"{public}/"):
            return base + url.removeprefix(public)
    return url


def _first(*candidates: str | None) -> str:
    return next(url for url in candidates if url).rstrip("/")
