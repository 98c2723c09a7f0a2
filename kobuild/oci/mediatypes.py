"""Media types of the OCI image specification and of Docker's image manifest V2, schema 2, and their families.

An image stays in the family of its base: a manifest never mixes the two (image-spec, media-types.md, "Compatibility
Matrix").
"""

from __future__ import annotations

from enum import Enum
from typing import Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD: Final = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_MANIFEST_V1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_MANIFEST_V1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

NONDISTRIBUTABLE_PREFIX: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"

MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
SCHEMA_1: Final = frozenset({DOCKER_MANIFEST_V1, DOCKER_MANIFEST_V1_SIGNED})

_TO_OCI: Final = {
    DOCKER_MANIFEST: OCI_MANIFEST,
    DOCKER_MANIFEST_LIST: OCI_INDEX,
    DOCKER_CONFIG: OCI_CONFIG,
    DOCKER_LAYER: OCI_LAYER,
    DOCKER_LAYER_GZIP: OCI_LAYER_GZIP,
    DOCKER_LAYER_ZSTD: OCI_LAYER_ZSTD,
    DOCKER_FOREIGN_LAYER: f"{NONDISTRIBUTABLE_PREFIX}+gzip",
}


class Compression(str, Enum):
    """How a layer's tar is compressed: `kobuild.toml`'s words."""

    NONE = "none"
    GZIP = "gzip"
    ESTARGZ = "estargz"
    ZSTD = "zstd"
    ZSTD_CHUNKED = "zstd:chunked"


class Family(Enum):
    """Which specification an image's media types come from."""

    OCI = "oci"
    DOCKER = "docker"

    @property
    def manifest(self) -> str:
        """The family's image manifest media type."""
        return OCI_MANIFEST if self is Family.OCI else DOCKER_MANIFEST

    @property
    def index(self) -> str:
        """The family's index (manifest list) media type."""
        return OCI_INDEX if self is Family.OCI else DOCKER_MANIFEST_LIST

    @property
    def config(self) -> str:
        """The family's image config media type."""
        return OCI_CONFIG if self is Family.OCI else DOCKER_CONFIG

    def layer(self, compression: Compression) -> str:
        """The family's media type of a layer compressed so; Docker's family has none for zstd (KeyError)."""
        return _LAYERS[self][compression]

    @staticmethod
    def of(media_type: str) -> Family:
        """The family that `media_type` belongs to."""
        return Family.DOCKER if media_type.startswith("application/vnd.docker.") else Family.OCI


_LAYERS: Final = {
    Family.OCI: {
        Compression.NONE: OCI_LAYER,
        Compression.GZIP: OCI_LAYER_GZIP,
        Compression.ESTARGZ: OCI_LAYER_GZIP,
        Compression.ZSTD: OCI_LAYER_ZSTD,
        Compression.ZSTD_CHUNKED: OCI_LAYER_ZSTD,
    },
    Family.DOCKER: {
        Compression.NONE: DOCKER_LAYER,
        Compression.GZIP: DOCKER_LAYER_GZIP,
        Compression.ESTARGZ: DOCKER_LAYER_GZIP,
    },
}


def to_oci(media_type: str) -> str:
    """The OCI twin of a Docker media type; any other media type comes back as it is."""
    return _TO_OCI.get(media_type, media_type)


_TO_DOCKER: Final = {oci: docker for docker, oci in _TO_OCI.items() if docker != DOCKER_LAYER_ZSTD}


def in_family(media_type: str, family: Family) -> str | None:
    """The twin of `media_type` in `family`, itself where it is there already; None where the family has none.

    Docker's family has no zstd: its daemon knows no name for it, and DOCKER_LAYER_ZSTD is one that others made up.
    """
    if family is Family.OCI:
        return to_oci(media_type) if Family.of(to_oci(media_type)) is Family.OCI else None
    if media_type in _TO_DOCKER.values():
        return media_type
    return _TO_DOCKER.get(media_type)


def is_foreign(media_type: str) -> bool:
    """Whether a layer of this type is fetched from its `urls` and must not be pushed."""
    return media_type == DOCKER_FOREIGN_LAYER or media_type.startswith(NONDISTRIBUTABLE_PREFIX)
