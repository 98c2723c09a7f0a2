"""The resolve flow: from pins to the lock, keeping what still fits, moving only what is asked to move.

A tool's entry stays as it is while its settings are unchanged; then nothing is asked of any network. Where the pin
changed and the locked version satisfies it too, or where a platform or another key was added, the version stays and
only what is missing is looked up. Local inputs (`path:` tools, a base in `oci:DIR`) are no pins: they are looked at
each time, and the lock follows them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

from kobuild.base import SCRATCH, pinned_name
from kobuild.errors import KobuildError, LockError, NewsFound, ResolveError, UsageError
from kobuild.fitting import fingerprint, lacking_proof, require_fit
from kobuild.frozen import frozen
from kobuild.lock import Lock, LockedArtifact, LockedBase, LockedTool, load, save
from kobuild.lockdiff import Change, compare
from kobuild.oci.digest import Digest
from kobuild.oci.platforms import Platform
from kobuild.settings.model import Settings, ToolSettings
from kobuild.sources.catalog import open_source
from kobuild.sources.download import fetch_all, find_size, stop_all
from kobuild.sources.model import Artifact, Release, SourceContext
from kobuild.sources.versions import parse_pin
from kobuild.store.locations import Location

BASE: Final = "base"
"""How `--upgrade` names the base image."""
_WORKERS: Final = 8


class BaseResolver(Protocol):
    """Finds the base: `kobuild.base.resolve_base`."""

    def __call__(self, name: str, platforms: Sequence[Platform], /) -> LockedBase | None:
        """What `name` points at now; None for scratch."""


Found = Callable[[LockedTool], None]


@frozen
class ResolveOptions:
    """What the command line asks for."""

    upgrade: frozenset[str] | None = None
    """The tools (or `base`) whose pins may move; empty means all of them and the base, None means none."""
    locked: bool = False
    """Refuse when the lock does not fit the settings."""
    frozen: bool = False
    """Use the lock without comparing."""
    check: bool = False
    """Write nothing, and raise NewsFound when the lock would change."""
    prove: bool = False
    """Look for all proofs once more, instead of believing the lock."""

    def moves(self, name: str) -> bool:
        """Whether the pin of that name may move."""
        return self.upgrade is not None and (not self.upgrade or name in self.upgrade)


@frozen
class Resolution:
    """The lock, and what is new in it."""

    lock: Lock
    changes: tuple[Change, ...] = ()
    written: bool = False


def resolve_file(
    settings: Settings,
    options: ResolveOptions,
    context: SourceContext,
    base_resolver: BaseResolver,
    *,
    found: Found | None = None,
) -> Resolution:
    """Bring the lock beside the settings up to date, as the options say, and return it.

    `found` hears of each tool that is new or has moved as soon as it is resolved, from several threads.
    Raises LockError (broken; missing under --frozen or --locked; not fitting), NewsFound (--check), UsageError (an
    unknown tool under --upgrade; --upgrade beside --frozen or --locked), and what sources and the base raise.
    """
    path = settings.lock_path
    old = load(path)
    if options.frozen or options.locked:
        if options.upgrade is not None:
            flag = "--locked" if options.locked else "--frozen"
            raise UsageError(f"--upgrade with {flag}: one moves pins, the other keeps them", hint="leave out either")
        if old is None:
            raise LockError(f"{path} is missing", hint="run `kobuild resolve` and commit the file")
        if options.locked:
            require_fit(settings, old)
        if options.prove:
            _require_proof(resolve(settings, old, options, context, base_resolver), path)
        return Resolution(old)
    resolution = resolve(settings, old, options, context, base_resolver, found=found)
    if options.check:
        if resolution.changes:
            raise NewsFound(tuple(map(str, resolution.changes)))
        return resolution
    return dataclasses.replace(resolution, written=save(path, resolution.lock))


def _require_proof(found: Resolution, path: Path) -> None:
    """Raise LockError where what was found by looking once more is not what the lock says."""
    if found.changes:
        listed = "".join(f"\n  {change}" for change in found.changes)
        raise LockError(
            f"{path} is not what its sources and their proofs say:{listed}",
            hint="somebody changed the lock, or the publisher the release: find out who before you resolve anew",
        )


def resolve(
    settings: Settings,
    old: Lock | None,
    options: ResolveOptions,
    context: SourceContext,
    base_resolver: BaseResolver,
    *,
    found: Found | None = None,
) -> Resolution:
    """The lock that fits the settings; independent tools are resolved side by side, and all their faults are told.

    The base goes first, alone: one that lacks a platform is told before anything is downloaded for it.
    """
    _check_names(settings, options)
    known = old or Lock()

    def resolve_tool(tool: ToolSettings) -> LockedTool:
        before = known.tools.get(tool.name)
        after = _resolve_tool(tool, before, settings, options, context)
        if found is not None and after != before:
            found(after)
        return after

    with ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="kobuild-resolve") as pool:
        try:
            base = pool.submit(_resolve_base, settings, known.base, options, base_resolver)
            _raise_failures([(BASE, base)])
            tools = {tool.name: pool.submit(resolve_tool, tool) for tool in settings.tools}
            _raise_failures([(f"tools.{name}", job) for name, job in tools.items()])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise
    lock = Lock(
        base.result(), {name: _keep_license(known.tools.get(name), job.result()) for name, job in tools.items()}
    )
    return Resolution(lock, compare(old, lock))


def _keep_license(old: LockedTool | None, new: LockedTool) -> LockedTool:
    """The licence as it was known, where the source does not say it this time; of another version it says nothing."""
    if new.license or old is None or (old.source, old.version) != (new.source, new.version):
        return new
    return dataclasses.replace(new, license=old.license)


def _check_names(settings: Settings, options: ResolveOptions) -> None:
    known = {tool.name for tool in settings.tools} | {BASE}
    unknown = sorted((options.upgrade or frozenset()) - known)
    if unknown:
        raise UsageError(f"--upgrade {unknown[0]}: there is no such tool", hint=f"there are {', '.join(sorted(known))}")


def _raise_failures(jobs: Sequence[tuple[str, Future[Any]]]) -> None:
    """Wait for all; raise the one failure as what it is, several as one ResolveError that tells them all."""
    failures: list[KobuildError] = []
    for name, job in jobs:
        error = job.exception()
        if isinstance(error, KobuildError):
            error.message = f"{name}: {error.message}"
            failures.append(error)
        elif error is not None:
            raise error
    if len(failures) == 1:
        raise failures[0]
    if failures:
        hints = dict.fromkeys(failure.hint for failure in failures if failure.hint)
        raise ResolveError("\n".join(failure.message for failure in failures), hint="; ".join(hints) or None)


# The base


def _resolve_base(
    settings: Settings, locked: LockedBase | None, options: ResolveOptions, base_resolver: BaseResolver
) -> LockedBase | None:
    name, platforms = settings.image.base, settings.image.platforms
    if name == SCRATCH:
        return None
    if locked is None or locked.name != name or options.moves(BASE) or Location.parse(name) is not None:
        return base_resolver(name, platforms)
    missing = tuple(platform for platform in platforms if platform not in locked.platforms)
    found = dict(locked.platforms)
    if missing:
        # The same index as before, whatever the tag points at by now.
        added = base_resolver(pinned_name(name, Digest.parse(locked.digest)), missing)
        found |= added.platforms if added is not None else {}
    return LockedBase(name, locked.digest, {platform: found[platform] for platform in platforms})


# Tools


def _resolve_tool(
    tool: ToolSettings,
    locked: LockedTool | None,
    settings: Settings,
    options: ResolveOptions,
    context: SourceContext,
) -> LockedTool:
    platforms = settings.image.platforms
    if locked is None or options.moves(tool.name) or not _keeps_version(tool, locked):
        return _warned(locked, _look_up(tool, platforms, tool, context), context)
    pinned = dataclasses.replace(tool, version=locked.tag)
    is_doubted = options.prove and tool.looks_for_proof
    if locked.fingerprint != fingerprint(tool) or is_doubted or lacking_proof(tool, locked, platforms):
        return _warned(locked, _look_up(pinned, platforms, tool, context), context)
    found = dict(locked.artifacts)
    missing = tuple(platform for platform in platforms if platform not in found)
    if missing:
        found |= _warned(locked, _look_up(pinned, missing, tool, context), context).artifacts
    artifacts = {platform: found[platform] for platform in platforms}
    return dataclasses.replace(locked, requirement=tool.version, artifacts=artifacts)


def _warned(old: LockedTool | None, new: LockedTool, context: SourceContext) -> LockedTool:
    """The new entry, after a warning where files of the old one were signed and the new ones are not."""
    was = old is not None and old.source == new.source and any(file.is_signed for file in old.artifacts.values())
    if was and not all(file.is_signed for file in new.artifacts.values()):
        context.reporter.warning(
            f"{new.name}: a signature was verified for {old.version if old is not None else ''}, and none for "
            f'{new.version}; require = "signature" would refuse that'
        )
    return new


def _keeps_version(tool: ToolSettings, locked: LockedTool) -> bool:
    """Whether the locked version is from the same source and satisfies the pin as it is now."""
    if locked.source != str(tool.source) or tool.source.kind == "path":
        return False
    return tool.version == locked.requirement or parse_pin(tool.version).allows_text(locked.tag, locked.version)


def _look_up(
    asked: ToolSettings, platforms: tuple[Platform, ...], tool: ToolSettings, context: SourceContext
) -> LockedTool:
    """Ask the source, and find by a download what the publisher does not say."""
    # Here, not above: where nothing moves, nobody pays for SPDX's list and GitHub's client.
    from kobuild.sources.licenses import find_license  # noqa: PLC0415

    release = open_source(asked, context).resolve(asked, platforms)
    return LockedTool(
        name=tool.name,
        source=str(tool.source),
        requirement=tool.version,
        version=release.version,
        tag=release.tag,
        fingerprint=fingerprint(tool),
        artifacts=_prove(tool, release, _complete(release.artifacts, context), context),
        license=find_license(tool, release, context),
    )


def _prove(
    tool: ToolSettings, release: Release, known: Mapping[str, Artifact], context: SourceContext
) -> dict[Platform, LockedArtifact]:
    """The artifacts with what was proven of them; without settings that ask for proof, nothing is looked for."""
    proofs: Mapping[str, tuple[str, ...]] = {}
    if tool.looks_for_proof:
        from kobuild.sources.proving import prove_all  # noqa: PLC0415  # nobody else pays for the import

        proofs = prove_all(tool, release, known, context)
    urls = {platform: artifact.url for platform, artifact in release.artifacts.items()}
    return {platform: _locked(known[url], proofs.get(url, ())) for platform, url in urls.items()}


def _complete(artifacts: Mapping[Platform, Artifact], context: SourceContext) -> dict[str, Artifact]:
    """The artifacts by address, with sizes and sums; what had to be downloaded serves the build from the cache."""
    known = {artifact.url: _with_size(artifact, context) for artifact in artifacts.values()}
    unknown = [artifact for artifact in known.values() if artifact.sha256 is None or artifact.size is None]
    for artifact, fetched in zip(unknown, fetch_all(unknown, context), strict=True):
        known[artifact.url] = dataclasses.replace(artifact, size=fetched.size, sha256=fetched.sha256)
    return known


def _with_size(artifact: Artifact, context: SourceContext) -> Artifact:
    if artifact.sha256 is None or artifact.size is not None:
        return artifact
    return dataclasses.replace(artifact, size=find_size(artifact, context))


def _locked(artifact: Artifact, proofs: tuple[str, ...]) -> LockedArtifact:
    if artifact.size is None or artifact.sha256 is None:
        raise ResolveError(f"{artifact.filename}: neither its publisher nor a download said its size and sum")
    return LockedArtifact(
        url=artifact.url,
        filename=artifact.filename,
        size=artifact.size,
        sha256=artifact.sha256,
        vouched_by=artifact.vouched_by.value,
        proofs=proofs,
        location=artifact.location,
    )
