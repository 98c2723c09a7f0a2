"""Docker's and Podman's credential files, read as they stand.

Docker's `config.json` (docs.docker.com, "docker login") and containers' `auth.json` (containers-auth.json(5)) share one
form. Keys of `auths` may be hosts, addresses such as `https://index.docker.io/v1/`, or, in Podman's files, repositories
and what stands above them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from kobuild.errors import KobuildError
from kobuild.frozen import frozen
from kobuild.oci.reference import DOCKER_HUB, HUB_NAMES, Repository
from kobuild.registry.credentials import Credential

_MAX_FILE_BYTES: Final = 16 * 1024 * 1024
_HUB_SERVER: Final = "https://index.docker.io/v1/"
"""The key under which Docker keeps the Hub's credentials."""


class AuthFileError(KobuildError):
    """A credential file, or one entry of it, that cannot be understood."""


@frozen
class AuthFile:
    """One file's content."""

    place: str
    """The path, or the name of the variable that holds the content."""
    auths: Mapping[str, Any]
    """By normalised key: `host[:port]` with an optional path."""
    helpers: Mapping[str, str]
    """`credHelpers`, by normalised key."""
    store: str
    """`credsStore`, the helper for all registries; empty for none."""

    @classmethod
    def parse(cls, raw: str | bytes, place: str) -> AuthFile:
        """Read the content of a file; raises AuthFileError."""
        try:
            value = json.loads(raw)
        except ValueError:
            # The cause is left out: a parser's message may quote a secret.
            raise AuthFileError(f"read credentials from {place}: not JSON") from None
        if not isinstance(value, dict):
            raise AuthFileError(f"read credentials from {place}: not a JSON object")
        auths, helpers, store = value.get("auths"), value.get("credHelpers"), value.get("credsStore")
        return cls(
            place=place,
            auths={normalize_key(key): entry for key, entry in auths.items()} if isinstance(auths, dict) else {},
            helpers={normalize_key(key): name for key, name in helpers.items() if isinstance(name, str)}
            if isinstance(helpers, dict)
            else {},
            store=store if isinstance(store, str) else "",
        )

    @classmethod
    def load(cls, path: Path) -> AuthFile | None:
        """Read a file; None where there is none. Raises AuthFileError."""
        try:
            with path.open("rb") as file:
                raw = file.read(_MAX_FILE_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AuthFileError(f"read credentials from {path}: {error.strerror}") from error
        return cls.parse(raw, str(path))

    def entry(self, key: str) -> Credential | None:
        """The credential of `auths` under a normalised key; None for a missing or empty one.

        Raises AuthFileError for one that cannot be decoded.
        """
        entry = self.auths.get(key)
        if not isinstance(entry, dict):
            return None
        texts = {name: value for name, value in entry.items() if isinstance(value, str)}
        username, password = texts.get("username", ""), texts.get("password", "")
        if texts.get("auth"):
            username, password = self._decode(texts["auth"], key)
        token = texts.get("identitytoken", "")
        if not token and not password:
            return None
        return Credential(self.place, username, password, token)

    def _decode(self, auth: str, key: str) -> tuple[str, str]:
        try:
            decoded = base64.b64decode(auth + "=" * (-len(auth) % 4), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise AuthFileError(f"read credentials from {self.place}: auths.{key}.auth: not base64") from None
        username, colon, password = decoded.partition(":")
        if not colon:
            raise AuthFileError(f"read credentials from {self.place}: auths.{key}.auth: no user name and password")
        # Some clients pad the password with zero bytes.
        return username, password.rstrip("\0")


def normalize_key(key: str) -> str:
    """`host[:port][/path]` of a key: no scheme, no version, lower-case host, and one name for Docker Hub."""
    text = key.strip()
    for scheme in ("https://", "http://"):
        text = text.removeprefix(scheme)
    host, _, path = text.strip("/").partition("/")
    host = host.lower()
    if host in HUB_NAMES:
        host = DOCKER_HUB
    if path in ("v1", "v2"):
        path = ""
    return f"{host}/{path}" if path else host


def keys_for(repository: Repository) -> tuple[str, ...]:
    """The keys that count for a repository, the longest first, the host last."""
    parts = repository.path.split("/")
    paths = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    return (*(f"{repository.registry.host}/{path}" for path in paths), repository.registry.host)


def helper_server(repository: Repository) -> str:
    """What helpers call the registry."""
    return _HUB_SERVER if repository.registry.host == DOCKER_HUB else repository.registry.host
