"""Running an engine's program, and showing what it said."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kobuild.engines.model import EngineUnfit
from kobuild.engines.programs import KEPT_BYTES, last_lines, must_run, run_program


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it said nothing"),
        (" \n\r\n", "it said nothing"),
        ("a\nb\n\nc\n", "b | c"),
        ("10%\r50%\r100%", "50% | 100%"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x\x1b[2J", "?]0;title?x?[2J"),
        ("::error::x\n::set-env", "::error::x | ::set-env"),
        ("y" * 5000, "y" * 2000),
    ],
)
def test_what_a_program_said_is_shown_in_one_harmless_line(text: str, expected: str) -> None:
    assert last_lines(text, 2) == expected


def test_both_streams_are_kept_in_order_and_the_end_of_them() -> None:
    done = run_program(["sh", "-c", "echo a; echo b >&2; echo c; exit 3"], os.environ, 20)
    assert (done.code, done.output) == (3, "a\nb\nc")
    done = run_program(["sh", "-c", f"head -c {3 * KEPT_BYTES} /dev/zero | tr '\\0' x; echo; echo end"], os.environ, 20)
    assert done.output.endswith("x\nend")
    assert len(done.output) < KEPT_BYTES


def test_nothing_of_a_program_lives_on_after_its_time() -> None:
    start = time.monotonic()
    script = "trap '' TERM; echo $$; (sleep 50.25 & echo $!; wait) & echo $!; wait"
    done = run_program(["sh", "-c", script], os.environ, 0.5, grace_seconds=0.2)
    assert done.code is None
    assert time.monotonic() - start < 15
    for number in done.output.split():
        with pytest.raises(ProcessLookupError):
            wait_for_end(int(number))


def wait_for_end(number: int) -> None:
    """Raise ProcessLookupError once no such process runs; one that is dead and not yet collected does not run."""
    for _ in range(50):
        os.kill(number, 0)
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            state = "Z"
        if state == "Z":
            raise ProcessLookupError
        time.sleep(0.02)


def test_a_program_that_is_not_there_or_fails() -> None:
    with pytest.raises(EngineUnfit, match="run /nosuch: No such file"):
        run_program(["/nosuch"], os.environ, 1)
    with pytest.raises(EngineUnfit, match="load: exit code 4: no space"):
        must_run(["sh", "-c", "echo no space; exit 4"], os.environ, "load")
    assert must_run(["echo", "fine"], os.environ, "load") == "fine"
