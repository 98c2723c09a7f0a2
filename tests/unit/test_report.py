"""What a person sees: nothing from outside is obeyed by the terminal."""

from __future__ import annotations

import io

import pytest

from kobuild.errors import KobuildError
from kobuild.report import LineReporter, format_error, harmless, reporting, say

HOSTILE = "a\x1b]0;owned\x07\r\x9b2Jb\u202ec\td\ne"
SHOWN = "a\\x1b]0;owned\\x07\\r\\x9b2Jb\\u202ec\td\ne"


def test_words_from_outside_do_not_move_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert harmless(HOSTILE) == SHOWN
    assert harmless("héllo → 世界 🙂") == "héllo → 世界 🙂"
    stream = io.StringIO()
    lines = LineReporter(stream)
    lines.notice(HOSTILE)
    lines.warning(HOSTILE)
    assert stream.getvalue() == f"{SHOWN}\nwarning: {SHOWN}\n"
    say(HOSTILE)
    assert capsys.readouterr().err == f"{SHOWN}\n"
    error = KobuildError(HOSTILE, hint=HOSTILE)
    assert format_error(error) == f"error: {SHOWN}\nhint: {SHOWN}"
    assert format_error(error, colour=True).startswith("\x1b[1;31merror\x1b[0m: a\\x1b]")


def test_bars_take_nothing_for_a_command_either(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("GITHUB_ACTIONS", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with reporting(quiet=False, stream=stream) as reporter:
        reporter.notice(HOSTILE)
        reporter.warning(HOSTILE)
    assert "\x1b]0" not in stream.getvalue()
    assert stream.getvalue().count("owned") == 2
