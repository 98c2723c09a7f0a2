"""Bills of materials as documents: in which form, under which media type, and signed or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from typing import Final

from kobuild.explain import cyclonedxbom, spdxbom
from kobuild.explain.documents import Document
from kobuild.explain.materials import Bill
from kobuild.explain.statements import sign_statement, state
from kobuild.oci.config import format_time
from kobuild.oci.digest import Digest


class Form(str, Enum):
    """The forms of a bill, in the command line's words."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


_PREDICATES: Final = {Form.SPDX: "https://spdx.dev/Document", Form.CYCLONEDX: "https://cyclonedx.org/bom"}
"""https://github.com/in-toto/attestation/blob/main/spec/predicates/README.md; cosign's spdxjson and cyclonedx."""


def write_bill(bill: Bill, form: Form) -> Document:
    """The bill in that form; the same bill gives the same bytes. Raises ProgramError where its library is missing."""
    created = format_time(bill.created)
    if form is Form.SPDX:
        return Document(spdxbom.spdx_bytes(bill), spdxbom.MEDIA_TYPE, "sbom.spdx.json", created)
    return Document(cyclonedxbom.cyclonedx_bytes(bill), cyclonedxbom.MEDIA_TYPE, "sbom.cdx.json", created)


def sign_bill(document: Document, form: Form, name: str, digest: Digest, sign: Callable[[bytes], bytes]) -> Document:
    """The bill as the predicate of a signed statement about `digest`, an image or an index, called `name`."""
    statement = state(name, digest, _PREDICATES[form], json.loads(document.data))
    title = f"{document.title.removesuffix('.json')}.sigstore.json"
    return sign_statement(statement, sign, title=title, created=document.created)
