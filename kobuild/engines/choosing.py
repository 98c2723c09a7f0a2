"""Which engine runs programs, and for which platforms this machine can."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from kobuild.engines.buildah import Buildah
from kobuild.engines.daemons import RunEngine
from kobuild.engines.model import Engine, EngineUnfit
from kobuild.oci.platforms import Platform

ENGINES: Final = ("docker", "podman", "buildah")
"""In the order of asking: those that keep a program apart from the machine come first."""
_EMULATORS: Final = Path("/proc/sys/fs/binfmt_misc")
"""binfmt_misc(5): a file for each interpreter that the kernel starts for foreign programs."""
_EMULATED: Final = {
    "386": "i386",
    "amd64": "x86_64",
    "arm64": "aarch64",
    "arm": "arm",
    "loong64": "loongarch64",
    "mips64le": "mips64el",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
"""Go's word for an architecture to QEMU's."""
_INSTALL: Final = "install docker, podman or buildah, or leave --run out"


def find_engines(wanted: str | None, environ: Mapping[str, str]) -> Iterator[Engine]:
    """The engines to try, one after the other: the wanted one alone, or all that are on PATH.

    Raises EngineUnfit where there is none.
    """
    names = (wanted,) if wanted is not None else ENGINES
    there = [name for name in names if shutil.which(name, path=environ.get("PATH")) is not None]
    if not there:
        what = f"there is no {wanted} on PATH" if wanted is not None else "there is no container engine on PATH"
        raise EngineUnfit(f"run the tools' tests: {what}", hint=_INSTALL)
    return (Buildah(environ) if name == "buildah" else RunEngine(name, environ) for name in there)


def can_run(wanted: Platform, *, emulators: Path = _EMULATORS) -> bool:
    """Whether programs for a platform run on this machine: by its processor, or by an emulator that it has."""
    if wanted.os != "linux":
        return False
    if sys.platform == "darwin":
        return wanted.architecture in ("amd64", "arm64")  # the engines there bring a machine that emulates the other
    own = Platform("linux", platform.machine()).normalized()
    if wanted.architecture == own.architecture and own.architecture != "arm":
        return True
    if (own.architecture, wanted.architecture) == ("amd64", "386") or wanted in own.runnable:
        return True
    emulator = emulators / f"qemu-{_EMULATED.get(wanted.architecture, '?')}"
    try:
        return emulator.read_text(encoding="ascii", errors="replace").startswith("enabled")
    except OSError:
        return False
