"""The user's own package clients, run so that their configuration, proxies and credentials apply."""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from kobuild.errors import ProgramError

_logger = logging.getLogger(__name__)
_PATIENCE_SECONDS: Final = 900
_USERINFO: Final = re.compile(r"(?<=://)[^/\s@]+@")
_SHOWN_LINES: Final = 6
_OURS: Final = (
    "GITHUB_TOKEN",
    "DOCKER_AUTH_CONFIG",
    "COSIGN_PASSWORD",
    "SIGSTORE_ID_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "ACTIONS_RUNTIME_TOKEN",
)
"""What is meant for kobuild itself. npm fills `${NAME}` into the .npmrc of the project's folder: a pull request's one
would send it anywhere. So are all names that begin with `KOBUILD_`: passwords and keys are among them."""


def run(
    command: Sequence[str], *, folder: Path, environ: Mapping[str, str], errors: str = "replace"
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its exit code; raises ProgramError when it cannot be run or does not end.

    It does not see the secrets that are kobuild's own. `errors` says what becomes of bytes that are not UTF-8.
    """
    _logger.debug("run %s", hide_secrets(" ".join(command)))
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={name: value for name, value in environ.items() if not _is_ours(name)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors=errors,
            timeout=_PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{command[0]}: no end after {_PATIENCE_SECONDS} s") from error
    except OSError as error:
        raise ProgramError(f"{command[0]}: {error.strerror}") from error


def _is_ours(name: str) -> bool:
    return name in _OURS or name.startswith("KOBUILD_")


def last_words(text: str) -> str:
    """The last lines of what a program said, without credentials."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return hide_secrets("\n".join(lines[-_SHOWN_LINES:]))


def hide_secrets(text: str) -> str:
    """The text without the user and password of any address in it."""
    return _USERINFO.sub("", text)
