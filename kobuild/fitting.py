"""Whether a lock fits the settings, and has the proof that they require."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from kobuild.base import SCRATCH
from kobuild.errors import LockError
from kobuild.lock import Lock, LockedBase, LockedTool
from kobuild.oci.platforms import Platform
from kobuild.settings.model import Settings, ToolSettings


def fingerprint(tool: ToolSettings) -> str:
    """Of the settings, beside source and version, that decide which file is fetched and proven: 16 hex digits."""
    deciding = {
        "asset": tool.asset,
        "checksums": tool.checksums,
        "sha256": tool.sha256,
        "versions": tool.versions,
        "require": tool.require,
        "minisign-key": tool.minisign_keys,
        "cosign-key": tool.cosign_key,
        "identity": tool.identity,
        "issuer": tool.issuer,
        "attestations": {True: "yes", False: "no", None: ""}[tool.attestations],
    }
    text = json.dumps({key: value for key, value in deciding.items() if value}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def lacking_proof(tool: ToolSettings, locked: LockedTool, platforms: Sequence[Platform]) -> str | None:
    """What the locked files lack of the proof that the settings require, or None."""
    files = [locked.artifacts[platform] for platform in platforms if platform in locked.artifacts]
    lacking = ((file.filename, file.lacks(tool.require)) for file in files)
    return next((f"of {name} {reason}" for name, reason in lacking if reason is not None), None)


def require_fit(settings: Settings, lock: Lock) -> None:
    """Raise LockError naming everything that does not fit."""
    faults = find_misfits(settings, lock)
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults)
        raise LockError(
            f"{settings.lock_path} does not fit {settings.path.name}, and --locked forbids to change it:{listed}",
            hint="run `kobuild resolve` and commit the lock",
        )


def find_misfits(settings: Settings, lock: Lock) -> list[str]:
    """Everything of the lock that does not fit the settings, a line each."""
    return [*_base_faults(settings, lock.base), *_tool_faults(settings, lock)]


def _base_faults(settings: Settings, locked: LockedBase | None) -> list[str]:
    name = settings.image.base
    if name == SCRATCH:
        return [f"base: the settings say scratch, the lock {locked.name}"] if locked is not None else []
    if locked is None or locked.name != name:
        return [f"base: the settings say {name}, the lock {locked.name if locked is not None else 'scratch'}"]
    missing = [platform for platform in settings.image.platforms if platform not in locked.platforms]
    return [f"base: nothing is locked for {platform}" for platform in missing]


def _tool_faults(settings: Settings, lock: Lock) -> list[str]:
    faults = []
    for tool in settings.tools:
        locked = lock.tools.get(tool.name)
        reason = "is not in the lock" if locked is None else _misfit(tool, locked, settings.image.platforms)
        if reason is not None:
            faults.append(f"tools.{tool.name}: {reason}")
    names = {tool.name for tool in settings.tools}
    return faults + [
        f"tools.{name}: is locked, and no longer in the settings" for name in lock.tools if name not in names
    ]


def _misfit(tool: ToolSettings, locked: LockedTool, platforms: Sequence[Platform]) -> str | None:
    """Why a tool's entry does not fit, or None."""
    if locked.source != str(tool.source):
        return f"the source was {locked.source}, and is {tool.source}"
    if locked.requirement != tool.version:
        return f"the pin was {locked.requirement!r}, and is {tool.version!r} (locked is {locked.version})"
    if locked.fingerprint != fingerprint(tool):
        return "a key that says which file is taken, or what must be proven of it, has changed"
    missing = [platform for platform in platforms if platform not in locked.artifacts]
    if missing:
        return f"nothing is locked for {', '.join(map(str, missing))}"
    lacking = lacking_proof(tool, locked, platforms)
    return f"{tool.require} is required, and {lacking}" if lacking else None
