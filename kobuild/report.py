"""What a person sees: bars while they look, plain lines in a log, a closing table; all of it on stderr."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from kobuild import github
from kobuild.errors import KobuildError, SettingsError
from kobuild.progress import NullReporter, NullTransfer, Reporter, Transfer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_WORTH_A_LINE: Final = 1_000_000
"""Transfers of fewer bytes than this are over before anyone has read of them."""
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys: control characters but line feed and tab, and those that turn the direction of writing."""


def harmless(text: str) -> str:
    """A text that may hold words from outside, with what a terminal would obey escaped."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def format_size(size_bytes: int) -> str:
    """Decimal units, as registries count: `68.2 MB`."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{size_bytes} B" if unit == "B" else f"{value:.1f} {unit}"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Columns as wide as their widest cell; those in `right` are aligned to the right."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def render(line: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return "\n".join(render(line) for line in lines)


class _LineTransfer:
    """A transfer that writes one line when it is over."""

    def __init__(self, reporter: LineReporter, name: str) -> None:
        self._reporter = reporter
        self._name = name
        self._count = 0
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def advance(self, count: int) -> None:
        with self._lock:
            self._count += count

    def done(self, note: str = "") -> None:
        if self._count < _WORTH_A_LINE and not note:
            return
        seconds = time.monotonic() - self._start
        amount = f"{format_size(self._count)} in {seconds:.1f} s" if self._count else ""
        self._reporter.write(f"{self._name}: {', '.join(part for part in (amount, note) if part) or 'done'}")


class LineReporter:
    """Plain lines, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Write one line at once, so that threads do not mix."""
        with self._lock:
            self._stream.write(harmless(text) + "\n")
            self._stream.flush()

    def transfer(self, name: str, total_bytes: int | None) -> Transfer:
        """A count that is told when it is done."""
        return _LineTransfer(self, name)

    def notice(self, text: str) -> None:
        """Write the notice."""
        self.write(text)

    def warning(self, text: str) -> None:
        """Write the warning."""
        self.write(f"warning: {text}")


class GithubReporter(LineReporter):
    """Lines for the log of a GitHub workflow: warnings are annotations, and nothing from outside is a command."""

    def write(self, text: str) -> None:
        """Write lines that the runner takes for what they are."""
        super().write(github.harmless(text))

    def warning(self, text: str) -> None:
        """Write the warning as an annotation."""
        super().write(github.command("warning", text, title="kobuild"))


class _BarTransfer:
    """A transfer shown as a bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)

    def done(self, note: str = "") -> None:
        if note:
            description = self._progress.tasks[self._task].description
            self._progress.update(self._task, description=f"{description} [dim]{note}[/dim]")
        self._progress.stop_task(self._task)
        self._progress.update(self._task, total=self._progress.tasks[self._task].completed)


class BarReporter:
    """Moving bars, for a person at a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def transfer(self, name: str, total_bytes: int | None) -> Transfer:
        """A new bar; pulsing where the total is not known, none for what is over at once."""
        if total_bytes is not None and total_bytes < _WORTH_A_LINE:
            return NullTransfer()
        return _BarTransfer(self._progress, self._progress.add_task(_escape(name), total=total_bytes))

    def notice(self, text: str) -> None:
        """Write the notice above the bars."""
        self._progress.console.print(harmless(text), markup=False, highlight=False)

    def warning(self, text: str) -> None:
        """Write the warning above the bars."""
        self._progress.console.print(f"warning: {harmless(text)}", style="yellow", markup=False, highlight=False)


def _escape(text: str) -> str:
    return harmless(text).replace("[", r"\[")


class QuietReporter(NullReporter):
    """Only warnings."""

    def __init__(self, lines: LineReporter) -> None:
        self._lines = lines

    def transfer(self, name: str, total_bytes: int | None) -> Transfer:
        """A transfer that nobody watches."""
        return NullTransfer()

    def warning(self, text: str) -> None:
        """Write the warning."""
        self._lines.warning(text)


@contextmanager
def reporting(*, quiet: bool, stream: TextIO | None = None) -> Iterator[Reporter]:
    """The reporter that fits who looks: bars on a terminal, lines in a log, warnings only where quiet."""
    target = stream if stream is not None else sys.stderr
    lines = GithubReporter(target) if github.is_github(os.environ) else LineReporter(target)
    if quiet:
        yield QuietReporter(lines)
    elif github.is_github(os.environ):
        yield lines
    elif target.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI"):
        with _bars(target) as progress:
            yield BarReporter(progress)
    else:
        yield lines


@contextmanager
def group(title: str, *, quiet: bool = False) -> Iterator[None]:
    """Fold what is written meanwhile in the log of a GitHub workflow; anywhere else this does nothing."""
    if quiet or not github.is_github(os.environ):
        yield
        return
    tell(github.command("group", title))
    try:
        yield
    finally:
        tell(github.command("endgroup"))


def say(text: str) -> None:
    """Write lines for a person to standard error at once."""
    tell(harmless(github.harmless(text) if github.is_github(os.environ) else text))


def tell(text: str) -> None:
    """Write to standard error at once, as it is: in a GitHub workflow it may be a command."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _bars(stream: TextIO) -> Progress:
    # Rich costs a tenth of a second to import: only when a person looks.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    # Standard output carries the result alone: it must not be drawn among the bars.
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(file=stream), transient=True, redirect_stdout=False)


def format_error(error: KobuildError, *, colour: bool = False) -> str:
    """An error as a person reads it: what, where, why, and what to do."""
    mark = "\x1b[1;31merror\x1b[0m" if colour else "error"
    texts = error.faults if isinstance(error, SettingsError) else (error,)
    lines = [f"{mark}: {harmless(str(text))}" for text in texts]
    if error.hint:
        lines.append(f"hint: {harmless(error.hint)}")
    return "\n".join(lines)


def tell_error(error: KobuildError, settings_file: Path | None = None) -> None:
    """Show an error: in a GitHub workflow as annotations, at the lines of the settings that it speaks of."""
    if github.is_github(os.environ):
        tell("\n".join(github.error_commands(error, settings_file, os.environ)))
    else:
        tell(format_error(error, colour=wants_colour(sys.stderr)))


def wants_colour(stream: TextIO) -> bool:
    """Whether to colour: FORCE_COLOR says yes, NO_COLOR says no (no-color.org), else a terminal decides."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"
