"""From settings files to a workflow's matrix: a job for each image and platform, and one for each image."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kobuild.errors import Fault, SettingsError, UsageError
from kobuild.frozen import frozen
from kobuild.oci.platforms import Platform
from kobuild.settings.model import Settings
from kobuild.settings.parse import parse_settings

MAX_JOBS: Final = 256
"""GitHub's bound on a matrix (Workflow syntax, "jobs.<job_id>.strategy.matrix")."""
RUNNERS: Final[Mapping[Platform, str]] = {Platform("linux", "arm64"): "ubuntu-24.04-arm"}
"""Runners of a platform's own; kobuild runs nothing of an image, so any other runner does as well."""
DEFAULT_RUNNER: Final = "ubuntu-24.04"

_WILD: Final = re.compile(r"[*?\[]")
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")
_USUAL_STEM: Final = "kobuild"


@frozen
class FleetImage:
    """One image of many."""

    name: str
    """Unique among them; letters, digits, `.`, `_` and `-`, so that it can be part of an artifact's name."""
    file: str
    """Its settings file, as it was found: relative to the working folder."""
    settings: Settings


def find_images(patterns: Sequence[str]) -> tuple[FleetImage, ...]:
    """The images whose settings files fit the patterns, in the files' order.

    Raises UsageError for a pattern that fits nothing and for two files of one name, and SettingsError with the faults
    of all files.
    """
    files: dict[str, str] = {}
    for pattern in patterns:
        for file in _matches(pattern):
            files.setdefault(file, _name(file, pattern))
    _refuse_collisions(files)
    settings = _parse_all(sorted(files))
    return tuple(FleetImage(files[file], file, settings[file]) for file in sorted(files))


def _matches(pattern: str) -> list[str]:
    found = [os.path.normpath(file) for file in glob.glob(pattern, recursive=True) if Path(file).is_file()]
    if Path(pattern).is_file():
        found.append(os.path.normpath(pattern))  # a name with brackets is a name first
    if not found:
        raise UsageError(f"matrix: {pattern!r} fits no file", hint="patterns are relative to the working folder")
    return found


def _name(file: str, pattern: str) -> str:
    """What a file is called: its path below the pattern's fixed part, without the suffix.

    It depends on the file and the pattern alone, so that an image keeps its name when others come and go. A
    `kobuild.toml` is called after its folder.
    """
    path = Path(file).with_suffix("")
    is_usual = path.name == _USUAL_STEM
    if _WILD.search(pattern):
        fixed = os.path.dirname(os.path.normpath(_WILD.split(pattern)[0] + "x"))
        parts = [part for part in Path(os.path.relpath(path, fixed or ".")).parts if part != ".."]
    else:
        parts = list(path.parts[-2 if is_usual else -1 :])
    if is_usual and len(parts) > 1:
        del parts[-1]
    return _NOT_IN_A_NAME.sub("-", "-".join(parts)).strip("-.") or _USUAL_STEM


def _refuse_collisions(files: Mapping[str, str]) -> None:
    known: dict[str, str] = {}
    for file, name in sorted(files.items()):
        other = known.setdefault(name.casefold(), file)
        if other != file:
            raise UsageError(
                f"matrix: {other} and {file} would both be called {name}",
                hint="rename one of them: jobs and the digests that they hand on are told apart by this name",
            )


def _parse_all(files: Sequence[str]) -> dict[str, Settings]:
    faults: list[Fault] = []
    parsed = {file: _parse(file, faults) for file in files}
    if faults:
        raise SettingsError(tuple(faults))
    return {file: settings for file, settings in parsed.items() if settings is not None}


def _parse(file: str, faults: list[Fault]) -> Settings | None:
    try:
        return parse_settings(Path(file))
    except SettingsError as error:
        faults.extend(error.faults)
        return None


def make_matrix(images: Sequence[FleetImage], runners: Mapping[Platform, str]) -> dict[str, Any]:
    """`include`, a job for each image and platform, and `images`, one for each image, as a workflow's matrix has them.

    Raises UsageError for more jobs than GitHub takes.
    """
    chosen = {**RUNNERS, **runners}
    include = [_job(image, platform, chosen) for image in images for platform in image.settings.image.platforms]
    if len(include) > MAX_JOBS:
        raise UsageError(
            f"matrix: {len(images)} images make {len(include)} jobs, and GitHub takes at most {MAX_JOBS} in a matrix",
            hint="take a matrix for each part with narrower patterns, or leave out what has not changed: --since",
        )
    return {"include": include, "images": [{"name": image.name, "file": image.file} for image in images]}


def _job(image: FleetImage, platform: Platform, runners: Mapping[Platform, str]) -> dict[str, str]:
    return {
        "name": image.name,
        "file": image.file,
        "platform": str(platform),
        "slug": str(platform).replace("/", "-"),
        "runner": runners.get(platform, DEFAULT_RUNNER),
    }


def job_lines(images: Sequence[FleetImage], reasons: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """A row for a person each image: name, file, platforms, and why it is there; `reasons` are by file."""
    for image in images:
        platforms = " ".join(map(str, image.settings.image.platforms))
        yield (image.name, image.file, platforms, reasons.get(image.file, ""))
