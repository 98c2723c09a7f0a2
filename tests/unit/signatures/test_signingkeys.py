"""Signing keys in each of their forms, and what is no key."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from kobuild.errors import SignatureError
from kobuild.signatures.dsse import BUNDLE_TYPE, PAYLOAD_TYPE, key_hint, make_bundle, parse_statement, signed_bytes
from kobuild.signatures.signingkeys import load_signing_key, verify_statement_with_key
from tests.support.signingkeys import as_cosign, as_pem, make_key, public_der

KEY = make_key()
OPENSSL = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
# As `openssl ecparam -genkey` writes it: the curve's name goes before the key.
PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
PAYLOAD = b'{"_type": "https://in-toto.io/Statement/v1"}'


@pytest.mark.parametrize(
    ("data", "password"),
    [
        (as_pem(KEY), None),
        (as_pem(KEY), "not needed"),
        (as_pem(KEY, "s3cret"), "s3cret"),
        (OPENSSL, None),
        (PARAMETERS + OPENSSL, None),
        (
            KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"s3cret")),
            "s3cret",
        ),
        (as_cosign(KEY, "s3cret"), "s3cret"),
        (as_cosign(KEY, ""), ""),
        (as_cosign(KEY, "s3cret", cost=65536), "s3cret"),
        (as_cosign(KEY, "s3cret").replace(b"SIGSTORE", b"COSIGN"), "s3cret"),
    ],
)
def test_each_form_of_a_key_signs(data: bytes, password: str | None) -> None:
    key = load_signing_key(data, password, "k.pem")
    assert key.public == public_der(KEY)
    bundle = key.sign_statement(PAYLOAD)
    value = json.loads(bundle)
    assert value["mediaType"] == BUNDLE_TYPE
    assert value["verificationMaterial"] == {"publicKey": {"hint": key_hint(public_der(KEY))}}
    statement = parse_statement(bundle, "b")
    assert (statement.payload, statement.has_certificate) == (PAYLOAD, False)
    verify_statement_with_key(statement, public_der(KEY))
    assert key.sign_statement(PAYLOAD) == bundle


@pytest.mark.parametrize(
    ("data", "password", "expected"),
    [
        (b"", None, "it is not PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", None, "no private key"),
        (as_pem(KEY, "s3cret"), None, "no private key, or another password"),
        (as_pem(KEY, "s3cret"), "wrong", "no private key, or another password"),
        (as_cosign(KEY, "s3cret"), None, "it is encrypted"),
        (as_cosign(KEY, "s3cret"), "wrong", "no private key, or another password"),
        (as_pem(ec.generate_private_key(ec.SECP384R1())), None, "of another kind"),
        (
            ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            None,
            "of another kind",
        ),
        (as_pem(KEY) + b" " * 70_000, None, "it is not PEM"),
    ],
)
def test_what_is_no_key_of_ours(data: bytes, password: str | None, expected: str) -> None:
    with pytest.raises(SignatureError, match=f"read the key k.pem: .*{expected}") as caught:
        load_signing_key(data, password, "k.pem")
    assert caught.value.hint
    assert "s3cret" not in str(caught.value)


def sealed(**changes: object) -> bytes:
    """cosign's form with members changed."""
    body = b"".join(as_cosign(KEY, "p").splitlines()[1:-1])
    value = {**json.loads(base64.b64decode(body)), **changes}
    return b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n%s\n-----END ENCRYPTED COSIGN PRIVATE KEY-----" % (
        base64.b64encode(json.dumps(value).encode())
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"kdf": None},
        {"kdf": {"name": "scrypt", "params": {"N": 1 << 40, "r": 8, "p": 1}, "salt": ""}},
        {"kdf": {"name": "scrypt", "params": {"N": 1024, "r": 1 << 30, "p": 1}, "salt": ""}},
        {"kdf": {"name": "scrypt", "params": {"N": 1024, "r": 8, "p": 1 << 70}, "salt": ""}},
        {"kdf": {"name": "md5", "params": {"N": 1024, "r": 8, "p": 1}, "salt": ""}},
        {"kdf": {"name": "scrypt", "params": {"N": 1000, "r": 8, "p": 1}, "salt": ""}},
        {"cipher": {"nonce": "AA=="}},
        {"ciphertext": "?"},
        {"ciphertext": 1},
    ],
)
def test_a_broken_box_is_refused_without_end_or_memory(changes: dict[str, object]) -> None:
    with pytest.raises(SignatureError, match="no private key, or another password"):
        load_signing_key(sealed(**changes), "p", "k")


@given(st.binary(min_size=1, max_size=200), st.integers(0, 10_000))
def test_no_other_statement_passes_under_a_signature(payload: bytes, place: int) -> None:
    bundle = json.loads(load_signing_key(as_pem(KEY), None, "k").sign_statement(payload))
    changed = bytearray(payload)
    changed[place % len(payload)] ^= 1 << place % 8
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(changed).decode()
    with pytest.raises(SignatureError, match="not by this key, or not of this statement"):
        verify_statement_with_key(parse_statement(json.dumps(bundle).encode(), "b"), public_der(KEY))


def test_what_a_bundle_says_of_itself_is_fit_for_a_terminal() -> None:
    bundle = json.loads(load_signing_key(as_pem(KEY), None, "k").sign_statement(PAYLOAD))
    bundle["verificationMaterial"] = {"publicKey": {"hint": "\x1b]0;owned\x07"}}
    assert parse_statement(json.dumps(bundle).encode(), "b").key_hint == "?]0;owned?"
    bundle["dsseEnvelope"]["payloadType"] = "\ud800"
    with pytest.raises(SignatureError, match="not a bundle with a signed statement"):
        parse_statement(json.dumps(bundle).encode(), "b")
    bundle["mediaType"] = "\x1b[2J"
    with pytest.raises(SignatureError, match=r"not a bundle of Sigstore: \?\[2J"):
        parse_statement(json.dumps(bundle).encode(), "b")


def test_a_statement_signed_as_cosign_does_with_a_key_on_a_larger_curve() -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    signature = private.sign(signed_bytes(PAYLOAD_TYPE, PAYLOAD), ec.ECDSA(hashes.SHA384()))
    statement = parse_statement(make_bundle(PAYLOAD, signature, public_der(private)), "b")
    verify_statement_with_key(statement, public_der(private))
    with pytest.raises(SignatureError, match="not by this key"):
        verify_statement_with_key(statement, public_der(ec.generate_private_key(ec.SECP384R1())))


def test_another_key_and_what_is_no_key() -> None:
    statement = parse_statement(load_signing_key(as_pem(KEY), None, "k").sign_statement(PAYLOAD), "b")
    with pytest.raises(SignatureError, match="not by this key"):
        verify_statement_with_key(statement, public_der(make_key()))
    with pytest.raises(SignatureError, match="no public key"):
        verify_statement_with_key(statement, b"0" * 40)


@given(
    st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["mediaType", "dsseEnvelope", "verificationMaterial", "publicKey", "hint", "payload", "signatures"]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_other_json_is_refused_with_an_error(value: object) -> None:
    with pytest.raises(SignatureError, match=r"^b: not a bundle"):
        parse_statement(json.dumps(value).encode(), "b")
