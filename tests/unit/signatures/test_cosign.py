"""cosign's signatures with a key, in all the files that it writes."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, x448

from kobuild.errors import SignatureError
from kobuild.signatures.cosign import (
    MAX_SIGNATURE_BYTES,
    key_name,
    parse_certificate,
    parse_public_key,
    parse_signature,
    verify_with_key,
)
from kobuild.signatures.subject import subject_of_bytes
from tests.support.signers import CosignSigner, Sigstore, Workload

CONTENT = b"0123abcd  tool.tar.gz\n"
SIGNER = CosignSigner()


def check(data: bytes, content: bytes = CONTENT, key: str = SIGNER.pem) -> None:
    blob = parse_signature(data, "SUMS.sig")
    verify_with_key(blob.signature, parse_public_key(key), subject_of_bytes("SUMS", content), "SUMS.sig")


def test_a_bare_signature_and_a_bundle() -> None:
    check(SIGNER.sign(CONTENT))
    check(SIGNER.sign(CONTENT) + b"\n")
    check(SIGNER.bundle(CONTENT))
    check(json.dumps({"base64Signature": SIGNER.sign(CONTENT).decode(), "rekorBundle": {}}).encode())
    check(SIGNER.sign(CONTENT), key="".join(SIGNER.pem.splitlines()[1:-1]))
    assert key_name(parse_public_key(SIGNER.pem)) == SIGNER.name


def test_other_kinds_of_keys() -> None:
    edwards, old = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)
    check(base64.b64encode(edwards.sign(CONTENT)), key=CosignSigner(edwards).pem)
    check(base64.b64encode(old.sign(CONTENT, padding.PKCS1v15(), hashes.SHA256())), key=CosignSigner(old).pem)
    with pytest.raises(SignatureError, match="of a kind that cosign does not sign with"):
        check(b"AAAA", key=CosignSigner(x448.X448PrivateKey.generate()).pem)


@pytest.mark.parametrize(
    ("curve", "own"), [(ec.SECP384R1(), hashes.SHA384()), (ec.SECP521R1(), hashes.SHA512())], ids=["P-384", "P-521"]
)
def test_a_larger_curve_signs_sha256_or_its_own_sum(curve: ec.EllipticCurve, own: hashes.HashAlgorithm) -> None:
    private = ec.generate_private_key(curve)
    key = CosignSigner(private).pem
    for algorithm in (hashes.SHA256(), own):  # cosign 2 and cosign 3
        signature = base64.b64encode(private.sign(CONTENT, ec.ECDSA(algorithm)))
        check(signature, key=key)
        with pytest.raises(SignatureError, match="no signature of SUMS"):
            check(signature, b"other", key)
    with pytest.raises(SignatureError, match="no signature of SUMS"):
        check(base64.b64encode(private.sign(CONTENT, ec.ECDSA(hashes.SHA224()))), key=key)


@pytest.mark.parametrize(
    "data",
    [SIGNER.sign(b"other"), SIGNER.bundle(b"other"), CosignSigner().sign(CONTENT), b"AAAA"],
    ids=["of another file", "bundle of another file", "by another key", "of nothing"],
)
def test_signatures_of_others_and_of_other_files(data: bytes) -> None:
    with pytest.raises(SignatureError, match=f"^SUMS.sig: this is no signature of SUMS by the key {SIGNER.name}"):
        check(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89\x01\x33\x04", "not base64"),
        ("é".encode(), "not base64"),
        (b"{", "broken JSON"),
        (b"{" * 100_000, "broken JSON"),
        (b"{}", "it has no signature"),
        (b'{"messageSignature": {}}', "no signature in it"),
        (b'{"base64Signature": 1}', "no signature in it"),
        (b'{"base64Signature": "AAAA", "cert": "AAAA"}', "not a certificate"),
        (b"A" * (MAX_SIGNATURE_BYTES + 1), "cannot be a signature"),
    ],
)
def test_what_is_no_signature(data: bytes, message: str) -> None:
    with pytest.raises(SignatureError, match=r"^SUMS\.sig: ") as caught:
        parse_signature(data, "SUMS.sig")
    assert message in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"-----BEGIN CERTIFICATE-----" + b" " * 1_000_000 + b"x",
        b"-----BEGIN CERTIFICATE-----" * 30_000,
        json.dumps({"base64Signature": "AAAA", "cert": "\ud800"}).encode(),
    ],
)
def test_a_certificate_that_is_none_is_refused_at_once(data: bytes) -> None:
    read = parse_signature if data.startswith(b"{") else parse_certificate
    with pytest.raises(SignatureError, match=r"x: not a (?:certificate|signature)"):
        read(data, "x")


def test_certificates_as_pem_and_as_base64_of_it() -> None:
    pem = Sigstore().sign(CONTENT, Workload.of("a/b")).pem
    assert parse_certificate(pem, "x.pem") == parse_certificate(base64.b64encode(pem), "x.pem") == pem.decode()
    assert parse_certificate(SIGNER.pem.encode(), "x.pem") == ""
    for data in (b"\xff", b"AAAA", base64.b64encode(b"\xff\xff\xff")):
        with pytest.raises(SignatureError, match=r"x\.pem: not a certificate"):
            parse_certificate(data, "x.pem")


@pytest.mark.parametrize(
    "text", ["", "cosign.pub", "AAAA", "A" * 10_000, "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0"]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(SignatureError, match="not a public key"):
        parse_public_key(text)


def test_a_private_key_is_told_from_a_public_one() -> None:
    with pytest.raises(SignatureError, match="expected a public key, got PEM of kind PRIVATE KEY"):
        parse_public_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def test_a_key_that_only_looks_like_one() -> None:
    with pytest.raises(SignatureError, match="no public key that can be read"):
        check(b"AAAA", key=base64.b64encode(b"\x30" + b"\0" * 90).decode())
