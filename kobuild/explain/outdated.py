"""What could move: each tool within its pin and beyond it, and whether the base's name points at something else by now.

Only listings and manifests are read. Nothing is downloaded and nothing is written: `kobuild resolve --upgrade` moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from kobuild.base import SCRATCH, resolve_base
from kobuild.errors import KobuildError, LockError, NoMatchingVersion
from kobuild.frozen import frozen
from kobuild.lock import Lock, LockedBase, LockedTool
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.settings.model import Settings, ToolSettings
from kobuild.sources.bases import github_server
from kobuild.sources.catalog import open_source
from kobuild.sources.model import Release, SourceContext
from kobuild.sources.versions import parse_tag
from kobuild.store.locations import Location
from kobuild.workshop import Workshop

_JOBS: Final = 8
GO_PAGE: Final = "https://go.dev/doc/devel/release"


@frozen
class Candidate:
    """A release that a tool could move to."""

    version: str
    tag: str
    page: str
    """Where a person reads about it; empty where no such page is known."""
    published: str
    """When, in RFC 3339; empty where the source does not say."""


@frozen
class ToolNews:
    """What is new of one tool."""

    name: str
    source: str
    requirement: str
    locked: str
    """The version in the lock."""
    within: Candidate | None
    """The newest that the pin allows, where that is not what is locked."""
    beyond: Candidate | None
    """The newest stable release of all, where the pin does not allow it."""
    replaced: tuple[Platform, ...] = ()
    """Where upstream now publishes other bytes under the locked version."""
    note: str = ""
    """Why something could not be found out."""

    @property
    def can_move(self) -> bool:
        """Whether `resolve --upgrade` would change the lock."""
        return self.within is not None or bool(self.replaced)


@frozen
class BaseNews:
    """What is new of the base."""

    name: str
    locked: str
    current: str
    """The digest that the name points at now."""
    platforms: tuple[Platform, ...]
    """Those whose own manifest is another one; an index also changes with platforms that nobody asked for."""

    @property
    def has_moved(self) -> bool:
        """Whether the name points at something else."""
        return self.locked != self.current


@frozen
class News:
    """All that is new."""

    tools: tuple[ToolNews, ...]
    base: BaseNews | None
    """None for scratch."""

    @property
    def can_move(self) -> bool:
        """Whether `resolve --upgrade` would change the lock."""
        return any(tool.can_move for tool in self.tools) or (self.base is not None and self.base.has_moved)

    @property
    def goes_beyond(self) -> bool:
        """Whether a tool has a release that its pin does not allow."""
        return any(tool.beyond is not None for tool in self.tools)


def find_news(workshop: Workshop, lock: Lock) -> News:
    """Ask every source and the base's registry, side by side; raises what they raise, all faults of the pins included.

    That a tool's newest release of all cannot be found (it may lack a platform) is noted and no error.
    """
    settings = workshop.settings
    with ThreadPoolExecutor(max_workers=_JOBS, thread_name_prefix="kobuild-outdated") as pool:
        base = pool.submit(_base_news, workshop, lock.base)
        tools = [pool.submit(_tool_news, tool, _locked(lock, tool, settings), workshop) for tool in settings.tools]
        try:
            return News(tuple(job.result() for job in tools), base.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _locked(lock: Lock, tool: ToolSettings, settings: Settings) -> LockedTool:
    found = lock.tools.get(tool.name)
    if found is None:
        raise LockError(
            f"{settings.lock_path} has nothing for tools.{tool.name}",
            hint="run `kobuild resolve`, which locks it at its newest",
        )
    return found


def _tool_news(tool: ToolSettings, locked: LockedTool, workshop: Workshop) -> ToolNews:
    news = ToolNews(tool.name, str(tool.source), tool.version, locked.version, None, None)
    if tool.source.kind == "path":
        return replace(news, note="a local file; the lock follows it by itself")
    context, platforms = workshop.sources, workshop.settings.image.platforms
    allowed = open_source(tool, context).resolve(tool, platforms)
    if not _is_locked(allowed, locked):
        news = replace(news, within=_candidate(tool, allowed, context))
    else:
        news = replace(news, replaced=tuple(_replaced(allowed, locked)))
    return _with_newest(news, tool, allowed, workshop)


def _is_locked(release: Release, locked: LockedTool) -> bool:
    return (release.version, release.tag) == (locked.version, locked.tag)


def _replaced(release: Release, locked: LockedTool) -> Sequence[Platform]:
    """Platforms whose file has another sum than the lock's, by the publisher's own word."""
    return [
        platform
        for platform, artifact in release.artifacts.items()
        if artifact.sha256 is not None
        and platform in locked.artifacts
        and artifact.sha256 != locked.artifacts[platform].sha256
    ]


def _with_newest(news: ToolNews, tool: ToolSettings, allowed: Release, workshop: Workshop) -> ToolNews:
    """Look for the newest stable release of all, where the pin is more than that."""
    if not tool.version:
        return news
    unpinned = replace(tool, version="", sha256="")
    try:
        newest = open_source(unpinned, workshop.sources).resolve(unpinned, workshop.settings.image.platforms)
    except NoMatchingVersion as error:
        return replace(news, note=f"no stable release was found: {error.message}")
    except KobuildError as error:
        return replace(news, note=f"the newest of all was not found: {error.message}")
    if newest.tag == allowed.tag or _is_older(newest, allowed):
        return news
    return replace(news, beyond=_candidate(tool, newest, workshop.sources))


def _is_older(one: Release, other: Release) -> bool:
    """Whether one release is older than the other: a pin may allow a pre-release that is ahead of all stable ones."""
    first, second = (parse_tag(release.version) for release in (one, other))
    return first is not None and second is not None and first.version < second.version


def _candidate(tool: ToolSettings, release: Release, context: SourceContext) -> Candidate:
    return Candidate(release.version, release.tag, _page(tool, release, context), release.published)


def _page(tool: ToolSettings, release: Release, context: SourceContext) -> str:
    """Where a person reads about a release."""
    if release.page:
        return release.page
    if tool.source.kind == "github":
        return f"{github_server(context)}/{tool.source.argument}/releases/tag/{quote(release.tag, safe='')}"
    if tool.source.kind == "go":
        return f"{GO_PAGE}#{release.tag}"
    return ""


def _base_news(workshop: Workshop, locked: LockedBase | None) -> BaseNews | None:
    name = workshop.settings.image.base
    if name == SCRATCH:
        return None
    if locked is None or locked.name != name:
        raise LockError(
            f"{workshop.settings.lock_path} has another base than {name}", hint="run `kobuild resolve`, which locks it"
        )
    if _points_at(workshop, name) == locked.digest:
        return BaseNews(name, locked.digest, locked.digest, ())
    current = resolve_base(name, workshop.settings.image.platforms, workshop.open_store, workshop.cache)
    assert current is not None, "only scratch has no base"  # noqa: S101
    moved = (platform for platform, digest in current.platforms.items() if locked.platforms.get(platform) != digest)
    return BaseNews(name, locked.digest, current.digest, tuple(moved))


def _points_at(workshop: Workshop, name: str) -> str | None:
    """The digest that a registry's name points at, by a request that no registry counts as a pull."""
    if Location.parse(name) is not None:
        return None
    found = workshop.registry.head_manifest(Reference.parse(name))
    return str(found.digest) if found is not None else None
