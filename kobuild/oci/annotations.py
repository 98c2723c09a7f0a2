"""Annotation keys: image-spec, annotations.md, "Pre-Defined Annotation Keys"."""

from __future__ import annotations

from typing import Final

BASE_NAME: Final = "org.opencontainers.image.base.name"
BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
REF_NAME: Final = "org.opencontainers.image.ref.name"
CREATED: Final = "org.opencontainers.image.created"
TITLE: Final = "org.opencontainers.image.title"

ATTESTATION: Final = "vnd.docker.reference.type"
"""BuildKit's mark on an index entry that says something about another one."""
ATTESTED_DIGEST: Final = "vnd.docker.reference.digest"
"""On such an entry: which one it is about."""

TOOL_NAME: Final = "dev.kobuild.tool.name"
"""On a layer descriptor: the table under `tools` that the layer was made from."""
TOOL_VERSION: Final = "dev.kobuild.tool.version"
"""On a layer descriptor: the version that the lock holds for it."""
