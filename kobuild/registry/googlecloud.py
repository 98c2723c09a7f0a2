"""Google's credentials for Artifact Registry and gcr.io: application default credentials, metadata server, gcloud.

The first two need `google-auth`, which comes with `kobuild[google]`; gcloud needs only itself. Nothing is asked unless
there is a sign that an answer may come: on a laptop the metadata server's silence would cost seconds, for public images
too.
"""

from __future__ import annotations

import importlib
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kobuild.errors import ProgramError
from kobuild.oci.reference import Repository
from kobuild.registry.credentials import Credential
from kobuild.registry.helpers import run_program
from kobuild.registry.hints import is_google
from kobuild.transport import Clock, SystemClock

_USERNAME: Final = "oauth2accesstoken"
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_GCLOUD_SECONDS: Final = 30.0
_LIFE_SECONDS: Final = 1800.0
"""How long a token is used; Google's last an hour, and a copy of one in a cache may be half as old."""
_FAILED_SECONDS: Final = 300.0
"""How long a failure is remembered."""
_HARDWARE: Final = Path("/sys/class/dmi/id/product_name")
_SIGNS: Final = ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "K_SERVICE", "CLOUD_RUN_JOB")
"""Variables of a configured machine, and of Google's own platforms."""


class GoogleKeychain:
    """Access tokens of whoever this machine or person is at Google."""

    def __init__(self, environ: Mapping[str, str], *, clock: Clock | None = None, hardware: Path = _HARDWARE) -> None:
        """`hardware` is the file in which Linux tells the machine's maker."""
        self._environ = environ
        self._clock = clock or SystemClock()
        self._hardware = hardware
        self._credential: Credential | None = None
        self._good_until = 0.0
        self._problems: list[str] = []
        self._lock = threading.Lock()

    def resolve(self, repository: Repository) -> Credential | None:
        """A token for Google's registries, None for all others and where there is none to be had."""
        if not is_google(repository.registry.host):
            return None
        with self._lock:
            if self._clock.now() >= self._good_until:
                self._problems.clear()
                self._credential = self._by_library() or self._by_gcloud()
                life = _LIFE_SECONDS if self._credential else _FAILED_SECONDS
                self._good_until = self._clock.now() + life
            return self._credential

    def problems(self, repository: Repository) -> Sequence[str]:
        """What went wrong, for Google's registries."""
        return tuple(self._problems) if is_google(repository.registry.host) else ()

    def _by_library(self) -> Credential | None:
        if not self._is_configured():
            return None
        try:
            auth, transport = (importlib.import_module(f"google.auth{part}") for part in ("", ".transport.requests"))
        except ImportError:
            self._problems.append("Google credentials are set up here; pip install 'kobuild[google]' to use them")
            return None
        try:
            credentials: Any = auth.default(scopes=[_SCOPE])[0]
            credentials.refresh(transport.Request())
        except auth.exceptions.GoogleAuthError as error:
            self._problems.append(f"ask for Google credentials: {_one_line(str(error))}")
            return None
        return Credential("Google application default credentials", _USERNAME, credentials.token)

    def _is_configured(self) -> bool:
        """Whether there is a file of credentials, or Google's own platform."""
        if any(self._environ.get(name) for name in _SIGNS):
            return True
        home = Path(self._environ.get("HOME") or os.path.expanduser("~"))
        folder = Path(self._environ.get("CLOUDSDK_CONFIG") or home / ".config" / "gcloud")
        if (folder / "application_default_credentials.json").is_file():
            return True
        try:
            return self._hardware.read_text().startswith("Google")
        except OSError:
            return False

    def _by_gcloud(self) -> Credential | None:
        program = shutil.which("gcloud", path=self._environ.get("PATH"))
        if program is None:
            return None
        command = [program, "auth", "print-access-token", "--quiet"]
        try:
            status, output, complaint = run_program(command, "", self._environ, _GCLOUD_SECONDS)
        except ProgramError as error:
            self._problems.append(error.message)
            return None
        token = output.strip()
        if status != 0 or not token:
            self._problems.append(f"run gcloud auth print-access-token: {_one_line(complaint) or 'no token'}")
            return None
        return Credential("gcloud auth print-access-token", _USERNAME, token)


def _one_line(text: str) -> str:
    """The first line that says something, of bounded length."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:200]
