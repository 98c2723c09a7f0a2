"""Signatures with a certificate and no bundle, as cosign wrote them before version 3: the log has their proof of time.

A certificate for keyless signing is valid for ten minutes. That the signature was made in them only the transparency
log can tell, so its entry is asked for, and all is put together as Sigstore's bundle.
https://github.com/sigstore/rekor/blob/main/openapi.yaml, `/api/v1/log/entries/retrieve`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final

from kobuild.errors import SignatureError
from kobuild.signatures.dsse import BUNDLE_TYPE

MAX_ANSWER_BYTES: Final = 1024 * 1024


def entry_request(sha256: str, signature: bytes, certificate: str) -> bytes:
    """The question for the log's entry of one signature; `certificate` is PEM."""
    entry = {
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "signature": {"content": _text(signature), "publicKey": {"content": _text(certificate.encode())}},
            "data": {"hash": {"algorithm": "sha256", "value": sha256}},
        },
    }
    return json.dumps({"entries": [entry]}).encode()


def bundle_from(answer: bytes, sha256: str, signature: bytes, certificate: str, place: str) -> bytes | None:
    """Sigstore's bundle out of the log's answer; None where the log has no such entry. Raises SignatureError."""
    try:
        found = [entry for group in json.loads(answer) for entry in group.values()]
        if not found:
            return None
        material = {"certificate": {"rawBytes": _der(certificate)}, "tlogEntries": [_entry(found[0])]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise SignatureError(f"{place}: the answer is not that of a transparency log") from error
    message = {
        "messageDigest": {"algorithm": "SHA2_256", "digest": _text(bytes.fromhex(sha256))},
        "signature": _text(signature),
    }
    bundle = {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "messageSignature": message}
    return json.dumps(bundle).encode()


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """One entry in the words of the bundle's protobuf."""
    body = json.loads(base64.b64decode(entry["body"]))
    verification = entry["verification"]
    proof = verification["inclusionProof"]
    return {
        "logIndex": str(entry["logIndex"]),
        "logId": {"keyId": _text(bytes.fromhex(entry["logID"]))},
        "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
        "integratedTime": str(entry["integratedTime"]),
        "inclusionPromise": {"signedEntryTimestamp": verification["signedEntryTimestamp"]},
        "inclusionProof": {
            "logIndex": str(proof["logIndex"]),
            "rootHash": _text(bytes.fromhex(proof["rootHash"])),
            "treeSize": str(proof["treeSize"]),
            "hashes": [_text(bytes.fromhex(item)) for item in proof["hashes"]],
            "checkpoint": {"envelope": proof["checkpoint"]},
        },
        "canonicalizedBody": entry["body"],
    }


def _der(certificate: str) -> str:
    """The base64 inside PEM, in one line."""
    return re.sub(r"-----[A-Z ]+-----|\s", "", certificate)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
