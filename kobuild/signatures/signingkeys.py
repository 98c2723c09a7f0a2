"""Keys that sign: ECDSA on P-256, in PEM as OpenSSL writes it or in the encrypted form of cosign.

cosign's form is PEM around JSON: scrypt makes a key of the password, and with it a box of NaCl holds the private key
(https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md, go-securesystemslib's package `encrypted`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from kobuild.errors import SignatureError
from kobuild.frozen import frozen
from kobuild.signatures.dsse import PAYLOAD_TYPE, SignedStatement, make_bundle, signed_bytes
from kobuild.signatures.ecdsa import verify_ecdsa
from kobuild.signatures.libraries import SIGN_EXTRA, missing_library
from kobuild.signatures.subject import subject_of_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

MAX_KEY_BYTES: Final = 64 * 1024
PASSWORD_VARIABLE: Final = "COSIGN_PASSWORD"  # noqa: S105  # the variable's name
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----(.+?)-----END \1-----", re.DOTALL)
_COSIGN: Final = (b"ENCRYPTED COSIGN PRIVATE KEY", b"ENCRYPTED SIGSTORE PRIVATE KEY")
_MAX_COST: Final = 1 << 20
_MAX_PARALLEL: Final = 16
_MAX_MEMORY_BYTES: Final = 1 << 30
_KIND: Final = "an ECDSA key on the curve P-256, such as `cosign generate-key-pair` makes"


@frozen
class SigningKey:
    """A private key."""

    private: EllipticCurvePrivateKey

    @property
    def public(self) -> bytes:
        """The public key as DER."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign_statement(self, payload: bytes) -> bytes:
        """The bundle of a statement; where the library can, the same statement gives the same bytes."""
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

        try:
            # RFC 6979: a second run attaches what is there already, and nothing hangs on the machine's randomness.
            algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        except UnsupportedAlgorithm:  # a distribution's own cryptography, on OpenSSL before 3.2
            algorithm = ec.ECDSA(hashes.SHA256())
        return make_bundle(payload, self.private.sign(signed_bytes(PAYLOAD_TYPE, payload), algorithm), self.public)


def load_signing_key(data: bytes, password: str | None, place: str) -> SigningKey:
    """Read a private key; raises SignatureError naming `place`, ProgramError where a library is missing."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # an extra
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    except ImportError as error:
        raise missing_library("cryptography", SIGN_EXTRA, error, f"read the key {place}") from error
    found = _PEM.search(data)
    if found is None or len(data) > MAX_KEY_BYTES:
        raise SignatureError(f"read the key {place}: it is not PEM", hint=f"expected is {_KIND}")
    try:
        if found[1] in _COSIGN:
            key = serialization.load_der_private_key(_unseal(found[2], password, place), None)
        else:
            # The form that OpenSSL wrote before PKCS #8 says it in a line of its own.
            secret = password.encode() if password and b"ENCRYPTED" in data else None
            key = serialization.load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The cause is left out: a parser's message may quote what it read.
        hint = f"expected is {_KIND}; {PASSWORD_VARIABLE} has the password of an encrypted one"
        raise SignatureError(f"read the key {place}: no private key, or another password", hint=hint) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError(f"read the key {place}: it is of another kind", hint=f"expected is {_KIND}")
    return SigningKey(key)


def verify_statement_with_key(statement: SignedStatement, key: bytes) -> None:
    """Raise SignatureError unless the public key (DER) signed the statement; ProgramError without the library."""
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415  # an extra
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415
    except ImportError as error:
        raise missing_library("cryptography", SIGN_EXTRA, error, "verify an attestation") from error
    try:
        public = load_der_public_key(key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError("the key is no public key that can be read") from error
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise SignatureError("the key is not one of ECDSA")
    try:
        message = signed_bytes(statement.payload_type, statement.payload)
        verify_ecdsa(public, statement.signature, subject_of_bytes("statement", message))
    except InvalidSignature as error:
        raise SignatureError("the signature is not by this key, or not of this statement") from error


def _unseal(body: bytes, password: str | None, place: str) -> bytes:
    """The private key (DER) inside cosign's form."""
    try:
        from nacl.exceptions import CryptoError  # noqa: PLC0415  # an extra
        from nacl.secret import SecretBox  # noqa: PLC0415
    except ImportError as error:
        raise missing_library("PyNaCl", SIGN_EXTRA, error, f"read the key {place}") from error
    if password is None:
        raise SignatureError(
            f"read the key {place}: it is encrypted",
            hint=f"set {PASSWORD_VARIABLE} to its password, which may be empty",
        )
    try:
        value = json.loads(base64.b64decode(b"".join(body.split()), validate=True))
        key = _derive(value["kdf"], password)
        nonce, sealed = (base64.b64decode(item) for item in (value["cipher"]["nonce"], value["ciphertext"]))
        return SecretBox(key).decrypt(sealed, nonce)
    except (KeyError, TypeError, AttributeError, binascii.Error, RecursionError, CryptoError) as error:
        raise ValueError("cosign's form") from error


def _derive(kdf: dict[str, Any], password: str) -> bytes:
    params = kdf["params"]
    cost, block, parallel = (int(params[name]) for name in ("N", "r", "p"))
    is_bounded = 1 < cost <= _MAX_COST and block * cost * 128 <= _MAX_MEMORY_BYTES and parallel <= _MAX_PARALLEL
    if kdf["name"] != "scrypt" or not is_bounded:
        raise ValueError("an unknown way to make a key of a password")
    salt = base64.b64decode(kdf["salt"])
    memory = 2 * _MAX_MEMORY_BYTES - 1
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=parallel, dklen=32, maxmem=memory)
