"""Signatures from outside: whatever the bytes, it is an error of ours or the truth."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kobuild.errors import SignatureError
from kobuild.signatures import cosign, rekor
from kobuild.signatures.keyless import Signer, Trust, load_trust, verify_blob, verify_statement
from kobuild.signatures.minisign import parse_public_key, parse_signature, verify
from kobuild.signatures.subject import subject_of_bytes
from tests.support.signers import GITHUB_ISSUER, MinisignSigner, Sigstore, Workload, b64

SIGNER = MinisignSigner()
COMMENTS = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=80)


SIGSTORE = Sigstore()
OWN = Workload.of("a/b")
SHA256 = hashlib.sha256(b"a tool").hexdigest()
BUNDLES = {"signature": SIGSTORE.sign(b"a tool", OWN).json(), "statement": SIGSTORE.attest(SHA256, OWN).json()}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=40).map(b64),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["rawBytes", "kind", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@functools.cache
def trust() -> Trust:
    with tempfile.TemporaryDirectory() as folder:
        return load_trust(SIGSTORE.write_trusted_root(Path(folder) / "root.json"), offline=True)


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Each member and element of a document, by what holds it and its key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in items for found in ((value, key), *nodes(item))]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(BUNDLES)), st.data())
def test_whatever_a_bundle_holds_it_is_refused_or_its_signers(kind: str, data: st.DataObject) -> None:
    bundle = json.loads(BUNDLES[kind])
    for _ in range(data.draw(st.integers(1, 2))):
        places = nodes(bundle)
        holder, key = places[data.draw(st.integers(0, len(places) - 1))]
        if data.draw(st.booleans()) and isinstance(holder, dict):
            holder.pop(key, None)
        elif key in holder or isinstance(holder, list):
            holder[key] = data.draw(JSON)
        if not nodes(bundle):
            return
    signer = Signer("https://github.com/a/b/*", GITHUB_ISSUER, "https://github.com/a/b")
    verify_it = verify_statement if kind == "statement" else verify_blob
    with contextlib.suppress(SignatureError):
        assert verify_it(trust(), json.dumps(bundle).encode(), SHA256, signer, "x") == OWN.identity


@settings(deadline=None)
@given(st.binary(max_size=300), COMMENTS, st.booleans())
def test_every_signature_is_read_and_verified(content: bytes, comment: str, prehashed: bool) -> None:
    signature = parse_signature(SIGNER.sign(content, comment, prehashed=prehashed), "x")
    assert (signature.trusted_comment, signature.prehashed) == (comment, prehashed)
    verify(signature, [parse_public_key(SIGNER.public)], subject_of_bytes("f", content), "x")


@settings(deadline=None)
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


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=400), st.text(max_size=400).map(str.encode)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (parse_signature, cosign.parse_signature, cosign.parse_certificate):
        with contextlib.suppress(SignatureError):
            parse(data, "x")
    with contextlib.suppress(SignatureError):
        rekor.bundle_from(data, "0" * 64, b"", "", "x")


@settings(deadline=None)
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


@settings(deadline=None)
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
    with contextlib.suppress(SignatureError):
        rekor.bundle_from(json.dumps(answer).encode(), "0" * 64, b"", "", "x")
