"""What GitHub's runner understands in a log: groups, and annotations at a line of a file; and the job's summary.

The commands and their escapes are those of github.com/actions/toolkit, packages/core/src/command.ts. The runner reads
them from standard error as well as from standard output, so the result stays alone on the latter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from kobuild.errors import Fault, KobuildError, NewsFound, SettingsError

SUMMARY_VARIABLE: Final = "GITHUB_STEP_SUMMARY"
_TITLE: Final = "kobuild"
_MAX_SUMMARY_BYTES: Final = 1_000_000
"""GitHub takes 1 MiB a step, and drops the whole of what is longer."""
_TOOL: Final = re.compile(r"\btools\.([A-Za-z0-9_-]+)")
_BASE: Final = re.compile(r"\bbase\b")


def is_github(environ: Mapping[str, str]) -> bool:
    """Whether this runs as a step of a GitHub workflow."""
    return environ.get("GITHUB_ACTIONS") == "true"


def command(name: str, message: str = "", **properties: str) -> str:
    """One line for the runner, such as `::error file=kobuild.toml,line=3::message`; empty properties are left out."""
    listed = ",".join(f"{key}={_escape_property(value)}" for key, value in properties.items() if value)
    return f"::{name}{' ' if listed else ''}{listed}::{_escape_data(message)}"


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")


def harmless(text: str) -> str:
    """Text from outside as log lines that the runner does not take for commands.

    It takes a line that begins with `::` after blanks, and, in the old spelling, `##[` anywhere in one.
    """
    lines = text.replace("\r", "\n").split("\n")
    return "\n".join(re.sub(r"\A(\s*):(?=:)", r"\1: ", line).replace("##[", "## [") for line in lines)


def error_commands(error: KobuildError, settings_file: Path | None, environ: Mapping[str, str]) -> list[str]:
    """The commands that show an error, each fault of the settings at its line."""
    if isinstance(error, NewsFound):
        return [command("notice", str(error), title=_TITLE)]
    if isinstance(error, SettingsError):
        lines = [_fault(fault, environ) for fault in error.faults]
        return [*lines, *([command("notice", f"hint: {error.hint}", title=_TITLE)] if error.hint else [])]
    text = f"{error}\nhint: {error.hint}" if error.hint else str(error)
    place = _place(str(error), settings_file) if settings_file is not None else None
    if place is None:
        return [command("error", text, title=_TITLE)]
    file, line = place
    return [command("error", text, title=_TITLE, file=_from_workspace(file, environ), line=str(line))]


def _fault(fault: Fault, environ: Mapping[str, str]) -> str:
    line = "" if fault.line is None else str(fault.line)
    return command("error", str(fault), title=_TITLE, file=_from_workspace(Path(fault.file), environ), line=line)


def _from_workspace(path: Path, environ: Mapping[str, str]) -> str:
    """The path as GitHub knows it: from the top of the checkout; as it is where it lies elsewhere."""
    workspace = environ.get("GITHUB_WORKSPACE")
    if not workspace:
        return str(path)
    relative = os.path.relpath(os.path.realpath(path), os.path.realpath(workspace))
    return str(path) if relative.startswith("..") else relative


def _place(text: str, settings_file: Path) -> tuple[Path, int] | None:
    """The line of the settings that an error speaks of: of the one tool that it names, or of the base."""
    # Here, not above: only an error in a workflow needs it.
    from kobuild.settings.locate import locate  # noqa: PLC0415

    try:
        locations = locate(settings_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    for path in _subjects(text):
        if path in locations.lines:
            return settings_file, locations.lines[path]
    return None


def _subjects(text: str) -> Iterator[tuple[str, ...]]:
    yield from (("tools", name) for name in dict.fromkeys(_TOOL.findall(text)))
    if _BASE.search(text):
        yield ("image", "base")


def append_summary(markdown: str, environ: Mapping[str, str]) -> bool:
    """Add to the job's summary; False where there is none, or where it would be too long to be shown."""
    name = environ.get(SUMMARY_VARIABLE)
    if not is_github(environ) or not name:
        return False
    data = f"{markdown.rstrip()}\n\n".encode()
    path = Path(name)
    try:
        if len(data) + (path.stat().st_size if path.exists() else 0) > _MAX_SUMMARY_BYTES:
            return False
        with path.open("ab") as file:
            file.write(data)
    except OSError:
        return False  # a summary is a courtesy: it fails no build
    return True
