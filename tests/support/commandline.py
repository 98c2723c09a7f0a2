"""kobuild as a person runs it: a process of its own, in a project's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Kobuild:
    """A project's folder with its settings, and the command in it."""

    folder: Path
    cache: Path
    environ: dict[str, str] = field(default_factory=dict)

    def settings(self, text: str) -> Path:
        """Write `kobuild.toml`."""
        path = self.folder / "kobuild.toml"
        path.write_text(text)
        return path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "kobuild", *arguments]

    def variables(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        python_path = {"PYTHONPATH": str(ROOT), "KOBUILD_CACHE_DIR": str(self.cache)}
        # An installed kobuild has its bytecode; compiling it anew each time would be timed too.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**inherited, **python_path, **self.environ, **(environ or {})}

    def run(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Done:
        """Run to the end, whatever the exit code."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.variables(environ),
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Done:
        """Run, and insist that it went well."""
        done = self.run(*arguments, environ=environ)
        assert done.code == 0, f"kobuild {' '.join(arguments)}: exit {done.code}\n{done.out}{done.err}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a run, to be interrupted."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cached_blobs(self) -> set[str]:
        return {path.name for path in (self.cache / "blobs").rglob("*") if path.is_file()}

    def leftovers(self) -> list[str]:
        """Files under temporary names, in the cache or the project, that something left half-made."""
        roots = (self.cache, self.folder)
        return sorted(path.name for root in roots for path in root.rglob("*") if path.name.endswith(".tmp"))
