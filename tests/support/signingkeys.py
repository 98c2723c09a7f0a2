"""Keys for tests, in each form that a signing key may have."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from nacl.secret import SecretBox


def make_key() -> ec.EllipticCurvePrivateKey:
    """A new key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def as_pem(key: ec.EllipticCurvePrivateKey, password: str | None = None) -> bytes:
    """PKCS#8 in PEM, encrypted with a password where there is one."""
    encryption: KeySerializationEncryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def as_cosign(key: ec.EllipticCurvePrivateKey, password: str, *, cost: int = 1024) -> bytes:
    """As `cosign generate-key-pair` writes it; `cost` is scrypt's N, which cosign sets to 65536."""
    salt, nonce = os.urandom(32), os.urandom(24)
    secret = hashlib.scrypt(password.encode(), salt=salt, n=cost, r=8, p=1, dklen=32, maxmem=1 << 28)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    value = {
        "kdf": {"name": "scrypt", "params": {"N": cost, "r": 8, "p": 1}, "salt": base64.b64encode(salt).decode()},
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(SecretBox(secret).encrypt(der, nonce).ciphertext).decode(),
    }
    text = base64.encodebytes(json.dumps(value).encode())
    return (
        b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n" + text + b"-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
    )


def public_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """The public key as `cosign.pub` has it."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key as DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def write_key(path: Path, data: bytes) -> str:
    """Put a key into a file; returns its name."""
    path.write_bytes(data)
    return str(path)
