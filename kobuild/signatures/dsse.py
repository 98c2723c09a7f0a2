"""Signed statements: DSSE envelopes in Sigstore's bundles.

https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md and
https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto. A bundle says with what its signature
is verified: a certificate, which brings along who signed, or a hint at a key that both sides know.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any, Final

from kobuild.errors import SignatureError
from kobuild.frozen import frozen
from kobuild.signatures.words import printable

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPES: Final = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
"""What the member `_type` of an in-toto statement may be."""
MAX_BUNDLE_BYTES: Final = 16 * 1024 * 1024
_BUNDLE_TYPES: Final = ("application/vnd.dev.sigstore.bundle+json;version=", "application/vnd.dev.sigstore.bundle.v")


@frozen
class SignedStatement:
    """A bundle with a statement; nothing of it is verified yet."""

    raw: bytes
    """The bundle as it came."""
    payload_type: str
    """Text that UTF-8 can write."""
    payload: bytes
    signature: bytes
    key_hint: str
    """Which key signed, by its own word, fit for a message; empty where a certificate did."""

    @property
    def has_certificate(self) -> bool:
        """Whether who signed stands in a certificate."""
        return not self.key_hint


def signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """What is signed: type and payload, each with its length (DSSE, "Signature Definition")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_hint(public_key: bytes) -> str:
    """The name that cosign gives a key: its sha256, as base64."""
    return base64.b64encode(hashlib.sha256(public_key).digest()).decode()


def make_bundle(payload: bytes, signature: bytes, public_key: bytes) -> bytes:
    """The bundle of a statement that a key signed; `public_key` is DER."""
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    material = {"publicKey": {"hint": key_hint(public_key)}}
    value = {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}
    return json.dumps(value, separators=(",", ":")).encode()


def parse_statement(raw: bytes, place: str) -> SignedStatement:
    """Read a bundle that must hold one signed statement; raises SignatureError naming `place`."""
    if len(raw) > MAX_BUNDLE_BYTES:
        raise SignatureError(f"{place}: more than {MAX_BUNDLE_BYTES} bytes cannot be a bundle")
    try:
        value = json.loads(raw)
        if not str(value["mediaType"]).startswith(_BUNDLE_TYPES):
            raise SignatureError(f"{place}: not a bundle of Sigstore: {printable(str(value['mediaType'])[:100])}")
        envelope, material = value["dsseEnvelope"], value["verificationMaterial"]
        (signature,) = envelope["signatures"]
        return SignedStatement(
            raw=raw,
            payload_type=str(envelope["payloadType"]).encode().decode(),
            payload=base64.b64decode(envelope["payload"], validate=True),
            signature=base64.b64decode(signature["sig"], validate=True),
            key_hint=_hint(material),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, binascii.Error) as error:
        raise SignatureError(f"{place}: not a bundle with a signed statement ({type(error).__name__})") from error


def _hint(material: dict[str, Any]) -> str:
    """The key's hint; `?` stands for an empty one, since what has no certificate was signed with some key."""
    if "publicKey" in material:
        return printable(str(material["publicKey"].get("hint") or "?"))
    if "certificate" in material or "x509CertificateChain" in material:
        return ""
    raise KeyError("certificate")
