"""Signatures without a key: what a private Sigstore signs, and whom its certificates name."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from kobuild.errors import SignatureError
from kobuild.signatures.dsse import MAX_BUNDLE_BYTES
from kobuild.signatures.keyless import (
    MAX_ROOT_BYTES,
    Signer,
    Trust,
    load_trust,
    verify_blob,
    verify_statement,
)
from tests.support.signers import GITHUB_ISSUER, Sigstore, Workload

CONTENT = b"a tool's archive"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OWN = Workload.of("ko-build/ko")
KO = "https://github.com/ko-build/ko"
SIGNER = Signer(f"{KO}/.github/workflows/*", GITHUB_ISSUER, KO)


@pytest.fixture(scope="module")
def sigstore() -> Sigstore:
    return Sigstore()


@pytest.fixture(scope="module")
def trust(sigstore: Sigstore, tmp_path_factory: pytest.TempPathFactory) -> Trust:
    path = sigstore.write_trusted_root(tmp_path_factory.mktemp("trust") / "trusted_root.json")
    return load_trust(path, offline=True)


def check(trust: Trust, bundle: bytes | dict[str, Any], sha256: str = SHA256, signer: Signer = SIGNER) -> str:
    data = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    verify = verify_statement if b"dsseEnvelope" in data else verify_blob
    return verify(trust, data, sha256, signer, "x.sigstore.json")


def test_what_its_own_workflow_signed(sigstore: Sigstore, trust: Trust) -> None:
    assert check(trust, sigstore.sign(CONTENT, OWN).json()) == OWN.identity
    assert check(trust, sigstore.attest(SHA256, OWN).json()) == OWN.identity
    assert check(trust, sigstore.sign(CONTENT, Workload.of("KO-Build/Ko")).json()).startswith("https://github.com/KO-")


def test_a_person_with_another_issuer(sigstore: Sigstore, trust: Trust) -> None:
    person = Workload("releases@example.com", "https://accounts.example.com")
    bundle = sigstore.sign(CONTENT, person).json()
    assert check(trust, bundle, signer=Signer(person.identity, person.issuer)) == person.identity
    with pytest.raises(SignatureError, match=r"signed by releases@example\.com, and expected is other@"):
        check(trust, bundle, signer=Signer("other@example.com", person.issuer))
    with pytest.raises(
        SignatureError, match=r"vouched for by https://accounts\.example\.com, and expected is https://token"
    ):
        check(trust, bundle, signer=Signer(person.identity, GITHUB_ISSUER))


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (Workload.of("evil/ko"), r"signed by https://github\.com/evil/ko/.*, and expected is"),
        (Workload.of("ko-build/ko2"), "expected is"),
        (Workload(OWN.identity, repository="https://github.com/evil/ko"), "signed for https://github.com/evil/ko"),
        (Workload(OWN.identity), "signed for no repository"),
        (Workload(OWN.identity, "https://issuer.example.com", KO), "vouched for by https://issuer.example.com, and"),
        (Workload("https://evil.example.com/?https://github.com/ko-build/ko/.github/workflows/x", repository=KO), "by"),
    ],
)
def test_what_others_signed(sigstore: Sigstore, trust: Trust, who: Workload, message: str) -> None:
    for signed in (sigstore.sign(CONTENT, who), sigstore.attest(SHA256, who)):
        with pytest.raises(SignatureError, match=message):
            check(trust, signed.json())


def test_other_files_and_other_statements(sigstore: Sigstore, trust: Trust) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(SignatureError, match="Bundle message digest mismatch"):
        check(trust, sigstore.sign(CONTENT, OWN).json(), other)
    with pytest.raises(SignatureError, match=f"about other files: sha256:{other} is not among them"):
        check(trust, sigstore.attest(SHA256, OWN).json(), other)
    with pytest.raises(SignatureError, match=r"is of type https://spdx\.dev/Document, not https://slsa\.dev/prov"):
        check(trust, sigstore.attest(SHA256, OWN, predicate="https://spdx.dev/Document").json())


def test_the_time_of_signing_must_be_known_and_right(sigstore: Sigstore, trust: Trust) -> None:
    with pytest.raises(SignatureError, match="must contain an inclusion promise or signed timestamp"):
        check(trust, sigstore.sign(CONTENT, OWN).bundle(promise=False))
    for late in (dt.timedelta(minutes=11), dt.timedelta(minutes=-1)):
        with pytest.raises(SignatureError, match="not a signature that can be trusted"):
            check(trust, sigstore.sign(CONTENT, OWN, logged=late).json())


def test_another_sigstore_is_not_trusted(trust: Trust) -> None:
    with pytest.raises(SignatureError, match="certificate chain"):
        check(trust, Sigstore().sign(CONTENT, OWN).json())


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [inner for key, item in items for inner in _paths(item, (*path, key))]
    return found or ([path] if isinstance(value, str) else [])


@pytest.mark.parametrize("kind", ["sign", "attest"])
def test_no_part_of_a_bundle_can_be_changed(sigstore: Sigstore, trust: Trust, kind: str) -> None:
    """Each base64 text of it in turn, by one bit."""
    whole = (sigstore.sign(CONTENT, OWN) if kind == "sign" else sigstore.attest(SHA256, OWN)).json()
    changed = 0
    for path in _paths(json.loads(whole)):
        bundle = json.loads(whole)
        inner = bundle
        for key in path[:-1]:
            inner = inner[key]
        try:
            data = bytearray(base64.b64decode(inner[path[-1]], validate=True))
        except ValueError:
            continue
        if len(data) < 20:
            continue
        data[len(data) // 2] ^= 1
        inner[path[-1]] = base64.b64encode(data).decode()
        with pytest.raises(SignatureError):
            check(trust, bundle)
        changed += 1
    assert changed >= 6


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"mediaType": "x"}', b"{" * 50_000, b"\xff"])
def test_what_is_no_bundle(trust: Trust, data: bytes) -> None:
    with pytest.raises(SignatureError, match=r"^x\.sigstore\.json: "):
        verify_blob(trust, data, SHA256, SIGNER, "x.sigstore.json")


def test_a_statement_is_no_signature_and_the_reverse(sigstore: Sigstore, trust: Trust) -> None:
    with pytest.raises(SignatureError, match="Missing bundle message signature"):
        verify_blob(trust, sigstore.attest(SHA256, OWN).json(), SHA256, SIGNER, "x")
    with pytest.raises(SignatureError, match="without a DSSE envelope"):
        verify_statement(trust, sigstore.sign(CONTENT, OWN).json(), SHA256, SIGNER, "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "Expecting"), ("[]", "not a trusted root"), ("{}", "TrustedRoot"), ('{"mediaType": "x"}', "")],
)
def test_trusted_roots_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "root.json"
    path.write_text(text)
    with pytest.raises(SignatureError, match=f"^read {path}: .*{message}") as caught:
        load_trust(path, offline=True)
    assert "KOBUILD_TRUSTED_ROOT" in (caught.value.hint or "")
    with pytest.raises(SignatureError, match="No such file"):
        load_trust(tmp_path / "missing.json", offline=True)


def test_files_without_end_are_not_read(trust: Trust, tmp_path: Path) -> None:
    path = tmp_path / "root.json"
    path.write_bytes(b" " * (MAX_ROOT_BYTES + 1))
    with pytest.raises(SignatureError, match="cannot be a trusted root"):
        load_trust(path, offline=True)
    with pytest.raises(SignatureError, match="cannot be a bundle"):
        verify_blob(trust, b" " * (MAX_BUNDLE_BYTES + 1), SHA256, SIGNER, "x")


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("text/plain", b'{"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": "x"}'),
        ("application/vnd.in-toto+json", b'{"_type": "x", "subject": [], "predicateType": "x"}'),
        ("application/vnd.in-toto+json", b'{"_type": "x", "subject": [1], "predicateType": "x"}'),
        ("application/vnd.in-toto+json", b"not JSON"),
        ("application/vnd.in-toto+json", b"[]"),
    ],
)
def test_what_is_signed_must_be_a_statement(sigstore: Sigstore, trust: Trust, kind: str, payload: bytes) -> None:
    with pytest.raises(SignatureError, match="what was signed is no statement"):
        verify_statement(trust, sigstore.envelop(payload, kind, OWN).json(), SHA256, SIGNER, "x")


def test_a_certificate_without_a_name_is_nobodys(sigstore: Sigstore, trust: Trust) -> None:
    for who in (Workload(""), Workload(OWN.identity, "", KO)):
        with pytest.raises(SignatureError, match=r"by nobody, and expected is|certificate chain"):
            check(trust, sigstore.sign(CONTENT, who).json())


def test_a_whole_clients_configuration_will_do(sigstore: Sigstore, tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    service = {"url": "https://x.example.test", "majorApiVersion": 1, "validFor": {"start": "2020-01-01T00:00:00Z"}}
    config = {
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": sigstore.trusted_root(),
        "signingConfig": {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [{**service, "operator": "x"}],
            "oidcUrls": [{**service, "operator": "x"}],
            "rekorTlogUrls": [{**service, "operator": "x"}],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [],
            "tsaConfig": {"selector": "ANY"},
        },
    }
    path.write_text(json.dumps(config))
    loaded = load_trust(path, offline=True)
    assert loaded.rekor_url == "https://rekor.example.test"
    assert check(loaded, sigstore.sign(CONTENT, OWN).json()) == OWN.identity


@pytest.mark.parametrize(
    ("pattern", "identity", "is_allowed"),
    [
        (f"{KO}/.github/workflows/*", f"{KO}/.github/workflows/a.yml@refs/tags/v1", True),
        (f"{KO}/.github/workflows/*", f"x{KO}/.github/workflows/a.yml", False),
        ("a.b", "aXb", False),
        ("a*c", "a\nc", False),
        ("a*", "A", False),
        ("a*", "a\x1b[2J", False),
        ("a*", "a" * 301, False),
    ],
)
def test_identities_with_stars(pattern: str, identity: str, is_allowed: bool) -> None:
    assert Signer(pattern, GITHUB_ISSUER).allows(identity) is is_allowed
