"""Where secrets come from: the keychain's contract, the environment's credentials, and chains of keychains."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final, Protocol

from kobuild.errors import UsageError
from kobuild.frozen import frozen
from kobuild.oci.reference import Reference, Repository

REGISTRY_VARIABLE: Final = "KOBUILD_REGISTRY"
USERNAME_VARIABLE: Final = "KOBUILD_REGISTRY_USERNAME"
PASSWORD_VARIABLE: Final = "KOBUILD_REGISTRY_PASSWORD"  # noqa: S105  # a variable's name
_GITHUB_REGISTRY: Final = "ghcr.io"


@frozen
class Credential:
    """A user name with a password, or an identity token; `place` says where it was found, for messages."""

    place: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """An OAuth refresh token, exchanged for access tokens by the registry's token server."""

    def basic(self) -> str:
        """The Authorization header's value for Basic (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class Keychain(Protocol):
    """Somewhere that credentials are looked up."""

    def resolve(self, repository: Repository) -> Credential | None:
        """The credential for a repository, None for anonymous; safe to call from many threads."""

    def problems(self, repository: Repository) -> Sequence[str]:
        """What went wrong on the way, such as a missing helper; it matters only if the registry then refuses."""


class AnonymousKeychain:
    """No credentials at all."""

    def resolve(self, repository: Repository) -> Credential | None:
        """None."""
        return None

    def problems(self, repository: Repository) -> Sequence[str]:
        """None."""
        return ()


class ChainKeychain:
    """Several keychains; the first that knows a credential counts."""

    def __init__(self, keychains: Sequence[Keychain]) -> None:
        self._keychains = tuple(keychains)

    def resolve(self, repository: Repository) -> Credential | None:
        """The first credential found."""
        found = (keychain.resolve(repository) for keychain in self._keychains)
        return next((credential for credential in found if credential is not None), None)

    def problems(self, repository: Repository) -> Sequence[str]:
        """The problems of all."""
        return tuple(text for keychain in self._keychains for text in keychain.problems(repository))


class EnvironmentKeychain:
    """`KOBUILD_REGISTRY_USERNAME` and `KOBUILD_REGISTRY_PASSWORD`, for the one registry that `KOBUILD_REGISTRY` names.

    The registry must be named: otherwise the registry of the base image would be sent the password for the target's.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read the variables; raises UsageError where only some of them are set."""
        names = (REGISTRY_VARIABLE, USERNAME_VARIABLE, PASSWORD_VARIABLE)
        values = [environ.get(name, "") for name in names]
        self._host: str | None = None
        if not any(values[1:]):
            return
        missing = [name for name, value in zip(names, values, strict=True) if not value]
        if missing:
            raise UsageError(
                f"read registry credentials from the environment: {' and '.join(missing)} not set",
                hint=f"set {', '.join(names[:2])} and {names[2]} together; the first is the registry's host",
            )
        self._host = Reference.parse(f"{values[0]}/x").registry.host
        self._credential = Credential(f"the environment ({USERNAME_VARIABLE})", values[1], values[2])

    def resolve(self, repository: Repository) -> Credential | None:
        """The credential, for repositories of the named registry."""
        return self._credential if repository.registry.host == self._host else None

    def problems(self, repository: Repository) -> Sequence[str]:
        """None."""
        return ()


class GitHubKeychain:
    """`GITHUB_TOKEN` for ghcr.io: what a workflow has anyway; files and helpers go before it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        token = environ.get("GITHUB_TOKEN", "")
        actor = environ.get("GITHUB_ACTOR") or "x-access-token"
        self._credential = Credential("the environment (GITHUB_TOKEN)", actor, token) if token else None

    def resolve(self, repository: Repository) -> Credential | None:
        """The token, for ghcr.io."""
        return self._credential if repository.registry.host == _GITHUB_REGISTRY else None

    def problems(self, repository: Repository) -> Sequence[str]:
        """None."""
        return ()
