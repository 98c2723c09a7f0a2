"""Credential helpers: `docker-credential-NAME get` (github.com/docker/docker-credential-helpers, "Development")."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from kobuild.errors import ProgramError
from kobuild.registry.credentials import Credential

HELPER_SECONDS: Final = 30.0
"""A helper that asks a person, or hangs, is stopped after this."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_NOT_FOUND: Final = re.compile(
    r"credentials? (?:was |were )?not found|no credentials|not found in (?:native )?(?:keychain|store)"
    r"|item could not be found|no such (?:credential|entry)|element not found|no basic auth",
    re.IGNORECASE,
)
"""The wordings of helpers that have nothing for the registry."""
_ANSWER: Final = re.compile(r'[{}\[\]"]|.*"(?:secret|username|serverurl)"', re.IGNORECASE)
"""A line of an answer's JSON, on one line or on many."""
_TOKEN_USER: Final = "<token>"  # noqa: S105  # the user name that marks an identity token
_SHOWN_CHARACTERS: Final = 200


def ask_helper(
    name: str, server: str, environ: Mapping[str, str], *, seconds: float = HELPER_SECONDS
) -> Credential | None:
    """Ask `docker-credential-NAME` for `server`; None where it has nothing.

    Raises ProgramError for a helper that is missing, fails, hangs, or answers nonsense.
    """
    program = f"docker-credential-{name}"
    if not _NAME.match(name):
        raise ProgramError(f"run credential helper {program!r}: not a program's name")
    path = shutil.which(program, path=environ.get("PATH"))
    if path is None:
        raise ProgramError(f"run credential helper {program}: not found on PATH")
    status, output, error = run_program([path, "get"], server, environ, seconds)
    if status != 0:
        text = f"{output}\n{error}".strip()
        if _NOT_FOUND.search(text):
            return None
        # An answer that was given all the same is no complaint, and must not be shown.
        lines = (line.strip() for line in text.splitlines())
        line = next((line for line in lines if line and not _ANSWER.match(line)), "no output")
        raise ProgramError(f"run credential helper {program}: it failed ({status}): {line[:_SHOWN_CHARACTERS]}")
    return _parse(output, program)


def run_program(command: Sequence[str], text: str, environ: Mapping[str, str], seconds: float) -> tuple[int, str, str]:
    """Run with `text` on standard input; returns status, output and complaints.

    On time-out the program and all that it started are stopped: a child that holds the pipe would be waited for as
    long as it likes. Raises ProgramError.
    """
    program = os.path.basename(command[0])
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise ProgramError(f"run {program}: {error.strerror}") from error
    with process:
        try:
            output, complaint = process.communicate(text, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise ProgramError(f"run {program}: no answer within {seconds:.0f} s") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output, complaint


def _parse(output: str, program: str) -> Credential | None:
    try:
        value = json.loads(output)
        username, secret = value["Username"], value["Secret"]
    except (ValueError, KeyError, TypeError):
        # The cause is left out: a parser's message may quote what it could not parse, which may be the secret.
        raise ProgramError(f"run credential helper {program}: its answer is not a credential") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise ProgramError(f"run credential helper {program}: its answer is not a credential")
    if not secret:
        return None
    if username == _TOKEN_USER:
        return Credential(program, identity_token=secret)
    return Credential(program, username, secret)
