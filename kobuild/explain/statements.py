"""In-toto statements about an image, and how signed ones are attached to it.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from kobuild.explain.documents import Document
from kobuild.oci.digest import Digest
from kobuild.signatures.dsse import BUNDLE_TYPE

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
CONTENT_NOTE: Final = "dev.sigstore.bundle.content"
SIGNED_PREDICATE_NOTE: Final = "dev.sigstore.bundle.predicateType"
"""How cosign tells bundles apart: https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md, "Annotations"."""


def state(name: str, digest: Digest, predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The statement about `digest`, an image or an index, called `name`."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {digest.algorithm: digest.hex}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def statement_bytes(statement: Mapping[str, Any]) -> bytes:
    """The statement as it is written and signed."""
    return f"{json.dumps(statement, indent=2)}\n".encode()


def sign_statement(
    statement: Mapping[str, Any], sign: Callable[[bytes], bytes], *, title: str, created: str
) -> Document:
    """The statement in a signed bundle, to be attached as cosign looks for it."""
    notes = {CONTENT_NOTE: "dsse-envelope", SIGNED_PREDICATE_NOTE: str(statement["predicateType"])}
    return Document(sign(statement_bytes(statement)), BUNDLE_TYPE, title, created, notes)
