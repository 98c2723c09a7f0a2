"""`npm:NAME`: packages of npm, found by the user's own npm.

Where a project has a package for each platform, the name may hold {os} and {arch}, which here are Node's words
(`linux`, `darwin`, `win32`; `x64`, `arm64`, `arm`, `ia32`): `npm:@esbuild/{os}-{arch}`. The lock holds a package URL
(`pkg:npm/…`), for the same reasons as for wheels.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from kobuild.errors import NoMatchingVersion, ProgramError, ResolveError
from kobuild.oci.platforms import Platform
from kobuild.settings.model import ToolSettings
from kobuild.sources.licenses import read_expression
from kobuild.sources.model import Artifact, Location, Release, SourceContext, Vouched
from kobuild.sources.pages import page_address, read_time
from kobuild.sources.placeholders import fill
from kobuild.sources.programs import hide_secrets, last_words, run
from kobuild.sources.versions import parse_pin, parse_tags

PREFIX: Final = "pkg:npm/"
_NAME: Final = re.compile(r"(@[a-z0-9~_.-]+/)?[A-Za-z0-9~_.-]+\Z")
_VERSION: Final = re.compile(r"[0-9A-Za-z.+-]+\Z")
_SYSTEMS: Final = {"windows": "win32", "solaris": "sunos"}
_ARCHITECTURES: Final = {"amd64": "x64", "386": "ia32", "mipsle": "mipsel", "ppc64le": "ppc64"}
_ENVIRONMENT: Final = {"NO_UPDATE_NOTIFIER": "1", "npm_config_loglevel": "error", "npm_config_color": "false"}


class NpmSource:
    """Packages."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context

    def resolve(self, tool: ToolSettings, platforms: tuple[Platform, ...]) -> Release:
        """The version that the pin allows; one package for all platforms, or one for each."""
        self._context.require_network(str(tool.source))
        names = {platform: _package_name(tool.source.argument, platform) for platform in platforms}
        version = self._choose(tool, next(iter(names.values())))
        documents = {name: self._document(name, version) for name in dict.fromkeys(names.values())}
        found = {name: _artifact(name, version, document) for name, document in documents.items()}
        about = next(iter(documents.values()))
        times = about.get("time")
        return Release(
            version,
            version,
            {platform: found[name] for platform, name in names.items()},
            published=read_time(times.get(version)) if isinstance(times, dict) else "",
            page=page_address(about.get("homepage")),
            license=read_expression(about.get("license")),
        )

    def _choose(self, tool: ToolSettings, name: str) -> str:
        pin = parse_pin(tool.version)
        versions = _view(name, "versions", self._context)
        texts = [versions] if isinstance(versions, str) else versions
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ProgramError(f"npm:{name}: npm gave no list of versions")
        if pin.text in texts:
            return pin.text
        return pin.select(parse_tags(texts), tool=tool.name, what=f"npm:{name}").text

    def _document(self, name: str, version: str) -> dict[str, Any]:
        """All that npm says of one version; not a few fields, since of several npm leaves out the names."""
        found = _view(f"{name}@{version}", None, self._context)
        if isinstance(found, list) and len(found) == 1:  # as some releases of npm have it
            (found,) = found
        if not isinstance(found, dict):
            raise NoMatchingVersion(f"npm:{name} has no version {version}")
        return found


def _artifact(name: str, version: str, document: Mapping[str, Any]) -> Artifact:
    dist = document.get("dist")
    url = dist.get("tarball") if isinstance(dist, dict) else None
    if not isinstance(dist, dict) or not isinstance(url, str):
        raise NoMatchingVersion(f"npm:{name} has no version {version}")
    integrity = _sha512(dist.get("integrity"))
    return Artifact(
        url=f"{PREFIX}{quote(name, safe='/')}@{quote(version)}",
        filename=unquote(urlsplit(url).path).rpartition("/")[2] or f"{version}.tgz",
        integrity=integrity,
        vouched_by=Vouched.PUBLISHER if integrity else Vouched.FIRST_DOWNLOAD,
        location=url,
    )


def _package_name(template: str, platform: Platform) -> str:
    values = {
        "os": _SYSTEMS.get(platform.os, platform.os),
        "arch": _ARCHITECTURES.get(platform.architecture, platform.architecture),
    }
    name = fill(template, values, where=f"source = 'npm:{template}'")
    if not _NAME.match(name):
        raise ResolveError(f"npm:{name} is not the name of a package")
    return name


def _sha512(integrity: object) -> str | None:
    """The strongest sum of an integrity field (W3C Subresource Integrity), if it has the one that npm writes."""
    words = integrity.split() if isinstance(integrity, str) else []
    return next((word.partition("?")[0] for word in words if word.startswith("sha512-")), None)


def _view(package: str, field: str | None, context: SourceContext) -> Any:
    done = _npm(["view", package, *([field] if field else []), "--json"], context)
    try:
        value = json.loads(done.stdout or "null")
    except (ValueError, RecursionError):
        value = None
    if done.returncode:
        raise _failure(package, value, done.stderr)
    return value


def _failure(package: str, value: Any, stderr: str) -> ResolveError | ProgramError:
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict) and error.get("code") == "E404":
        summary = hide_secrets(str(error.get("summary", "")))
        return NoMatchingVersion(f"npm:{package}: {summary}", hint="check the name, and the registry in your .npmrc")
    return ProgramError(f"npm view {package}: npm failed:\n{last_words(stderr)}")


def _npm(arguments: list[str], context: SourceContext) -> Any:
    command = shutil.which("npm", path=context.environ.get("PATH"))
    if command is None:
        raise ProgramError("npm: sources need npm, and there is none on PATH", hint="install Node.js, which brings it")
    return run([command, *arguments], folder=context.folder, environ={**context.environ, **_ENVIRONMENT})


def locate_package(artifact: Artifact, context: SourceContext) -> Location:
    """Where the registry has the package's archive now."""
    name, _, version = artifact.url.removeprefix(PREFIX).rpartition("@")
    package = f"{unquote(name)}@{unquote(version)}"
    if not _NAME.match(unquote(name)) or not _VERSION.match(unquote(version)):
        raise ResolveError(f"{artifact.url} is not a package of npm")

    def download(folder: Path) -> Path:
        done = _npm(["pack", package, "--pack-destination", str(folder), "--ignore-scripts"], context)
        files = sorted(folder.glob("*.tgz"))
        if done.returncode or len(files) != 1:
            raise ProgramError(f"npm pack {package}: npm failed:\n{last_words(done.stderr)}")
        return files[0]

    if artifact.location is not None:
        return Location(artifact.location, download=download)
    dist = _view(package, "dist", context)
    if not isinstance(dist, dict) or not isinstance(dist.get("tarball"), str):
        raise NoMatchingVersion(f"npm:{package} is not in the registry")
    return Location(dist["tarball"], download=download)
