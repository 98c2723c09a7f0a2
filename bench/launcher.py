"""Run one command and write what it cost to a file: `python -I -S launcher.py RESULT PROGRAM ARGUMENT...`.

It is a small process of its own because Linux counts the memory of the process that starts a program into the
program's own peak: a measuring process of 60 MB would hide every peer that needs less.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(result: str, command: list[str]) -> None:
    """Times are seconds, memory is bytes: that of the largest process, for a command that starts several."""
    start = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.monotonic() - start
    unit = 1 if sys.platform == "darwin" else 1024
    cost = {
        "code": os.waitstatus_to_exitcode(status),
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * unit,
    }
    with open(result, "w", encoding="utf-8") as file:
        json.dump(cost, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
