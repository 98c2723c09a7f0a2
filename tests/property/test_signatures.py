"""Signatures from outside: whatever the bytes, it is an error of ours or the truth."""

from __future__ import annotations

import base64
import contextlib

from hypothesis import given
from hypothesis import strategies as st

from kobuild.errors import SignatureError
from kobuild.signatures import cosign, rekor
from kobuild.signatures.minisign import parse_public_key, parse_signature, verify
from kobuild.signatures.subject import subject_of_bytes
from tests.support.signers import MinisignSigner

SIGNER = MinisignSigner()
COMMENTS = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=80)


@given(st.binary(max_size=300), COMMENTS, st.booleans())
def test_every_signature_is_read_and_verified(content: bytes, comment: str, prehashed: bool) -> None:
    signature = parse_signature(SIGNER.sign(content, comment, prehashed=prehashed), "x")
    assert (signature.trusted_comment, signature.prehashed) == (comment, prehashed)
    verify(signature, [parse_public_key(SIGNER.public)], subject_of_bytes("f", content), "x")


@given(st.binary(max_size=64), COMMENTS, st.data())
def test_no_changed_byte_of_a_signature_passes(content: bytes, comment: str, data: st.DataObject) -> None:
    """Only the first comment, and how the lines end, are free; all else is signed or names the key."""
    whole = SIGNER.sign(content, comment)
    start = whole.index(b"\n") + 1
    index = data.draw(st.integers(start, len(whole) - 2))
    changed = bytearray(whole)
    changed[index] = data.draw(st.integers(0, 255).filter(lambda value: value != whole[index]))
    try:
        signature = parse_signature(bytes(changed), "x")
        verify(signature, [parse_public_key(SIGNER.public)], subject_of_bytes("f", content), "x")
    except SignatureError:
        return
    assert signature == parse_signature(whole, "x")


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400).map(str.encode)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (parse_signature, cosign.parse_signature, cosign.parse_certificate):
        with contextlib.suppress(SignatureError):
            parse(data, "x")
    with contextlib.suppress(SignatureError):
        rekor.bundle_from(data, "0" * 64, b"", "", "x")


@given(
    st.lists(st.one_of(st.text(max_size=100), st.binary(max_size=80).map(lambda raw: base64.b64encode(raw).decode())))
)
def test_any_lines_are_read_or_refused(lines: list[str]) -> None:
    text = "\n".join(["untrusted comment: x", *lines])
    with contextlib.suppress(SignatureError):
        parse_signature(text.encode("utf-8", "surrogatepass"), "x")
    for parse in (parse_public_key, cosign.parse_public_key):
        with contextlib.suppress(SignatureError):
            parse(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["body", "verification", "x"]), inner)
        ),
        max_leaves=12,
    )
)
def test_any_answer_of_a_log_is_read_or_refused(answer: object) -> None:
    import json  # noqa: PLC0415

    with contextlib.suppress(SignatureError):
        rekor.bundle_from(json.dumps(answer).encode(), "0" * 64, b"", "", "x")
