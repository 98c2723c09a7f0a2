"""Image references: distribution's reference grammar (github.com/distribution/reference), Docker's defaults.

    reference = [registry "/"] repository [":" tag] ["@" digest]

A first part without a dot, a port or the name `localhost` is part of a Docker Hub repository.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import Final

from kobuild.errors import InvalidReference, MalformedDocument
from kobuild.frozen import frozen
from kobuild.oci.digest import Digest

DOCKER_HUB: Final = "docker.io"
HUB_NAMES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_HUB_ENDPOINT: Final = "registry-1.docker.io"
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_REPOSITORY: Final = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z",
)
_HOST: Final = re.compile(
    r"(?:(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
    r"(?:\.(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]{1,5})?\Z",
)
_MAX_NAME: Final = 255


@frozen(order=True)
class Registry:
    """A registry's host and port, such as `ghcr.io` or `localhost:5000`; Docker Hub is `docker.io` by all its names."""

    host: str

    @property
    def endpoint(self) -> str:
        """The host to talk to: Docker Hub's API lives under another name."""
        return _HUB_ENDPOINT if self.host == DOCKER_HUB else self.host

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine, where plain HTTP is allowed."""
        name = self.host.rpartition(":")[0] if re.search(r":\d+\Z", self.host) else self.host
        name = name.strip("[]")
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return self.host


@frozen(order=True)
class Repository:
    """A repository of a registry: `ghcr.io/ko-build/ko`."""

    registry: Registry
    path: str

    @property
    def name(self) -> str:
        """The whole name, registry first."""
        return f"{self.registry.host}/{self.path}"

    def __str__(self) -> str:
        return self.name


@frozen(order=True)
class Reference:
    """A repository with a tag, a digest or both; where there is a digest it decides, and the tag is for people."""

    repository: Repository
    tag: str | None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a reference; no tag and no digest means `latest`. Raises InvalidReference."""
        name, at, digest_text = text.partition("@")
        digest = _parse_digest(digest_text, text) if at else None
        name, tag = _split_tag(name)
        if tag is not None and not _TAG.match(tag):
            raise InvalidReference(f"not an image reference: {text!r}: the tag {tag!r} is not allowed")
        if tag is None and digest is None:
            tag = "latest"
        return cls(_parse_repository(name, text), tag, digest)

    @property
    def registry(self) -> Registry:
        """The registry of the repository."""
        return self.repository.registry

    @property
    def identifier(self) -> str:
        """What a manifest is asked for by: the digest, else the tag."""
        return str(self.digest) if self.digest else str(self.tag)

    def with_tag(self, tag: str) -> Reference:
        """The same repository under another tag, with no digest; raises InvalidReference."""
        if not _TAG.match(tag):
            raise InvalidReference(f"the tag {tag!r} is not allowed: letters, digits, . _ - and at most 128 of them")
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """The same repository by digest, with no tag."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository.name}{tag}{digest}"


def _parse_digest(text: str, whole: str) -> Digest:
    try:
        return Digest.parse(text)
    except MalformedDocument as error:
        raise InvalidReference(f"not an image reference: {whole!r}: {error}") from error


def _split_tag(name: str) -> tuple[str, str | None]:
    head, slash, last = name.rpartition("/")
    base, colon, tag = last.partition(":")
    if not colon:
        return name, None
    return f"{head}{slash}{base}", tag


def _parse_repository(name: str, whole: str) -> Repository:
    first, slash, rest = name.partition("/")
    # distribution takes `Team/tool` for a host too; nobody means that, and lower-cased it would be another name.
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, rest) if is_host else (DOCKER_HUB, name)
    if not _HOST.match(host):
        raise InvalidReference(f"not an image reference: {whole!r}: {host!r} is not a registry's host")
    host = host.lower()
    if host in HUB_NAMES:
        host = DOCKER_HUB
        path = path if "/" in path else f"library/{path}"
    if not _REPOSITORY.match(path) or len(host) + 1 + len(path) > _MAX_NAME:
        hint = "repository names are lower case" if path != path.lower() else None
        raise InvalidReference(f"not an image reference: {whole!r}: {path!r} is not a repository's name", hint=hint)
    return Repository(Registry(host), path)
