"""What `kobuild.toml` says, as frozen values; `parse` makes them, the flows read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from kobuild.frozen import frozen
from kobuild.oci.mediatypes import Compression
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference, Repository


@frozen
class SourceSpec:
    """`source = "KIND:ARGUMENT"`; `go` has no argument."""

    kind: str
    """go, github, url, pypi, npm or path."""
    argument: str
    """OWNER/REPO, an address template, a package's name, or a path relative to the settings file."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind


@frozen
class ToolSettings:
    """One table under `tools`: one layer."""

    name: str
    source: SourceSpec
    version: str = ""
    """A PEP 440 specifier set, an exact upstream tag or version, or empty (`latest` is read as empty)."""
    root: str = "/"
    """Absolute path in the image that the archive's names go under, normalised, no trailing slash unless `/`."""
    only: tuple[str, ...] = ()
    """Globs on the member's name in the archive, before `strip`; a directory's match takes all below it."""
    strip: int = 0
    """How many leading parts of each member's name are dropped, as tar's --strip-components."""
    mode: int | None = None
    """Permission bits for every regular file (directories keep theirs); None keeps the archive's."""
    asset: str = ""
    """Which of a release's files: a glob with {version} {tag} {os} {arch}, each standing for all its spellings."""
    rename: str = ""
    """The name of a bare binary, a single .gz or a single file in the image; empty is the tool's name."""
    versions: str = ""
    """Where a `url:` source's versions are listed: an address of JSON or lines of text."""
    checksums: str = ""
    """Address template of a checksums file for `url:` sources."""
    sha256: str = ""
    """The sum that the user vouches for, for one-platform `url:` sources."""
    require: str = ""
    """The proof without which the file is refused: `checksum`, `signature` or nothing."""
    minisign_keys: tuple[str, ...] = ()
    """Public keys of minisign, any of which may sign."""
    cosign_key: str = ""
    """A public key as PEM, or the base64 in it."""
    identity: str = ""
    """Who signs without a key: a certificate's subject, with `*`, {version} and {tag}."""
    issuer: str = ""
    """Who vouches for the identity; empty is GitHub Actions."""
    attestations: bool | None = None
    """Whether GitHub is asked for attestations; None is where a signature is required and there is no other."""
    test: str = ""
    """A command that shows that the tool works in the image."""
    license: str = ""
    """An SPDX expression that goes into bills of materials instead of what the lock says."""
    devices: bool = False
    """Whether devices and fifos are taken instead of refused."""
    whiteouts: bool = False
    """Whether `.wh.` names, which delete files of the base, are taken instead of refused."""
    max_members: int | None = None
    """The most members of the archive; None, here and below, is the layer engine's own bound."""
    max_size: int | None = None
    """The most bytes that the archive unpacks to."""
    max_ratio: int | None = None
    """The most bytes that come of each compressed byte."""

    @property
    def looks_for_signatures(self) -> bool:
        """Whether signature files are looked for beside the file."""
        return bool(self.minisign_keys or self.cosign_key or self.identity)

    @property
    def looks_for_proof(self) -> bool:
        """Whether anything beyond the file's sum is looked at."""
        return self.looks_for_signatures or bool(self.require or self.attestations)


@frozen
class ImageSettings:
    """The `image` table."""

    base: str
    """`scratch`, a reference, or `oci:DIR`, `oci-archive:FILE`, `docker-archive:FILE`, with `:TAG`; kept as written."""
    targets: tuple[Reference, ...] = ()
    platforms: tuple[Platform, ...] = (Platform("linux", "amd64"),)
    keeps_other_platforms: bool = False
    """Whether the base's images for platforms not named here go along in the index, as they are."""
    keeps_base_annotations: bool = False
    """Whether the annotations of the base's index and manifests stay under ours."""
    compression: Compression = Compression.GZIP
    workdir: str | None = None
    path: tuple[str, ...] = ()
    """Directories put before the base's PATH, in this order."""
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    user: str | None = None
    expose: tuple[str, ...] = ()
    """`8080/tcp`: the protocol is always there."""
    volumes: tuple[str, ...] = ()
    stop_signal: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    prioritized: tuple[str, ...] = ()
    """Image paths that an eStargz layer puts before its landmark, for prefetching."""


@frozen
class SourcesSettings:
    """The `sources` table: base addresses for mirrors and air-gapped sites; None is the public one."""

    go: str | None = None
    github_api: str | None = None
    github_server: str | None = None
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By registry, or path in one: what stands in for it when images are read, in the order of asking."""
    mirrors_only: bool = False
    """Whether a registry that has mirrors is never asked itself."""
    trusted_root: str | None = None
    """A file, relative to the settings, that says whose certificates and logs count; None is the public Sigstore."""
    layer_cache: Repository | None = None
    """Where layers are shared between machines."""
    trusts_layer_cache: bool = False
    """Whether a layer is taken from there on the word of whoever can write there, and not only with the key's proof."""


@frozen
class VerifySettings:
    """The `verify` table: what an image in a registry must have beside it."""

    require: tuple[str, ...] = ()
    """Kinds of documents, such as `provenance`; empty asks for nothing."""
    keys: tuple[str, ...] = ()
    """Public keys, as PEM or the base64 in it, any of which may have signed."""
    identities: tuple[str, ...] = ()
    """Whom a certificate may name, any of them; `*` stands for anything."""
    issuer: str = ""
    """Who vouches for `identities`; empty is GitHub's."""
    builder: str = ""
    """Who must have built, with `*`; empty is anybody who may sign."""
    source: str = ""
    """Where the settings must have come from, with `*`: a repository's address, with `@REF` or for any."""


@frozen
class Settings:
    """One whole settings file."""

    path: Path
    """The settings file, absolute."""
    image: ImageSettings
    tools: tuple[ToolSettings, ...]
    """In file order, which is layer order."""
    sources: SourcesSettings = field(default_factory=SourcesSettings)
    verify: VerifySettings = field(default_factory=VerifySettings)

    @property
    def folder(self) -> Path:
        """What relative paths in the file are relative to."""
        return self.path.parent

    @property
    def lock_path(self) -> Path:
        """The lock beside the settings: the same name with the suffix `.lock`."""
        return self.path.with_suffix(".lock")
