"""An interrupt ends a run even where Python would miss it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_WAITING = """
import queue, signal, sys, threading, time
from kobuild.interrupts import TerminatedError, attend_interrupts
number = int(sys.argv[1])
if sys.argv[2] == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
attend_interrupts()
def send():
    # Heard by this thread alone: the main one stays in its system call, as where a signal came just before that.
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), number)
threading.Thread(target=send, daemon=True).start()
try:
    queue.SimpleQueue().get(timeout=float(sys.argv[3]))
except KeyboardInterrupt as error:
    print(type(error).__name__)
except queue.Empty:
    print("nothing came")
"""


def run(number: int, sigint: str, seconds: float) -> str:
    command = [sys.executable, "-c", _WAITING, str(int(number)), sigint, str(seconds)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "TerminatedError")]
)
def test_a_signal_that_the_main_thread_missed_is_sent_again(number: signal.Signals, raised: str) -> None:
    assert run(number, "heard", 60) == raised


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    assert run(signal.SIGINT, "ignored", 1) == "nothing came"
    assert run(signal.SIGTERM, "ignored", 60) == "TerminatedError"
