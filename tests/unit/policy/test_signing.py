"""provenance --sign and --key: bundles as cosign attaches them, verified by others than those who made them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.verify import Verifier, policy

from kobuild.signatures.dsse import BUNDLE_TYPE, parse_statement
from kobuild.signatures.signingkeys import verify_statement_with_key
from tests.support.localsigstore import GITHUB, WORKFLOW, LocalSigstore
from tests.support.pushedproject import PushedProject, parse
from tests.support.scripted import Reply
from tests.support.signingkeys import as_cosign, as_pem, make_key, public_der, write_key

PROVENANCE = "https://slsa.dev/provenance/v1"


def test_a_job_signs_what_it_attaches(project: PushedProject, job: LocalSigstore, tmp_path: Path) -> None:
    attached = parse(project.ok("provenance", str(project.reference), "--attach", "--sign", "--json"))["attached"]
    assert len(attached) == 3  # the index, and each platform's image
    (found,) = project.attached(BUNDLE_TYPE)
    assert found.annotations["dev.sigstore.bundle.content"] == "dsse-envelope"
    assert found.annotations["dev.sigstore.bundle.predicateType"] == PROVENANCE
    assert found.annotations["org.opencontainers.image.created"].endswith("Z")
    manifest, raw = project.artifact(found)
    assert manifest.artifact_type == BUNDLE_TYPE
    assert manifest.config.media_type == "application/vnd.oci.empty.v1+json"
    assert [layer.media_type for layer in manifest.layers] == [BUNDLE_TYPE]
    trust = ClientTrustConfig.from_json((tmp_path / "trust.json").read_text())
    kind, payload = Verifier(trusted_root=trust.trusted_root).verify_dsse(
        Bundle.from_json(raw), policy.Identity(identity=WORKFLOW, issuer=GITHUB)
    )
    assert kind == "application/vnd.in-toto+json"
    statement = json.loads(payload)
    assert statement["subject"][0]["digest"]["sha256"] == project.digest.hex
    assert statement["predicateType"] == PROVENANCE
    # One certificate for all, and each signature with a stamp of a clock of its own.
    assert job.server.lines.count("POST /api/v2/signingCert") == 1
    assert len(json.loads(raw)["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]) == 1
    assert not (project.folder / "dist").exists()


def test_a_token_that_was_given_counts(
    project: PushedProject, trusted: LocalSigstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = trusted.token(iss="https://accounts.google.com", email="mira@example.com")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", token)
    project.ok("provenance", str(project.reference), "--sign", "-o", "signed.json")
    bundle = Bundle.from_json((project.folder / "signed.json").read_bytes())
    policy.Identity(identity="mira@example.com", issuer="https://accounts.google.com").verify(
        bundle.signing_certificate
    )


@pytest.mark.parametrize(
    ("form", "predicate"), [("spdx", "https://spdx.dev/Document"), ("cyclonedx", "https://cyclonedx.org/bom")]
)
def test_bills_of_materials_are_signed_too(
    project: PushedProject, job: LocalSigstore, tmp_path: Path, form: str, predicate: str
) -> None:
    command = ("sbom", str(project.reference), "--format", form)
    assert len(parse(project.ok(*command, "--attach", "--sign", "--json"))["attached"]) == 3
    (found,) = project.attached(BUNDLE_TYPE)
    assert found.annotations["dev.sigstore.bundle.predicateType"] == predicate
    trust = ClientTrustConfig.from_json((tmp_path / "trust.json").read_text())
    bundle = Bundle.from_json(project.artifact(found)[1])
    _, payload = Verifier(trusted_root=trust.trusted_root).verify_dsse(
        bundle, policy.Identity(identity=WORKFLOW, issuer=GITHUB)
    )
    statement = json.loads(payload)
    assert statement["predicateType"] == predicate
    assert statement["subject"] == [
        {"name": project.reference.repository.name, "digest": {"sha256": project.digest.hex}}
    ]
    assert statement["predicate"] == json.loads(project.ok(*command))
    assert job.server.lines.count("POST /api/v2/signingCert") == 1


def test_a_bill_of_one_platform_is_about_its_image(project: PushedProject, tmp_path: Path) -> None:
    name = write_key(tmp_path / "k.pem", as_pem(make_key()))
    project.ok("sbom", str(project.reference), "--platform", "linux/arm64", "--key", name, "-o", "signed.json")
    statement = json.loads(parse_statement((project.folder / "signed.json").read_bytes(), "b").payload)
    index = json.loads(project.client.get_manifest(project.reference).raw)
    digest = f"sha256:{statement['subject'][0]['digest']['sha256']}"
    assert digest == index["manifests"][1]["digest"]
    code, _, err = project.run("sbom", "--key", name)
    assert code == 2
    assert "what is signed is about an image" in err


@pytest.mark.parametrize("form", ["pem", "cosign"])
def test_a_key_signs(project: PushedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    key = make_key()
    monkeypatch.setenv("COSIGN_PASSWORD", "s3cret")
    name = write_key(tmp_path / "cosign.key", as_pem(key) if form == "pem" else as_cosign(key, "s3cret"))
    for _ in range(2):  # a second time changes nothing: the same key, statement and signature
        project.ok("provenance", str(project.reference), "--attach", "--key", name)
    (found,) = project.attached(BUNDLE_TYPE)
    _, raw = project.artifact(found)
    statement = parse_statement(raw, "bundle")
    verify_statement_with_key(statement, public_der(key))
    assert json.loads(statement.payload)["subject"][0]["digest"]["sha256"] == project.digest.hex


def test_openssl_verifies_what_a_key_signed(project: PushedProject, tmp_path: Path) -> None:
    key = make_key()
    name = write_key(tmp_path / "k.pem", as_pem(key))
    project.ok("provenance", str(project.reference), "--key", name, "-o", "signed.json")
    statement = parse_statement((project.folder / "signed.json").read_bytes(), "bundle")
    kind = statement.payload_type
    message = f"DSSEv1 {len(kind)} {kind} {len(statement.payload)} ".encode() + statement.payload
    (tmp_path / "message").write_bytes(message)
    (tmp_path / "signature").write_bytes(statement.signature)
    command = ["openssl", "dgst", "-sha256", "-prverify", name, "-signature", "signature", "message"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "Verified OK\n"


VERIFY = """
import { bundleFromJSON } from '@sigstore/bundle';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { Verifier, toSignedEntity, toTrustMaterial } from '@sigstore/verify';
import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
const [, , bundle, root, identity, issuer, pem] = process.argv;
const key = pem ? () => ({ publicKey: createPublicKey(readFileSync(pem)), validFor: () => true }) : undefined;
const trust = toTrustMaterial(TrustedRoot.fromJSON(JSON.parse(readFileSync(root))), key);
const asked = pem ? { tlogThreshold: 0, tsaThreshold: 0, ctlogThreshold: 0 } : { tsaThreshold: 1 };
const verifier = new Verifier(trust, asked);
const policy = pem ? undefined : { subjectAlternativeName: identity, extensions: { issuer } };
const signer = verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(readFileSync(bundle)))), policy);
console.log(pem ? 'by key' : signer.identity.subjectAlternativeName);
"""
PACKAGES = ("@sigstore/verify@4", "@sigstore/bundle@5", "@sigstore/protobuf-specs@0.5")


@pytest.fixture(scope="session")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sigstore's own verifier for JavaScript: another code than the one that signed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("verifier")
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--silent")
    command = ["npm", "install", "--fetch-retries=0", *quiet, *PACKAGES]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=90)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot bring Sigstore's verifier: {error}")
    (folder / "verify.mjs").write_text(VERIFY)
    return folder / "verify.mjs"


def verified_by_others(verifier: Path, *arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        ["node", str(verifier), *map(str, arguments)], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    return done.returncode, done.stdout.strip() or done.stderr


def test_another_implementation_verifies_both_kinds(
    project: PushedProject, job: LocalSigstore, verifier: Path, tmp_path: Path
) -> None:
    key = make_key()
    name = write_key(tmp_path / "k.pem", as_pem(key))
    root, signed = tmp_path / "root.json", project.folder / "signed.json"
    root.write_text(json.dumps(job.trusted_root))
    project.ok("provenance", str(project.reference), "--sign", "-o", "signed.json")
    assert verified_by_others(verifier, signed, root, WORKFLOW, GITHUB) == (0, WORKFLOW)
    code, said = verified_by_others(verifier, signed, root, "https://github.com/mallory/ci", GITHUB)
    assert code != 0
    assert "certificate identity" in said
    project.ok("provenance", str(project.reference), "--key", name, "-o", "signed.json")
    assert verified_by_others(verifier, signed, root, "", "", name) == (0, "by key")
    other = write_key(tmp_path / "other.pem", as_pem(make_key()))
    assert verified_by_others(verifier, signed, root, "", "", other)[0] != 0


def test_who_nobody_knows_does_not_sign(
    project: PushedProject, trusted: LocalSigstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("provenance", str(project.reference), "--sign")
    code, out, err = project.run(*command)
    assert (code, out) == (1, "")
    assert "sign: nothing says who signs" in err
    assert "permissions: id-token: write" in err
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    code, _, err = project.run(*command)
    assert code == 1
    assert "the token of this job cannot be had or used" in err
    expired = trusted.token(exp=1, iat=0)
    for token in ("nonsense", expired):
        monkeypatch.setenv("SIGSTORE_ID_TOKEN", token)
        code, _, err = project.run(*command)
        assert code == 1
        assert "the token in SIGSTORE_ID_TOKEN cannot be had or used, or has expired" in err
        assert token not in err


@pytest.mark.parametrize(
    ("path", "reply", "expected"),
    [
        ("/token", Reply(500, b"the token would be here"), "the token of this job cannot be had"),
        ("/api/v2/signingCert", Reply(403, b'{"message": "no such issuer"}'), "get a certificate"),
        ("/api/v1/log/entries", Reply(502), "sign the statement"),
    ],
)
def test_a_service_that_fails_is_named(
    project: PushedProject, job: LocalSigstore, path: str, reply: Reply, expected: str
) -> None:
    job.refuses[path] = reply
    code, _, err = project.run("provenance", str(project.reference), "--attach", "--sign")
    assert code == 1
    assert expected in err
    assert "would be here" not in err
    assert project.attached() == ()


def test_what_cannot_be_meant(project: PushedProject, tmp_path: Path) -> None:
    command = ("provenance", str(project.reference))
    name = write_key(tmp_path / "k.pem", as_pem(make_key()))
    assert project.run(*command, "--sign", "--key", name)[0] == 2
    code, _, err = project.run(*command, "--sign", "--offline")
    assert (code, "--offline forbids the network" in err) == (2, True)
    code, _, err = project.run(*command, "--key", "nosuch.pem")
    assert code == 1
    assert "nosuch.pem: No such file or directory" in err


def test_signing_needs_to_know_where(project: PushedProject, job: LocalSigstore, tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_text(json.dumps(job.trusted_root))
    code, _, err = project.run("provenance", str(project.reference), "--sign")
    assert code == 1
    assert "read where to sign" in err


@pytest.mark.parametrize(
    ("module", "arguments", "expected"),
    [
        ("sigstore.sign", ("--sign",), "sign: the library sigstore is not installed"),
        ("cryptography.hazmat.primitives", ("--key", "k.pem"), "read the key k.pem: the library cryptography"),
        ("nacl.secret", ("--key", "cosign.key"), "read the key cosign.key: the library PyNaCl is not installed"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    project: PushedProject, monkeypatch: pytest.MonkeyPatch, module: str, arguments: tuple[str, ...], expected: str
) -> None:
    key = make_key()
    write_key(project.folder / "k.pem", as_pem(key))
    write_key(project.folder / "cosign.key", as_cosign(key, "p"))
    monkeypatch.setenv("COSIGN_PASSWORD", "p")
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = project.run("provenance", str(project.reference), *arguments)
    assert code == 1
    assert expected in err
    assert "python3 -m pip install 'kobuild[sign]'" in err
