"""Bills of materials as documents: in which form, and under which media type."""

from __future__ import annotations

from enum import Enum

from kobuild.explain import cyclonedxbom, spdxbom
from kobuild.explain.documents import Document
from kobuild.explain.materials import Bill
from kobuild.oci.config import format_time


class Form(str, Enum):
    """The forms of a bill, in the command line's words."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


def write_bill(bill: Bill, form: Form) -> Document:
    """The bill in that form; the same bill gives the same bytes. Raises ProgramError where its library is missing."""
    created = format_time(bill.created)
    if form is Form.SPDX:
        return Document(spdxbom.spdx_bytes(bill), spdxbom.MEDIA_TYPE, "sbom.spdx.json", created)
    return Document(cyclonedxbom.cyclonedx_bytes(bill), cyclonedxbom.MEDIA_TYPE, "sbom.cdx.json", created)
