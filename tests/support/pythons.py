"""Interpreters of this machine that can run kobuild: on PATH, pyenv's, and those that KOBUILD_TEST_PYTHONS names."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

VARIABLE: Final = "KOBUILD_TEST_PYTHONS"
"""Interpreters with kobuild's dependencies, as PATH lists folders."""
_MINORS: Final = range(10, 15)
_ASK: Final = """
import sys, requests, packaging, tomli, tomli_w, rich, platformdirs, truststore
if sys.version_info < (3, 14):
    import backports.zstd
print("%d.%d" % sys.version_info[:2])
"""


@functools.cache
def find_pythons() -> dict[str, str]:
    """By version, the program; always this one, and each other that has what kobuild depends on."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for program in _candidates():
        done = subprocess.run([program, "-c", _ASK], capture_output=True, text=True, check=False, env=_environ())
        if done.returncode == 0:
            found.setdefault(done.stdout.strip(), program)
    return found


def _candidates() -> list[str]:
    named = [program for program in os.environ.get(VARIABLE, "").split(os.pathsep) if program]
    on_path = [shutil.which(f"python3.{minor}") for minor in _MINORS]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    kept = [path for minor in _MINORS for path in sorted(root.glob(f"versions/3.{minor}.*/bin/python"))]
    return [*named, *(program for program in on_path if program is not None), *map(str, kept)]


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
