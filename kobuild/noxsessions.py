"""kobuild's commands as nox sessions, for the noxfile of any project.

    from kobuild import noxsessions

    noxsessions.register()

Then `nox -s build` builds the image of `kobuild.toml`, and `nox -s push -- --tag v1` passes on what follows `--`. The
sessions make no environment: they run in the one that nox has read the noxfile with, since kobuild is there already.

This module can be imported where only nox is installed; nothing else in the package imports it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from typing import Final

import nox

from kobuild import github

__all__ = ["COMMANDS", "register", "run"]

COMMANDS: Final = {
    "resolve": "Turn the pins of kobuild.toml into kobuild.lock.",
    "build": "Build the image into dist/image.",
    "push": "Build the image and push it to its target.",
    "verify": "Check an image against kobuild.toml and kobuild.lock.",
    "matrix": "Print the jobs of many images, for a workflow's matrix.",
    "index": "Join images that were pushed by digest under their tags.",
}
"""Each session's command, and its line in `nox --list`."""


_PROGRAM: Final = (
    "import sys; sys.path[:] = filter(None, sys.path); from kobuild.__main__ import main; sys.exit(main())"
)
"""What Python 3.10 is given, which knows no PYTHONSAFEPATH."""


def own_python(_session: nox.Session) -> str:
    """The Python that runs nox."""
    return sys.executable


FindPython = Callable[[nox.Session], str]
"""Returns the path of the Python that has kobuild; it may make the environment first."""


def register(
    commands: Iterable[str] = tuple(COMMANDS),
    *,
    file: str | None = None,
    prefix: str = "",
    python: FindPython = own_python,
) -> None:
    """Register a session for each of `commands`, which work on the settings in `file`, by default kobuild.toml.

    `prefix`, such as `image-`, keeps the sessions' names apart from others. Plain `nox` runs none of them: name them in
    `nox.options.sessions` for that. Raises KeyError for a command that is not in COMMANDS.
    """
    for command in commands:
        # matrix takes several files, as patterns after the options.
        options = [] if file is None or command == "matrix" else [f"--file={file}"]
        session = _session(command, COMMANDS[command], options, python)
        nox.session(name=f"{prefix}{command}", tags=["kobuild"], venv_backend="none", default=False)(session)


def _session(command: str, text: str, options: Iterable[str], python: FindPython) -> Callable[[nox.Session], None]:
    def session(session: nox.Session) -> None:
        run(session, command, *options, *session.posargs, python=python(session))

    session.__doc__ = text
    return session


def run(session: nox.Session, command: str, *arguments: str, python: str = sys.executable) -> None:
    """Run one kobuild command in a session of your own; the session fails where the command does."""
    if github.is_github(os.environ):
        logging.getLogger("nox").addFilter(_be_harmless)
    # The folder of the noxfile is no place to import from: what lies in a checkout is data. By default nox mixes both
    # streams; the result on standard output is for machines.
    environ = {"PYTHONSAFEPATH": "1"}
    program = ("-m", "kobuild") if tuple(sys.version_info) >= (3, 11) else ("-c", _PROGRAM)
    session.run(python, *program, command, *arguments, external=True, stderr=None, env=environ)


def _be_harmless(record: logging.LogRecord) -> bool:
    """Let nox tell which command it runs, in lines that the runner does not take for commands of its own."""
    record.msg, record.args = github.harmless(record.getMessage()), ()
    return True
