"""The layer engine alone: beside igzip, on large archives, and as archives grow."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.generated import Shape, make_archive
from bench.measure import Command, Trial, python_environ
from tests.support.commandline import ROOT

FORMATS = ("gzip", "estargz", "zstd", "zstd:chunked")


def engine(name: str, archive: Path, folder: Path, compression: str = "gzip") -> Trial:
    """kobuild's engine on one archive."""
    layer = folder / "layer"
    environ = {**python_environ(folder), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "bench.engine", str(archive), str(layer), compression, "/usr/local"]
    return Trial(name, lambda: Command(argv, folder, environ), lambda: layer.stat().st_size)


def igzip_pipe(archive: Path, folder: Path) -> Trial:
    """The floor: the same bytes unpacked and packed by ISA-L's own program; nothing is renamed, and nothing hashed."""
    layer = folder / "piped"
    argv = ["sh", "-c", f"igzip -dc '{archive}' | igzip -2c > '{layer}'"]
    return Trial("igzip -dc | igzip -2c", lambda: Command(argv, folder, os.environ), lambda: layer.stat().st_size)


def beside_igzip(archive: Path, folder: Path) -> list[Trial]:
    """Each format, and the pipe where there is an igzip."""
    pipe = [igzip_pipe(archive, folder)] if shutil.which("igzip") else []
    first, *others = [engine(f"kobuild {compression}", archive, folder, compression) for compression in FORMATS]
    return [first, *pipe, *others]


def each_format(archive: Path, folder: Path) -> list[Trial]:
    """Each format on one archive."""
    return [engine(f"kobuild {compression}", archive, folder, compression) for compression in FORMATS]


def growth(shapes: Sequence[Shape], inputs: Path, folder: Path) -> list[Trial]:
    """One row an archive."""
    return [
        engine(f"{shape.total_bytes / 1e6:.0f} MB in {shape.members} members", make_archive(inputs, shape), folder)
        for shape in shapes
    ]
