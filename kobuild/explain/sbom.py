"""Bills of materials as documents: in which form, under which media type, and attached to an image in its registry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kobuild.explain import cyclonedxbom, spdxbom
from kobuild.explain.materials import Bill
from kobuild.image.blobs import Blob, BytesSource
from kobuild.oci.annotations import CREATED, TITLE
from kobuild.oci.config import format_time
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.registry.referrers import Artifact


class Form(str, Enum):
    """The forms of a bill, in the command line's words."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


@dataclass(frozen=True, slots=True)
class Document:
    """One document about an image."""

    data: bytes
    media_type: str
    title: str
    """A file name."""
    created: str
    """RFC 3339."""


def write_bill(bill: Bill, form: Form) -> Document:
    """The bill in that form; the same bill gives the same bytes. Raises ProgramError where its library is missing."""
    created = format_time(bill.created)
    if form is Form.SPDX:
        return Document(spdxbom.spdx_bytes(bill), spdxbom.MEDIA_TYPE, "sbom.spdx.json", created)
    return Document(cyclonedxbom.cyclonedx_bytes(bill), cyclonedxbom.MEDIA_TYPE, "sbom.cdx.json", created)


def as_artifact(document: Document, subject: Descriptor) -> Artifact:
    """The document as an artifact about `subject`: found by type, pulled as one layer (image-spec, manifest.md)."""
    descriptor = Descriptor(
        document.media_type, Digest.of(document.data), len(document.data), annotations={TITLE: document.title}
    )
    blob = Blob(descriptor, BytesSource(document.data))
    return Artifact.make(subject, document.media_type, [blob], {CREATED: document.created})
