"""What was measured, for people and for machines."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from bench.measure import Group, Row, Sample
from kobuild import __version__
from kobuild.report import format_size, format_table

_HEADER = ("", "wall", "min-max", "CPU", "peak memory", "layer", "x time")


def to_text(group: Group) -> str:
    """A group as a table, with the reasons of those that failed below it."""
    table = format_table(_HEADER, [_cells(row, group.rows[0]) for row in group.rows], right=frozenset(range(1, 7)))
    failures = [f"{row.name}: {row.failure}" for row in group.rows if row.failure is not None]
    return "\n".join([f"\n{group.title}", table, *failures])


def _cells(row: Row, baseline: Row) -> tuple[str, ...]:
    size = "" if row.size_bytes is None else format_size(row.size_bytes)
    if row.failure is not None or not row.samples:
        return (row.name, "failed", "", "", "", size, "")
    walls = [sample.wall_s for sample in row.samples]
    ratio = row.ratio(baseline)
    return (
        row.name,
        f"{median(walls):.2f} s",
        f"{min(walls):.2f}-{max(walls):.2f}",
        f"{_middle(row, lambda sample: sample.cpu_s):.2f} s",
        format_size(round(_middle(row, lambda sample: float(sample.peak_bytes)))),
        size,
        "" if ratio is None else f"{ratio:.2f}",
    )


def _middle(row: Row, value: Callable[[Sample], float]) -> float:
    return median(value(sample) for sample in row.samples)


def to_json(groups: Sequence[Group]) -> dict[str, Any]:
    """Everything, with the machine that it was measured on."""
    return {
        "kobuild": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "load_average": os.getloadavg(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "groups": [group.to_json() for group in groups],
    }
