"""What a folder tells about the image that belongs to it. None of it is certain, and flags can say all of it."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path
from typing import Final

from kobuild.errors import InvalidReference
from kobuild.oci.reference import Reference

DEFAULT_BASE: Final = "debian:stable-slim"
REGISTRIES: Final = {"github.com": "ghcr.io", "gitlab.com": "registry.gitlab.com"}
"""The registry that belongs to a code host, with a repository for each of the host's own."""

_ADDRESS: Final = re.compile(r"(?:[a-z+]+://(?:[^@/]*@)?|(?:[^@/:]+@)?)(?P<host>[^/:]+)(?::\d+)?[/:]/*(?P<path>.+)")
_FROM: Final = re.compile(
    r"^FROM\s+(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<stage>\S+))?\s*$", re.IGNORECASE | re.MULTILINE
)
_MAX_DOCKERFILE_BYTES: Final = 1_000_000
_PATIENCE_SECONDS: Final = 10


def find_target(folder: Path) -> str | None:
    """The registry's repository that belongs to the git remote `origin`, tagged `latest`; None where there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "remote", "get-url", "origin"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git: then there is no remote either
    return target_of(done.stdout.strip()) if done.returncode == 0 else None


def target_of(remote: str) -> str | None:
    """The target for a remote's address, as https, ssh or scp spell it; None for a host whose registry is not known."""
    match = _ADDRESS.fullmatch(remote)
    registry = REGISTRIES.get(match["host"].lower()) if match is not None else None
    if match is None or registry is None:
        return None
    name = match["path"].rstrip("/").removesuffix(".git").lower()
    return _valid(f"{registry}/{name}:latest")


def local_target(folder: Path) -> str:
    """A target on this machine, named after the folder."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return f"localhost:5000/{name or 'image'}:latest"


def find_base(folder: Path) -> str | None:
    """The image that the last stage of the folder's Dockerfile starts from; None where no plain reference says so."""
    path = folder / "Dockerfile"
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_DOCKERFILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    stages = {match["stage"]: match["image"] for match in _FROM.finditer(text) if match["stage"]}
    images = [match["image"] for match in _FROM.finditer(text)]
    return _follow(images[-1], stages) if images else None


def _follow(image: str, stages: dict[str, str]) -> str | None:
    for _ in stages:
        image = stages.get(image, image)
    return image if image == "scratch" else _valid(image)


def find_platforms(machine: str | None = None) -> tuple[str, ...]:
    """linux/amd64, which runners have, and linux/arm64 where this machine is of that kind: the image runs here too."""
    is_arm = (machine or platform.machine()).lower() in ("arm64", "aarch64")
    return ("linux/amd64", "linux/arm64") if is_arm else ("linux/amd64",)


def _valid(text: str) -> str | None:
    try:
        Reference.parse(text)
    except InvalidReference:
        return None
    return text
