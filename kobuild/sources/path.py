"""`path:FILE-OR-DIR`: an archive, a single file or a directory beside the settings.

A directory's sum is a tree digest: sha256 over its entries, sorted by the bytes of their names, each as kind, name and
the sha256 of its content. Of the modes only the owner's execute bit counts, and times do not, so that umask, checkout
and the order of listing change nothing; the layer engine keeps just as much of a directory.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kobuild.errors import ResolveError
from kobuild.oci.platforms import Platform
from kobuild.settings.model import ToolSettings
from kobuild.sources.hashing import hash_file
from kobuild.sources.model import Artifact, Release, SourceContext, Vouched
from kobuild.sources.placeholders import fill, platform_values
from kobuild.sources.versions import parse_pin
from kobuild.streams import disk_errors

SCHEME: Final = "path:"


class PathSource:
    """Local files; no network, and no version but the one that the settings name."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context

    def resolve(self, tool: ToolSettings, platforms: tuple[Platform, ...]) -> Release:
        """The file or directory as it is now; {os}, {arch} and {machine} may tell platforms apart."""
        pin = parse_pin(tool.version)
        version = pin.text if pin.is_exact else ""
        found: dict[str, Artifact] = {}
        artifacts = {}
        for platform in platforms:
            name = fill(tool.source.argument, platform_values(platform), where=f"source = '{tool.source}'")
            if name not in found:
                found[name] = _examine(name, self._context.folder)
            artifacts[platform] = found[name]
        return Release(version, version, artifacts)


def resolve_path(name: str, folder: Path) -> Path:
    """The file that `path:NAME` means; raises ResolveError where there is none."""
    path = folder / name
    if not path.exists():
        raise ResolveError(
            f"path:{name}: there is no {path}", hint=f"the path is relative to the settings' folder, {folder}"
        )
    return path


def is_directory(url: str, filename: str) -> bool:
    """Whether a file of the lock is a directory, for which there is no archive to read."""
    return url.startswith(SCHEME) and filename.endswith("/")


def _examine(name: str, folder: Path) -> Artifact:
    path = resolve_path(name, folder)
    if path.is_dir():
        size, sha256 = tree_digest(path)
        filename = f"{path.resolve().name}/"
    else:
        size, sha256 = hash_file(path)
        filename = path.name
    return Artifact(f"{SCHEME}{name}", filename, size, sha256, Vouched.LOCAL)


def tree_digest(folder: Path) -> tuple[int, str]:
    """The size of all files together, in bytes, and the tree's sha256 (hex)."""
    total, hasher = 0, hashlib.sha256()
    for kind, name, size, content in _entries(os.fsencode(folder), b""):
        total += size
        # Lengths before names: no two trees can give the same bytes.
        hasher.update(b"%s %d %s %s\n" % (kind, len(name), name, content.encode()))
    return total, hasher.hexdigest()


def _entries(root: bytes, folder: bytes) -> Iterator[tuple[bytes, bytes, int, str]]:
    """Kind, name, size and content's sum of each entry, parents first, siblings by the bytes of their names."""
    with disk_errors("read", Path(os.fsdecode(root))):
        for entry in sorted(os.listdir(os.path.join(root, folder))):
            name = os.path.join(folder, entry)
            path = os.path.join(root, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                yield b"link", name, 0, hashlib.sha256(os.readlink(path)).hexdigest()
            elif stat.S_ISDIR(status.st_mode):
                yield b"directory", name, 0, "-"
                yield from _entries(root, name)
            elif stat.S_ISREG(status.st_mode):
                size, sha256 = hash_file(Path(os.fsdecode(path)))
                yield (b"program" if status.st_mode & 0o100 else b"file"), name, size, sha256
            else:
                raise ResolveError(f"{os.fsdecode(path)} is neither a file, a directory nor a link")
