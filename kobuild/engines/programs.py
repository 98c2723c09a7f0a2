"""Running an engine's program: bounded in time and in what is kept of its output."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO, Final

from kobuild.engines.model import EngineUnfit, Outcome

PATIENCE_SECONDS: Final = 900.0
"""For an engine's own work, such as loading an image."""
CHECK_SECONDS: Final = 20.0
"""For a question, and for tidying up."""
FAILED_ITSELF: Final = 125
"""docker-run(1) and podman-run(1), "Exit Status": the error is the engine's own; buildah does likewise."""
KEPT_BYTES: Final = 1 << 16
_SHOWN_LETTERS: Final = 2000
_COLOURS: Final = re.compile(r"\x1b\[[0-9;:]*m")
_GRACE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.5


def run_program(
    command: Sequence[str], environ: Mapping[str, str], seconds: float, *, grace_seconds: float = _GRACE_SECONDS
) -> Outcome:
    """Run to the end, or stop it and all that it started after `seconds`; raises EngineUnfit where it cannot start.

    For `grace_seconds` it may end by itself after SIGTERM.
    """
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            start_new_session=True,
        )
    except OSError as error:
        raise EngineUnfit(f"run {command[0]}: {error.strerror}") from error
    assert process.stdout is not None  # noqa: S101  it was asked for
    with process:
        try:
            kept, is_over = _follow(process, process.stdout, start + seconds)
        finally:
            _end(process, grace_seconds)
    return Outcome(
        process.returncode if is_over else None, kept.decode("utf-8", "replace").strip(), time.monotonic() - start
    )


def must_run(command: Sequence[str], environ: Mapping[str, str], action: str) -> str:
    """What an engine says to a command of its own; raises EngineUnfit where it fails or does not end."""
    done = run_program(command, environ, PATIENCE_SECONDS)
    if done.code == 0:
        return done.output
    how = f"no end after {PATIENCE_SECONDS:.0f} s" if done.code is None else f"exit code {done.code}"
    raise EngineUnfit(f"{action}: {how}: {last_lines(done.output, 3)}")


def must_work(name: str, environ: Mapping[str, str]) -> None:
    """Raise EngineUnfit where an engine is not installed, or does not even tell about itself."""
    done = run_program([name, "info"], environ, CHECK_SECONDS)
    if done.code != 0:
        raise EngineUnfit(f"{name} does not work here: {last_lines(done.output, 1)}")


def last_lines(text: str, count: int) -> str:
    """The last lines of an output that say anything, joined for one line of a message.

    Colours are taken out, and what could move a terminal's cursor is not shown as it is.
    """
    lines = [line.strip() for line in _COLOURS.sub("", text).splitlines() if line.strip()]
    joined = " | ".join(lines[-count:])[-_SHOWN_LETTERS:]
    return "".join(letter if letter.isprintable() else "?" for letter in joined) or "it said nothing"


def _follow(process: subprocess.Popen[bytes], pipe: IO[bytes], deadline: float) -> tuple[bytes, bool]:
    """The end of the output, and whether the program ended by itself.

    What the program leaves running in the background may hold the pipe for as long as it likes, and is not waited for.
    """
    kept = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(min(left, _LOOK_SECONDS)):
                if process.poll() is not None:
                    return kept, True
                continue
            data = os.read(pipe.fileno(), KEPT_BYTES)
            if not data:
                return kept, _waited(process, max(0.0, deadline - time.monotonic()))
            kept = (kept + data)[-KEPT_BYTES:]
    return kept, process.poll() is not None


def _waited(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Stop what still runs: politely, so that an engine can take its container down, then for good."""
    if process.poll() is None:
        process.terminate()
        _waited(process, grace_seconds)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nothing of it is left; PermissionError is macOS's word for that
        return
