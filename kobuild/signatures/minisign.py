"""minisign's signatures: https://jedisct1.github.io/minisign/#signature-format.

A signature file has four lines: an untrusted comment, the signature, a trusted comment, and a second signature over
the first one and the trusted comment. Newer files sign the content's BLAKE2b sum (`ED`), older ones the content (`Ed`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Final

from kobuild.errors import SignatureError
from kobuild.frozen import frozen
from kobuild.signatures.libraries import PROOF_EXTRA, missing_library
from kobuild.signatures.subject import Buffer, Subject

MAX_SIGNATURE_BYTES: Final = 32 * 1024
"""minisign itself reads comments of at most 8 KiB each."""
_UNTRUSTED: Final = "untrusted comment:"
_TRUSTED: Final = "trusted comment: "
_KEY_SIZE, _SIGNATURE_SIZE, _GLOBAL_SIZE = 42, 74, 64
_FILE: Final = re.compile(r"(?:^|\s)file:(\S+)")


@frozen
class PublicKey:
    """Who may sign."""

    key_id: str
    """As minisign shows it: up to 16 hex digits."""
    raw: bytes
    """The Ed25519 key, 32 bytes."""


@frozen
class Signature:
    """What a signature file says; nothing of it is verified yet."""

    key_id: str
    prehashed: bool
    """Whether the content's BLAKE2b sum was signed, not the content."""
    signature: bytes
    trusted_comment: str
    global_signature: bytes
    """Over `signature` and `trusted_comment`."""

    @property
    def signed_name(self) -> str:
        """The file name that the trusted comment gives, as minisign writes it by itself; empty where it gives none."""
        found = _FILE.search(self.trusted_comment)
        return found[1] if found is not None else ""


def parse_public_key(text: str) -> PublicKey:
    """A public key: the `RW…` text, or the whole of a `.pub` file. Raises SignatureError."""
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(lines) == 2 and lines[0].startswith(_UNTRUSTED):
        lines = lines[1:]
    if len(lines) != 1:
        raise SignatureError("not a minisign public key: expected one line of base64")
    data = _decode(lines[0], _KEY_SIZE, "a minisign public key")
    if data[:2] != b"Ed":
        raise SignatureError("not a minisign public key: it is for an unknown algorithm")
    return PublicKey(_key_id(data), data[10:])


def parse_signature(data: bytes, place: str) -> Signature:
    """Read a signature file; raises SignatureError naming `place`."""
    if len(data) > MAX_SIGNATURE_BYTES:
        raise SignatureError(f"{place}: more than {MAX_SIGNATURE_BYTES} bytes cannot be a minisign signature")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise SignatureError(f"{place}: not a minisign signature: not UTF-8") from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if len(lines) != 4 or not lines[0].startswith(_UNTRUSTED):
        raise SignatureError(f"{place}: not a minisign signature: expected four lines, the first an untrusted comment")
    if not lines[2].startswith(_TRUSTED):
        raise SignatureError(f"{place}: not a minisign signature: its third line is no trusted comment")
    signature = _decode(lines[1], _SIGNATURE_SIZE, f"{place}: the signature")
    if signature[:2] not in (b"Ed", b"ED"):
        raise SignatureError(f"{place}: the signature is of an unknown algorithm")
    return Signature(
        key_id=_key_id(signature),
        prehashed=signature[:2] == b"ED",
        signature=signature[10:],
        trusted_comment=lines[2].removeprefix(_TRUSTED),
        global_signature=_decode(lines[3], _GLOBAL_SIZE, f"{place}: the signature of the trusted comment"),
    )


def verify(signature: Signature, keys: Sequence[PublicKey], subject: Subject, place: str) -> PublicKey:
    """The key that signed `subject`; raises SignatureError where it is none of `keys`, or not for these bytes.

    Raises ProgramError where the library is missing.
    """
    key = next((key for key in keys if key.key_id == signature.key_id), None)
    if key is None:
        known = ", ".join(key.key_id for key in keys)
        raise SignatureError(
            f"{place}: signed with the key {signature.key_id}, and minisign-key names {known}",
            hint="if the publisher has announced a new key, add it to minisign-key",
        )
    comment = signature.signature + signature.trusted_comment.encode()
    if not _is_signed(key, signature.global_signature, comment):
        raise SignatureError(f"{place}: the trusted comment is not what the key {key.key_id} signed")
    with subject.content() as content:
        message = hashlib.blake2b(content).digest() if signature.prehashed else content
        if not _is_signed(key, signature.signature, message):
            raise SignatureError(f"{place}: this is no signature of {subject.name} by the key {key.key_id}")
    return key


def _is_signed(key: PublicKey, signature: bytes, message: Buffer) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError as error:
        raise missing_library("cryptography", PROOF_EXTRA, error) from error
    try:
        Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _decode(text: str, size: int, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"{what} is not base64") from error
    if len(data) != size:
        raise SignatureError(f"{what} has {len(data)} bytes, not {size}")
    return data


def _key_id(data: bytes) -> str:
    """Eight bytes behind the algorithm; shown as the little-endian number that they are."""
    return f"{int.from_bytes(data[2:10], 'little'):X}"
