"""Signatures of ECDSA, whichever sum they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kobuild.signatures.subject import Subject

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey


def verify_ecdsa(key: EllipticCurvePublicKey, signature: bytes, subject: Subject) -> None:
    """Raise cryptography's InvalidSignature unless the key signed the subject.

    cosign 2 signs sha256 with a key on any curve. cosign 3 signs the sum that goes with the curve, for which the
    subject's bytes are needed: https://github.com/sigstore/architecture-docs/blob/main/algorithm-registry.md.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # an extra
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415

    try:
        key.verify(signature, bytes.fromhex(subject.sha256), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature:
        algorithm = {"secp384r1": hashes.SHA384, "secp521r1": hashes.SHA512}.get(key.curve.name)
        if algorithm is None:
            raise
        with subject.content() as content:
            key.verify(signature, content, ec.ECDSA(algorithm()))
