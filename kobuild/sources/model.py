"""What a source answers, and what it is given to find the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Protocol

from kobuild.errors import FetchError
from kobuild.frozen import frozen
from kobuild.oci.platforms import Platform
from kobuild.progress import NullReporter, Reporter
from kobuild.settings.model import SourcesSettings, ToolSettings
from kobuild.store.cache import Cache
from kobuild.transport import OFFLINE_HINT, Transport, redact


class Vouched(str, Enum):
    """Who says which sha256 a file has: the lock's words."""

    PUBLISHER = "publisher"
    """The publisher's own listing: go.dev, GitHub's asset digest, an index's hashes."""
    CHECKSUMS_FILE = "checksums-file"
    """A checksums file beside the release's files."""
    USER = "user"
    """`sha256` of the settings."""
    FIRST_DOWNLOAD = "first-download"
    """Nobody: it is what the first download had."""
    LOCAL = "local"
    """The file lies beside the settings."""


@frozen
class Artifact:
    """One upstream file."""

    url: str
    """Where it is: `https://…`; `path:FILE` relative to the settings; or a package URL, `pkg:pypi/…` or `pkg:npm/…`,
    whose address the user's own pip or npm finds, so that a lock serves behind any mirror and holds no secrets."""
    filename: str
    size: int | None = None
    """In bytes; None where the publisher does not say."""
    sha256: str | None = None
    """Hex; None where the publisher does not say. Of a directory: its tree digest."""
    vouched_by: Vouched = Vouched.FIRST_DOWNLOAD
    integrity: str | None = None
    """Another sum to check a first download against, in npm's form: `sha512-BASE64`."""
    beside: Mapping[str, str] | None = field(default=None, compare=False, repr=False)
    """The addresses of all the release's files, by name; None where nothing lists them."""
    checksums: str = field(default="", compare=False)
    """The address of the file that lists its sum, where the settings name one."""
    location: str | None = field(default=None, compare=False, repr=False)
    """The address that pip or npm just gave for a package URL; never written to the lock."""


@frozen
class Location:
    """Where an artifact's bytes are to be had now."""

    url: str
    """`https://…` or `file:///…`; may hold credentials, so it is never shown whole."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Not shown: they may hold a credential."""
    download: Callable[[Path], Path] | None = None
    """Has the package's own client fetch the file into a folder, for an index that wants credentials."""
    elsewhere: Callable[[], Location | None] | None = None
    """Where else to ask when this address refuses: a private repository's files have another one."""


@frozen
class Release:
    """One version of a tool, with its file for each platform."""

    version: str
    """As upstream writes it, without component and `v`."""
    tag: str
    """As upstream writes it."""
    artifacts: Mapping[Platform, Artifact]
    published: str = ""
    """When, in RFC 3339; empty where the source does not say."""
    page: str = ""
    """Where a person reads about it, where the source itself says; empty elsewhere."""
    license: str = ""
    """An SPDX expression; empty where it is not known."""


@frozen
class SourceContext:
    """What sources need from outside; one for a whole run."""

    transport: Transport
    cache: Cache
    folder: Path
    """The settings' folder: what `path:` is relative to, and where pip and npm are run."""
    settings: SourcesSettings = field(default_factory=SourcesSettings)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Not shown: it may hold credentials."""
    offline: bool = False
    reporter: Reporter = field(default_factory=NullReporter)

    def require_network(self, url: str) -> None:
        """Raise FetchError, naming what is missing, when no network may be used."""
        if self.offline:
            raise FetchError(f"{redact(url)} is needed, and --offline forbids the network", hint=OFFLINE_HINT)


class Source(Protocol):
    """Finds one release of a tool."""

    def resolve(self, tool: ToolSettings, platforms: tuple[Platform, ...]) -> Release:
        """The newest release that `tool.version` allows, with a file for each of `platforms`.

        Raises ResolveError (NoMatchingVersion, NoMatchingAsset), FetchError or ProgramError.
        """
