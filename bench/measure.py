"""Run commands side by side: a warm-up, then rounds in which each trial has its turn (A B C, A B C, ...).

Whatever else the machine does then falls on all of them alike, and the ratio within a round stays true where the
seconds do not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

_LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Command:
    """What is timed."""

    argv: Sequence[str]
    folder: Path
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Trial:
    """One row of a table."""

    name: str
    begin: Callable[[], Command]
    """Bring the start about (an empty cache, a new target) and say what to run; this is not timed."""
    size_bytes: Callable[[], int | None] = lambda: None
    """Of the layer that the run made."""


@dataclass(frozen=True)
class Sample:
    """What one run cost."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def python_environ(folder: Path) -> dict[str, str]:
    """The environment for a run of kobuild from its source, with what an install brings: bytecode, here in `folder`."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


class RunError(Exception):
    """A command failed; the text says how."""


@dataclass
class Row:
    """All runs of one trial."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    size_bytes: int | None = None
    failure: str | None = None

    def ratio(self, baseline: Row) -> float | None:
        """How many times the baseline's time it takes: the median over rounds, each compared with itself."""
        pairs = list(zip(self.samples, baseline.samples, strict=False))
        return median(mine.wall_s / theirs.wall_s for mine, theirs in pairs) if pairs else None

    def to_json(self, baseline: Row) -> dict[str, Any]:
        return {
            "name": self.name,
            "failure": self.failure,
            "layer_bytes": self.size_bytes,
            "wall_ratio": self.ratio(baseline),
            "samples": [vars(sample) for sample in self.samples],
        }


@dataclass(frozen=True)
class Group:
    """One table: the first row is what the others are compared with."""

    title: str
    rows: Sequence[Row]

    def to_json(self) -> dict[str, Any]:
        return {"title": self.title, "rows": [row.to_json(self.rows[0]) for row in self.rows]}


def run(command: Command) -> Sample:
    """Run to the end; raises RunError where it ends badly."""
    with tempfile.TemporaryDirectory(prefix="kobuild-bench-") as folder:
        result = Path(folder) / "cost.json"
        with (Path(folder) / "output").open("wb") as output:
            launch = [sys.executable, "-I", "-S", str(_LAUNCHER), str(result), *command.argv]
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            subprocess.run(launch, cwd=command.folder, env=dict(command.environ), check=False, **streams)  # type: ignore[call-overload]
        said = _abridge((Path(folder) / "output").read_text(errors="replace"))
        if not result.exists():
            raise RunError(said)
        cost = json.loads(result.read_text())
    if (code := cost.pop("code")) != 0:
        raise RunError(f"exit {code}: {said}")
    return Sample(**cost)


def _abridge(text: str, lines: int = 6) -> str:
    """Its first and last lines: programs differ in where they say what went wrong."""
    every = text.strip().splitlines()
    return "\n".join(every if len(every) <= 2 * lines else [*every[:lines], "...", *every[-lines:]])


def compare(
    title: str, trials: Sequence[Trial], rounds: int, say: Callable[[str], None], *, warm_up: bool = True
) -> Group:
    """Measure the trials side by side; one that fails says why in its row and has no more turns."""
    rows = [Row(trial.name) for trial in trials]
    for turn in range(0 if warm_up else 1, rounds + 1):
        for trial, row in zip(trials, rows, strict=True):
            if row.failure is None:
                say(f"{title}: {trial.name} ({f'round {turn}' if turn else 'warm-up'})")
                _take_turn(trial, row, warm_up=turn == 0)
    return Group(title, rows)


def _take_turn(trial: Trial, row: Row, *, warm_up: bool) -> None:
    try:
        sample = run(trial.begin())
        row.size_bytes = trial.size_bytes()
    except RunError as error:
        row.failure = str(error)
        return
    if not warm_up:
        row.samples.append(sample)
