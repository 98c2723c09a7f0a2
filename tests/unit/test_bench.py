"""The measuring command runs, and tells the truth about what it ran."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.generated import Shape, make_archive
from bench.measure import Command, Row, RunError, Sample, Trial, compare, run
from bench.table import to_text
from tests.support.commandline import ROOT


def python(folder: Path, text: str) -> Command:
    return Command([sys.executable, "-I", "-c", text], folder, os.environ)


def quiet(_: str) -> None:
    pass


def test_the_whole_command_in_small(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "bench", "--quick", "--json", str(tmp_path / "all.json")]
    environ = {name: value for name, value in os.environ.items() if name != "DOCKER_CONFIG"}

    done = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    if done.returncode != 0 and "is not installed" in done.stderr and not os.environ.get("CI"):
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    groups = {group["title"]: group["rows"] for group in json.loads((tmp_path / "all.json").read_text())["groups"]}
    assert [row["name"] for row in groups["push from an empty cache"]][:1] == ["kobuild gzip"]
    assert {len(row["samples"]) for rows in groups.values() for row in rows} == {1}
    assert all(row["layer_bytes"] > 0 for row in groups["push from an empty cache"])
    assert all(title in done.stdout for title in groups)


def test_time_processor_and_memory_are_those_of_the_command(tmp_path: Path) -> None:
    idle = run(python(tmp_path, "import time; time.sleep(0.2)"))
    large = run(python(tmp_path, "data = bytearray(100_000_000)\nfor at in range(0, len(data), 4096): data[at] = 1"))

    assert idle.wall_s >= 0.2
    assert idle.cpu_s < idle.wall_s
    assert idle.peak_bytes < 50_000_000
    assert large.peak_bytes > 100_000_000


def test_memory_of_the_measuring_process_is_not_counted(tmp_path: Path) -> None:
    ballast = bytearray(os.urandom(1)) * 200_000_000

    assert run(python(tmp_path, "pass")).peak_bytes < 50_000_000
    assert ballast


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^exit 3: it broke$"):
        run(python(tmp_path, "print('it broke'); raise SystemExit(3)"))


def test_trials_take_turns_and_a_failure_stops_only_its_own(tmp_path: Path) -> None:
    turns: list[str] = []

    def trial(name: str, text: str) -> Trial:
        def begin() -> Command:
            turns.append(name)
            return python(tmp_path, text)

        return Trial(name, begin)

    group = compare("all", [trial("a", "pass"), trial("bad", "raise SystemExit(1)"), trial("b", "pass")], 2, quiet)

    assert turns == ["a", "bad", "b", "a", "b", "a", "b"]
    assert [len(row.samples) for row in group.rows] == [2, 0, 2]
    assert "bad: exit 1" in to_text(group)


@pytest.fixture
def rows() -> tuple[Row, Row]:
    # The machine was three times as slow in the second round, for both.
    ours = Row("ours", [Sample(1.0, 1.0, 1), Sample(3.0, 1.0, 1), Sample(1.1, 1.0, 1)])
    theirs = Row("theirs", [Sample(4.0, 1.0, 1), Sample(12.0, 1.0, 1), Sample(4.4, 1.0, 1)])
    return ours, theirs


def test_ratios_compare_within_a_round(rows: tuple[Row, Row]) -> None:
    ours, theirs = rows

    assert theirs.ratio(ours) == pytest.approx(4.0)
    assert ours.ratio(ours) == 1.0
    assert Row("none").ratio(ours) is None


def test_archives_are_the_same_each_time_and_made_once(tmp_path: Path) -> None:
    shape = Shape(members=30, member_bytes=5_000)
    first = make_archive(tmp_path / "a", shape)
    second = make_archive(tmp_path / "b", shape)

    assert first.read_bytes() == second.read_bytes()
    assert make_archive(tmp_path / "a", shape).stat().st_mtime_ns == first.stat().st_mtime_ns
    assert 0.1 < first.stat().st_size / shape.total_bytes < 0.7
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [shape.name]
