"""The command line: what can be typed, and how a run ends. What commands do is in `commands`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kobuild._version import __version__
from kobuild.errors import KobuildError
from kobuild.interrupts import TerminatedError
from kobuild.report import say, tell_error

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_TERMINATED: Final = 143

_EPILOG: Final = (
    "Exit codes: 0 done; 1 failed; 2 the command or the settings are wrong; 3 verify found a difference; "
    "4 something is new (resolve --check, diff --check, outdated); 130 interrupted."
)


def _common() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("common options")
    group.add_argument("-f", "--file", default="kobuild.toml", help="the settings file (default: %(default)s)")
    group.add_argument("-C", "--directory", metavar="DIR", help="work in this folder")
    group.add_argument("--json", action="store_true", help="write the result to standard output as JSON")
    group.add_argument("-q", "--quiet", action="store_true", help="only warnings and errors")
    group.add_argument("-v", "--verbose", action="store_true", help="also log what the library does")
    group.add_argument("--offline", action="store_true", help="use the lock and the cache alone, never the network")
    group.add_argument("--cache-dir", metavar="DIR", help="where the cache is (default: KOBUILD_CACHE_DIR)")
    group.add_argument(
        "--insecure-registry",
        action="append",
        default=[],
        metavar="HOST",
        help="allow plain HTTP to this host[:port], beside loopback; may be repeated",
    )
    return parser


COMMANDS: Final = {
    "init": "write the first kobuild.toml, workflow and noxfile of a project",
    "resolve": "turn the pins into the lock",
    "build": "write the image to a layout or an archive",
    "push": "build the image and push it to its target",
    "verify": "check an image against settings and lock",
    "inspect": "show an image as a tree of layers with what made each",
    "diff": "show what differs between two images or locks",
    "outdated": "show what could move within the pins, and beyond them",
    "rebase": "put the pushed image's tool layers on the base as it is now",
    "provenance": "state how the image was made, or attach that to it",
    "sbom": "write a bill of materials, or attach it to the image",
    "matrix": "print the jobs of many images, for a workflow's matrix",
    "index": "join images that were pushed by digest under their tags",
    "cache": "show, prune or verify the cache of downloads and layers",
}
"""Each is a module of `kobuild.commands`."""
_MODULES: Final = {"inspect": "tree"}
"""Modules that are named otherwise, since the standard library has one of the command's name."""


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The command line, as far as `argv` needs it: only the command that it names brings its options along."""
    parser = argparse.ArgumentParser(
        prog="kobuild",
        description="Mush upstream tarballs together into a new container image.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kobuild {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    common = _common()
    named = next((word for word in argv if not word.startswith("-")), None)
    # A parser for each of the others would take a fiftieth of the start.
    listed = argv[0] if argv and argv[0] in COMMANDS else None
    for name, text in COMMANDS.items():
        if listed not in (None, name):
            continue
        description = f"{text[0].upper()}{text[1:]}."
        command = subparsers.add_parser(
            name, help=text, description=description, parents=[common], allow_abbrev=False, epilog=_EPILOG
        )
        if name == named:
            module = importlib.import_module(f"kobuild.commands.{_MODULES.get(name, name)}")
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = build_parser(words).parse_args(words)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except KobuildError as error:
        tell_error(error, _settings_file(words))
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        say("interrupted; nothing half-made was left behind")
        return EXIT_TERMINATED if isinstance(interrupt, TerminatedError) else EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001  a bug: the user gets a file to report, not a wall of text
        say(_report_bug(error))
        return EXIT_FAILED
    return code


def _settings_file(words: Sequence[str]) -> Path:
    """The settings file that the words name: commands enter its folder, so relative to where we are by now."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-f", "--file", default="kobuild.toml")
    return Path(parser.parse_known_args(words)[0].file)


def _report_bug(error: Exception) -> str:
    text = "".join(traceback.format_exception(error))
    with tempfile.NamedTemporaryFile("w", prefix="kobuild-bug-", suffix=".txt", delete=False) as file:
        file.write(f"kobuild {__version__}, Python {sys.version}\n{text}")
    kind = type(error).__name__
    return (
        f"error: this is a bug in kobuild: {kind}: {error}\n"
        f"hint: please report it with the file {Path(file.name)}, after taking out what is private"
    )
