"""Documents about an image, and how they are attached to it in its registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from kobuild.frozen import frozen
from kobuild.image.blobs import Blob, BytesSource
from kobuild.oci.annotations import CREATED, TITLE
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.registry.referrers import Artifact


@frozen
class Document:
    """One document about an image."""

    data: bytes
    media_type: str
    title: str
    """A file name."""
    created: str
    """RFC 3339."""
    annotations: Mapping[str, str] = field(default_factory=dict)


def as_artifact(document: Document, subject: Descriptor) -> Artifact:
    """The document as an artifact about `subject`: found by type, pulled as one layer (image-spec, manifest.md)."""
    size = len(document.data)
    descriptor = Descriptor(
        document.media_type, Digest.of(document.data), size, annotations={TITLE: document.title, **document.annotations}
    )
    blob = Blob(descriptor, BytesSource(document.data))
    return Artifact.make(subject, document.media_type, [blob], {CREATED: document.created, **document.annotations})
