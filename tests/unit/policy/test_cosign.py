"""cosign and kobuild on one image: each verifies what the other attached."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from pathlib import Path

import pytest

from kobuild.signatures.dsse import BUNDLE_TYPE
from tests.support.cosign import PASSWORD, Cosign
from tests.support.localsigstore import WORKFLOW, LocalSigstore
from tests.support.pushedproject import PushedProject, parse
from tests.support.signingkeys import as_pem, make_key, public_pem, write_key

PROVENANCE = "https://slsa.dev/provenance/v1"
TYPE = "--type=slsaprovenance1"
STRANGER = WORKFLOW.replace("image.yml", "other.yml")


@pytest.fixture
def cosign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cosign:
    monkeypatch.setenv("COSIGN_PASSWORD", PASSWORD)
    folder = tmp_path / "cosign"
    folder.mkdir()
    return Cosign.find(folder)


def attest(project: PushedProject, *how: object) -> dict[str, str]:
    """Attach kobuild's own provenance; the references of the index and the images, by digest."""
    out = project.ok("provenance", str(project.reference), "--attach", "--json", *map(str, how))
    digests = [item["subject"] for item in parse(out)["attached"]]
    return {digest: f"{project.reference.repository}@{digest}" for digest in digests}


def pinned(project: PushedProject) -> str:
    return f"{project.reference.repository}@{project.digest}"


def predicate(project: PushedProject, cosign: Cosign) -> str:
    """The predicate of kobuild's statement, unsigned, for cosign to sign."""
    statement = parse(project.ok("provenance", str(project.reference)))
    (cosign.folder / "predicate.json").write_text(json.dumps(statement["predicate"]))
    return "--predicate=predicate.json"


def policy(project: PushedProject, line: str) -> None:
    project.settings(f'[verify]\nrequire = "provenance"\n{line}\n')


def signer(project: PushedProject) -> str | None:
    """Who signed what `kobuild verify` finds good; None where it refuses the image."""
    code, out, err = project.run("verify", str(project.reference), "--json")
    assert code in (0, 3), err
    found: str | None = parse(out)["provenance"]["signer"]
    assert (found is None) is (code == 3)
    return found


def subject_of(verified: str) -> str:
    """The digest that a verified statement is about, as `cosign verify-attestation` prints it."""
    statement = json.loads(base64.b64decode(json.loads(verified)["payload"]))
    assert statement["predicateType"] == PROVENANCE
    return f"sha256:{statement['subject'][0]['digest']['sha256']}"


@pytest.mark.parametrize("form", ["cosign", "pem"])
def test_cosign_verifies_what_a_key_signed(project: PushedProject, cosign: Cosign, form: str) -> None:
    private, public = cosign.generate_key()
    if form == "pem":
        key = make_key()
        private.write_bytes(as_pem(key))
        public.write_text(public_pem(key))
    references = attest(project, "--key", private)
    assert len(references) == 3
    unlogged = (f"--key={public}", "--insecure-ignore-tlog")
    for digest, reference in references.items():
        assert subject_of(cosign.ok("verify-attestation", TYPE, *unlogged, reference)) == digest
    cosign.ok("verify", *unlogged, project.reference)
    public.write_text(public_pem(make_key()))
    assert cosign.run("verify-attestation", TYPE, *unlogged, project.reference).returncode != 0
    assert f"{PROVENANCE} artifacts via OCI referrer" in cosign.ok("tree", project.reference)
    (attached,) = project.attached(BUNDLE_TYPE)
    downloaded = json.loads(cosign.ok("download", "attestation", project.reference))
    assert downloaded == json.loads(project.artifact(attached)[1])


@pytest.mark.parametrize(("form", "kind"), [("spdx", "spdxjson"), ("cyclonedx", "cyclonedx")])
def test_cosign_verifies_a_bill_of_materials(
    project: PushedProject, cosign: Cosign, tmp_path: Path, form: str, kind: str
) -> None:
    key = make_key()
    (cosign.folder / "cosign.pub").write_text(public_pem(key))
    name = write_key(tmp_path / "k.pem", as_pem(key))
    attest(project, "--key", name)
    bill = ("sbom", str(project.reference), "--format", form)
    project.ok(*bill, "--attach", "--key", name)
    unlogged = ("--key=cosign.pub", "--insecure-ignore-tlog")
    verified = json.loads(cosign.ok("verify-attestation", f"--type={kind}", *unlogged, project.reference))
    assert json.loads(base64.b64decode(verified["payload"]))["predicate"] == parse(project.ok(*bill))
    # The one beside it is found by its own type.
    assert subject_of(cosign.ok("verify-attestation", TYPE, *unlogged, project.reference)) == str(project.digest)


def test_cosign_verifies_what_a_job_signed(
    project: PushedProject, cosign: Cosign, job: LocalSigstore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    attest(project, "--sign")
    image = project.reference
    for more in ((), ("--use-signed-timestamps",)):
        verified = cosign.ok("verify-attestation", TYPE, *cosign.from_job(job), *more, image)
        assert subject_of(verified) == str(project.digest)
    cosign.ok("verify", *cosign.from_job(job), image)
    refused = cosign.run("verify-attestation", TYPE, *cosign.from_job(job, STRANGER), image)
    assert f'expected SAN value "{STRANGER}"' in refused.stderr
    with closing(LocalSigstore(tmp_path_factory.mktemp("other"))) as other:
        assert cosign.run("verify-attestation", TYPE, *cosign.from_job(other), image).returncode != 0


def test_what_cosign_attests_with_a_key_counts(project: PushedProject, cosign: Cosign, tmp_path: Path) -> None:
    private, public = cosign.generate_key()
    policy(project, f"key = {json.dumps(public.read_text())}")
    attest(project, "--key", write_key(tmp_path / "stranger.pem", as_pem(make_key())))
    signing = cosign.by_key(private)
    cosign.ok("sign", *signing, pinned(project))
    assert signer(project) is None
    # cosign adds to the list that kobuild began, and kobuild to cosign's.
    cosign.ok("attest", *signing, TYPE, predicate(project, cosign), pinned(project))
    assert (signer(project) or "").startswith("the key ")
    attest(project, "--key", private)
    assert len(project.attached(BUNDLE_TYPE)) == len(project.attached()) == 4
    assert cosign.ok("tree", project.reference).count(f"{PROVENANCE} artifacts") == 3


def test_what_cosign_attests_as_a_job_counts(project: PushedProject, cosign: Cosign, trusted: LocalSigstore) -> None:
    policy(project, f'identity = "{WORKFLOW}"')
    cosign.ok("attest", *cosign.by_job(trusted), TYPE, predicate(project, cosign), pinned(project))
    assert signer(project) == WORKFLOW
    policy(project, f'identity = "{STRANGER}"')
    assert signer(project) is None
