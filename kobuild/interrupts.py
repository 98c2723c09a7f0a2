"""Ctrl-C and SIGTERM: both end a run in the same way, whatever it is waiting for."""

from __future__ import annotations

import os
import signal
import threading
from typing import Final, NoReturn

_PATIENCE_SECONDS: Final = 0.1


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, handled as Ctrl-C is."""


def attend_interrupts() -> None:
    """Have SIGINT raise KeyboardInterrupt and SIGTERM TerminatedError in the main thread, from which this is called.

    Python notes a signal, and looks for it between two instructions or when it ended a system call (library reference,
    `signal`, "Execution of Python signal handlers"). One that comes after the last look and before the call is missed
    until the call ends, which may be never. So a thread hears of the first signal too, and sends it again until it was
    seen. A SIGINT that the process was started to ignore stays ignored.
    """
    seen = threading.Event()

    def interrupt(number: int, _frame: object) -> NoReturn:
        seen.set()
        raise TerminatedError if number == signal.SIGTERM else KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    main = threading.get_ident()
    threading.Thread(target=_remind, args=(reader, main, seen), name="kobuild-interrupts", daemon=True).start()


def _remind(reader: int, main: int, seen: threading.Event) -> None:
    number = os.read(reader, 1)[0]
    while not seen.wait(_PATIENCE_SECONDS):
        signal.pthread_kill(main, number)
