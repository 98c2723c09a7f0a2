"""`pypi:NAME`: programs that are published as wheels, found by the user's own pip.

The lock holds a package URL (`pkg:pypi/NAME@VERSION?file_name=WHEEL`), not the index's address: it serves behind any
mirror, and no credential can be in it. The sum in the lock decides what is taken, wherever it comes from.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlencode

from packaging.version import Version

from kobuild.errors import FetchError, NoMatchingAsset, ResolveError
from kobuild.oci.platforms import Platform
from kobuild.settings.model import ToolSettings
from kobuild.sources.assets import AssetQuery, asset_pattern
from kobuild.sources.model import Artifact, Location, Release, SourceContext, Vouched
from kobuild.sources.pip import Pip, Wheel, platform_ladder
from kobuild.sources.versions import parse_pin, parse_tag

PREFIX: Final = "pkg:pypi/"
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
_FAMILIES: Final = (("manylinux",), ("musllinux",), ("linux",))


class PypiSource:
    """Wheels."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._pip = Pip(context)

    def resolve(self, tool: ToolSettings, platforms: tuple[Platform, ...]) -> Release:
        """The newest version that the pin allows and that has a wheel for every platform."""
        self._context.require_network(str(tool.source))
        requirement = _requirement(tool)
        wheels = self._find_all(tool, platforms, requirement)
        versions = {wheel.version for wheel in wheels.values()}
        if len(versions) > 1:
            oldest = min(versions, key=Version)
            wheels = self._find_all(tool, platforms, f"{tool.source.argument}=={oldest}")
        first = next(iter(wheels.values()))
        artifacts = {platform: _artifact(tool.source.argument, wheel) for platform, wheel in wheels.items()}
        return Release(first.version, first.version, artifacts, page=first.page, license=first.license)

    def _find_all(self, tool: ToolSettings, platforms: tuple[Platform, ...], requirement: str) -> dict[Platform, Wheel]:
        with ThreadPoolExecutor(max_workers=max(1, len(platforms))) as pool:
            found = pool.map(lambda platform: self._find(tool, platform, requirement), platforms)
            return dict(zip(platforms, found, strict=True))

    def _find(self, tool: ToolSettings, platform: Platform, requirement: str) -> Wheel:
        what = f"pypi:{requirement} for {platform}"
        wheel = self._pip.find_wheel(requirement, platform_ladder(platform), what)
        if not tool.asset or _matches(tool, platform, wheel):
            return wheel
        seen = [wheel.filename]
        for families in _FAMILIES:
            try:
                wheel = self._pip.find_wheel(requirement, platform_ladder(platform, families), what)
            except ResolveError:
                continue
            if _matches(tool, platform, wheel):
                return wheel
            seen.append(wheel.filename)
        listed = ", ".join(sorted(set(seen)))
        raise NoMatchingAsset(f"{what}: no wheel matches asset = {tool.asset!r}; there are {listed}")


def _matches(tool: ToolSettings, platform: Platform, wheel: Wheel) -> bool:
    query = AssetQuery(tool.name, tool.source.argument, wheel.version, wheel.version, tool.asset)
    return asset_pattern(query, platform).match(wheel.filename) is not None


def _requirement(tool: ToolSettings) -> str:
    """What pip is asked for (PEP 508)."""
    name, pin = tool.source.argument, parse_pin(tool.version)
    if not _NAME.match(name):
        raise ResolveError(f"pypi:{name} is not the name of a project")
    if not pin.is_exact:
        return f"{name}{pin.text}"
    parsed = parse_tag(pin.text, names=(name,))
    return f"{name}=={parsed.version if parsed else pin.text}"


def _artifact(name: str, wheel: Wheel) -> Artifact:
    query = urlencode({"file_name": wheel.filename})
    canonical = re.sub(r"[-_.]+", "-", name).lower()
    return Artifact(
        url=f"{PREFIX}{quote(canonical)}@{quote(wheel.version)}?{query}",
        filename=wheel.filename,
        sha256=wheel.sha256,
        vouched_by=Vouched.PUBLISHER if wheel.sha256 else Vouched.FIRST_DOWNLOAD,
        location=wheel.url,
    )


def locate_wheel(artifact: Artifact, context: SourceContext) -> Location:
    """Where the index has the wheel now; raises FetchError when it has another one."""
    name, _, rest = artifact.url.removeprefix(PREFIX).partition("@")
    version, _, query = rest.partition("?")
    requirement = f"{unquote(name)}=={unquote(version)}"
    filename = parse_qs(query).get("file_name", [artifact.filename])[0]
    platforms = _platform_tags(filename)
    pip = Pip(context)

    def download(folder: Path) -> Path:
        return pip.download(requirement, platforms, folder, filename)

    if artifact.location is not None:
        return Location(artifact.location, download=download)
    wheel = pip.find_wheel(requirement, platforms, filename)
    if wheel.filename != filename:
        raise FetchError(
            f"the index has {wheel.filename}, and the lock names {filename}",
            hint="use the index that the lock was made with, or `kobuild resolve --upgrade`",
        )
    return Location(wheel.url, download=download)


def _platform_tags(filename: str) -> list[str]:
    """The platform tags in a wheel's name (PEP 427), none for one that runs anywhere."""
    tags = filename.removesuffix(".whl").rpartition("-")[2].split(".")
    return [tag for tag in tags if tag != "any"]
