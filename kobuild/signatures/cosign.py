"""What `cosign sign-blob` writes: bare signatures, certificates, and its bundles of before and after Sigstore's own.

https://docs.sigstore.dev/cosign/signing/signing_with_blobs/ and https://docs.sigstore.dev/about/bundle/.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from typing import Any, Final

from kobuild.errors import SignatureError
from kobuild.frozen import frozen
from kobuild.signatures.ecdsa import verify_ecdsa
from kobuild.signatures.libraries import PROOF_EXTRA, missing_library
from kobuild.signatures.subject import Subject

MAX_SIGNATURE_BYTES: Final = 1024 * 1024
"""Bundles with long certificates and proofs have some 10 KiB."""
# Each letter is in one part alone: whoever writes a certificate's file must not choose how long it is looked at.
_PEM: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----\s*\Z")
_MAX_KEY_BYTES: Final = 4096


@frozen
class SignedBlob:
    """What a signature file has, by whichever name."""

    signature: bytes = b""
    """Over the file's bytes or its sum; empty in an attestation."""
    certificate: str = ""
    """PEM; empty where a key signed, or where the certificate is in another file."""
    bundle: bytes = b""
    """Sigstore's own bundle, as it came; empty where the file is not one, or where a key signed."""
    is_statement: bool = False
    """Whether it is an in-toto statement that was signed, not the file."""


def parse_public_key(text: str) -> bytes:
    """A public key as DER, from PEM or the base64 in it; raises SignatureError."""
    wanted = text.strip()
    found = _PEM.match(wanted)
    if found is not None and found[1] != "PUBLIC KEY":
        raise SignatureError(f"expected a public key, got PEM of kind {found[1]}")
    try:
        data = base64.b64decode("".join((found[2] if found is not None else wanted).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError("not a public key: expected PEM, or the base64 in it") from error
    if not (32 < len(data) <= _MAX_KEY_BYTES and data[0] == 0x30):
        raise SignatureError("not a public key: expected PEM, or the base64 in it")
    return data


def key_name(key: bytes) -> str:
    """A short name for a key: the start of its sha256."""
    return hashlib.sha256(key).hexdigest()[:16].upper()


def parse_signature(data: bytes, place: str) -> SignedBlob:
    """Read a signature file or a bundle; raises SignatureError naming `place`."""
    if len(data) > MAX_SIGNATURE_BYTES:
        raise SignatureError(f"{place}: more than {MAX_SIGNATURE_BYTES} bytes cannot be a signature")
    if data.lstrip().startswith(b"{"):
        return _parse_bundle(data, place)
    return SignedBlob(_decode(data, place))


def parse_certificate(data: bytes, place: str) -> str:
    """The certificate as PEM, from PEM or from base64 of it, which cosign writes by default; raises SignatureError.

    Empty for a public key, which may lie in a file of the same suffix.
    """
    try:
        text = data.decode("ascii")
        if "-----BEGIN" not in text:
            text = _decode(data, place).decode("ascii")
    except UnicodeDecodeError as error:
        raise SignatureError(f"{place}: not a certificate") from error
    found = _PEM.match(text.strip())
    if found is None or found[1] not in ("CERTIFICATE", "PUBLIC KEY"):
        raise SignatureError(f"{place}: not a certificate")
    if found[1] == "PUBLIC KEY":
        return ""
    return text.strip() + "\n"


def verify_with_key(signature: bytes, key: bytes, subject: Subject, place: str) -> None:
    """Raise SignatureError unless the key signed `subject`; ProgramError where the library is missing."""
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415  # an extra
        from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415
    except ImportError as error:
        raise missing_library("cryptography", PROOF_EXTRA, error) from error
    try:
        loaded = load_der_public_key(key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError("cosign-key is no public key that can be read") from error
    try:
        _verify(loaded, signature, subject)
    except InvalidSignature as error:
        message = f"{place}: this is no signature of {subject.name} by the key {key_name(key)}"
        raise SignatureError(message, hint="if the publisher has announced a new key, set cosign-key to it") from error


def _verify(key: Any, signature: bytes, subject: Subject) -> None:
    """Verify as cosign does: of sums with ECDSA and RSA, of the content with Ed25519."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils  # noqa: PLC0415

    if isinstance(key, ec.EllipticCurvePublicKey):
        verify_ecdsa(key, signature, subject)
    elif isinstance(key, rsa.RSAPublicKey):
        sum_algorithm = utils.Prehashed(hashes.SHA256())
        key.verify(signature, bytes.fromhex(subject.sha256), padding.PKCS1v15(), sum_algorithm)
    elif isinstance(key, ed25519.Ed25519PublicKey):
        with subject.content() as content:
            key.verify(signature, content)
    else:
        raise SignatureError("cosign-key is of a kind that cosign does not sign with")


def _parse_bundle(data: bytes, place: str) -> SignedBlob:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"{place}: broken JSON: {error}") from error
    if not isinstance(value, dict):
        raise SignatureError(f"{place}: not a bundle")
    if "base64Signature" in value:  # cosign's own, of before version 3
        certificate = value.get("cert")
        return SignedBlob(
            _decode(value["base64Signature"], place),
            parse_certificate(certificate.encode("utf-8", "replace"), place)
            if isinstance(certificate, str) and certificate
            else "",
        )
    bundle = b"" if _is_by_key(value) else data
    if isinstance(value.get("dsseEnvelope"), dict):
        return SignedBlob(bundle=bundle, is_statement=True)
    message = value.get("messageSignature")
    if not isinstance(message, dict):
        raise SignatureError(f"{place}: not a bundle: it has no signature")
    signature = _decode(message.get("signature"), place)
    certificate = _incomplete_certificate(value)
    if certificate:
        return SignedBlob(signature, certificate)
    return SignedBlob(signature, bundle=bundle)


def _is_by_key(bundle: dict[str, Any]) -> bool:
    """Whether a bundle says that it was signed with a key, and has no certificate."""
    material = bundle.get("verificationMaterial")
    kinds = {*material} & {"publicKey", "certificate", "x509CertificateChain"} if isinstance(material, dict) else set()
    return kinds == {"publicKey"}


def _incomplete_certificate(bundle: dict[str, Any]) -> str:
    """The certificate of a bundle whose log entry lacks its checkpoint, as they did until 2024, as PEM.

    The log has the rest. Empty for every other bundle, also a broken one: that is for the verifier to refuse.
    """
    try:
        material = bundle["verificationMaterial"]
        (entry,) = material["tlogEntries"]
        if entry.get("inclusionProof", {}).get("checkpoint"):
            return ""
        # In lines of 64, as it was entered into the log.
        text = material["x509CertificateChain"]["certificates"][0]["rawBytes"]
        lines = [text[start : start + 64] for start in range(0, len(text), 64)]
        return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return ""


def _decode(value: object, place: str) -> bytes:
    try:
        if isinstance(value, str | bytes):
            return base64.b64decode(b"".join(value.split()) if isinstance(value, bytes) else value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"{place}: not a signature of cosign: not base64") from error
    raise SignatureError(f"{place}: not a signature of cosign: no signature in it")
