"""verify with a policy: what is attached must be signed by who may, and say what settings and lock say."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kobuild.errors import SignatureError
from kobuild.explain.documents import Document, as_artifact
from kobuild.explain.provenance import PREDICATE_TYPE
from kobuild.oci.digest import Digest
from kobuild.policy.attestations import Attestation
from kobuild.policy.judging import judge
from kobuild.policy.signers import Signers
from kobuild.settings.model import VerifySettings
from kobuild.signatures.dsse import BUNDLE_TYPE, parse_statement
from kobuild.signatures.keyless import Trust
from kobuild.signatures.signingkeys import load_signing_key
from tests.support.localsigstore import REPOSITORY, WORKFLOW, LocalSigstore
from tests.support.pushedproject import PushedProject
from tests.support.signingkeys import as_pem, make_key, public_pem, write_key

KEY, OTHER = make_key(), make_key()
ACTIONS = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "team/ci",
    "GITHUB_WORKFLOW_REF": WORKFLOW.removeprefix("https://github.com/"),
    "GITHUB_RUN_ID": "42",
    "GITHUB_SHA": "c" * 40,
    "GITHUB_REF": "refs/heads/main",
}


def by_key(*keys: Any, more: str = "") -> str:
    """A policy that lets keys sign."""
    texts = ", ".join(json.dumps(public_pem(key)) for key in keys or (KEY,))
    return f'[verify]\nrequire = ["provenance"]\nkey = [{texts}]\n{more}\n'


def by_workflow(identity: str = WORKFLOW, more: str = "") -> str:
    """A policy that lets a workflow sign."""
    return f'[verify]\nrequire = "provenance"\nidentity = "{identity}"\n{more}\n'


def policy(project: PushedProject, text: str) -> None:
    """Put a policy into the settings. It is part of them, so the provenance must be made under it."""
    project.settings(text)


def sign(project: PushedProject, tmp_path: Path, key: Any = KEY, *more: str) -> None:
    name = write_key(tmp_path / "k.pem", as_pem(key))
    project.ok("provenance", str(project.reference), "--attach", "--key", name, *more)


def check(project: PushedProject, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON and standard error of verify on the pushed image."""
    code, out, err = project.run("verify", *(arguments or (str(project.reference),)), "--json")
    return code, json.loads(out) if out else {}, err


def attach(project: PushedProject, bundle: bytes, title: str = "x") -> None:
    """Attach a bundle that nobody made with kobuild."""
    notes = {"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": PREDICATE_TYPE}
    document = Document(bundle, BUNDLE_TYPE, title, "2030-01-01T00:00:00Z", notes)
    subject = project.client.get_manifest(project.reference).descriptor
    project.client.referrers(project.reference.repository).push(as_artifact(document, subject))


def test_signed_by_a_key_that_may(project: PushedProject, tmp_path: Path) -> None:
    policy(project, by_key(OTHER, KEY))
    sign(project, tmp_path)
    code, value, err = check(project)
    assert code == 0, err
    assert value["provenance"]["ok"]
    assert value["provenance"]["signer"].startswith("the key ")
    assert str(project.digest) in value["provenance"]["attestation"]
    assert value["findings"] == []


@pytest.mark.usefixtures("job")
def test_signed_by_the_job_that_may(project: PushedProject, monkeypatch: pytest.MonkeyPatch) -> None:
    more = f'builder = "https://github.com/team/*"\nsource = "{REPOSITORY}@refs/heads/main"'
    policy(project, by_workflow("https://github.com/team/ci/.github/workflows/*", more))
    for name, value in ACTIONS.items():
        monkeypatch.setenv(name, value)
    project.ok("provenance", str(project.reference), "--attach", "--sign")
    monkeypatch.delenv("GITHUB_ACTIONS")
    code, found, err = check(project, f"docker://{project.reference}")
    assert code == 0, err
    assert found["provenance"]["signer"] == WORKFLOW
    code, out, err = project.run("verify", str(project.reference))
    assert (code, out.strip()) == (0, f"{project.reference}@{project.digest}")


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (by_key(OTHER), "a signature with a certificate"),
        (by_workflow("https://github.com/mallory/ci/*"), f"signed by {WORKFLOW}, and expected is"),
        (by_workflow(more='issuer = "https://accounts.google.com"'), "not a signature that can be trusted"),
        (by_workflow(more='source = "https://github.com/team/other"'), f"signed for {REPOSITORY}"),
        (by_workflow(more='source = "https://github.com/team/other*"'), f"signed for {REPOSITORY}"),
        (by_workflow(more=f'source = "{REPOSITORY}@refs/tags/*"'), "signed for refs/heads/main, and expected is refs"),
    ],
)
def test_signed_by_a_job_that_may_not(project: PushedProject, text: str, expected: str) -> None:
    policy(project, text)
    project.ok("provenance", str(project.reference), "--attach", "--sign")
    code, value, err = check(project)
    assert code == 3
    (finding,) = value["findings"]
    assert finding["place"].endswith(f"of {project.digest}: signature")
    assert expected in finding["actual"]
    assert "trust nothing of it" in finding["remedy"]
    assert not value["provenance"]["ok"]
    assert expected in err


@pytest.mark.usefixtures("job")
def test_signed_under_another_sigstore(
    project: PushedProject,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy(project, by_workflow())
    project.ok("provenance", str(project.reference), "--attach", "--sign")
    folder = tmp_path_factory.mktemp("other")
    other = LocalSigstore(folder)
    other.close()
    (folder / "root.json").write_text(json.dumps(other.trusted_root))
    monkeypatch.setenv("KOBUILD_TRUSTED_ROOT", str(folder / "root.json"))
    code, value, _ = check(project)
    assert code == 3
    assert "not a signature that can be trusted" in value["findings"][0]["actual"]
    monkeypatch.setenv("KOBUILD_TRUSTED_ROOT", str(folder / "nosuch.json"))
    code, _, err = check(project)
    assert code == 1  # which says nothing of the image
    assert "nosuch.json" in err


@pytest.mark.parametrize("key", [OTHER, None])
def test_no_signature_that_counts(project: PushedProject, tmp_path: Path, key: Any) -> None:
    policy(project, by_key() if key is not None else by_workflow())
    sign(project, tmp_path, OTHER)
    code, value, _ = check(project)
    assert code == 3
    (finding,) = value["findings"]
    assert finding["place"].endswith(": signature")
    assert "a signature " in finding["actual"]
    assert ("the key" if key is not None else WORKFLOW) in finding["expected"]


def test_nothing_attached_and_what_is_not_signed(project: PushedProject) -> None:
    policy(project, by_key())
    for _ in range(2):
        code, value, _ = check(project)
        assert code == 3
        (finding,) = value["findings"]
        assert finding["place"] == f"{project.reference}: provenance"
        assert finding["actual"] == "no attestation"
        assert "kobuild provenance REF --attach --sign" in finding["remedy"]
        project.ok("provenance", str(project.reference), "--attach")  # without a signature it counts for nothing


def test_local_images_have_no_attestations_but_in_files(project: PushedProject, tmp_path: Path) -> None:
    policy(project, by_key())
    project.ok("build")
    assert project.run("verify")[0] == 0
    name = write_key(tmp_path / "k.pem", as_pem(KEY))
    project.ok("provenance", "oci:dist/image", "--key", name, "-o", "signed.json")
    code, value, err = check(project, "oci:dist/image", "--attestation", "signed.json")
    assert code == 0, err
    assert value["provenance"]["attestation"] == "attestation signed.json"
    (project.folder / "signed.json").write_text("{}")
    code, value, _ = check(project, "oci:dist/image", "--attestation", "signed.json")
    assert code == 3
    assert value["findings"][0]["place"] == "attestation signed.json: bundle"
    assert project.run("verify", "--attestation", "nosuch.json")[0] == 1


def test_an_attestation_that_nothing_asks_for_is_not_passed_over(project: PushedProject, tmp_path: Path) -> None:
    name = write_key(tmp_path / "k.pem", as_pem(KEY))
    project.ok("provenance", str(project.reference), "--key", name, "-o", "signed.json")
    code, out, err = project.run("verify", str(project.reference), "--attestation", "signed.json")
    assert (code, out) == (2, "")
    assert "the settings require no attestation" in err


def test_other_settings_and_another_lock_than_those_that_were_attested(project: PushedProject, tmp_path: Path) -> None:
    policy(project, by_key())
    sign(project, tmp_path)
    with (project.folder / "kobuild.toml").open("a") as file:
        file.write("# a remark\n")
    lock = project.folder / "kobuild.lock"
    lock.write_text(lock.read_text() + "# another\n")
    code, value, _ = check(project)
    assert code == 3
    by_hand, *attested = value["findings"]
    assert by_hand["place"].startswith("kobuild.lock:")  # which the lock alone tells
    assert [item["place"].rpartition(": ")[2] for item in attested] == ["kobuild.toml", "kobuild.lock"]
    assert all("push and attest the image that these settings" in item["remedy"] for item in attested)


def signed(project: PushedProject, change: Callable[[dict[str, Any]], object], key: Any = KEY) -> bytes:
    """The provenance with something changed in it, and signed all the same: by who may, but not truthfully."""
    project.ok("provenance", str(project.reference), "-o", "plain.json")
    value = json.loads((project.folder / "plain.json").read_text())
    change(value)
    return load_signing_key(as_pem(key), None, "k").sign_statement(json.dumps(value).encode())


def definition(value: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = value["predicate"]["buildDefinition"]
    return found


@pytest.mark.parametrize(
    ("change", "place", "expected", "actual"),
    [
        (lambda v: v["subject"][0].update(digest={"sha256": "0" * 64}), "subject", "sha256:", "sha256:0000"),
        (lambda v: v.update(subject=None), "subject", "sha256:", "nothing"),
        (lambda v: definition(v).update(buildType="https://x.test/1"), "build type", "#build-v1", "https://x.test/1"),
        (lambda v: v.update(predicate=[]), "build type", "#build-v1", "nothing"),
        (
            lambda v: definition(v)["externalParameters"].update(platforms=["linux/s390x"]),
            "platforms",
            "amd64",
            "s390x",
        ),
        (lambda v: definition(v)["externalParameters"].update(lock={}), "kobuild.lock", "sha256 ", "sha256 nothing"),
        (
            lambda v: definition(v)["resolvedDependencies"][0]["digest"].update(kobuildTreeSha256="0" * 64),
            "files/ for linux/amd64",
            "kobuildTreeSha256 ",
            "kobuildTreeSha256 0000",
        ),
        (lambda v: definition(v)["resolvedDependencies"].pop(), "files/ for linux/arm64", "kobuildTree", "nothing"),
        (
            lambda v: definition(v)["resolvedDependencies"].append({"name": "evil", "digest": {"sha256": "1" * 64}}),
            "evil",
            "nothing",
            "sha256 1111",
        ),
        (lambda v: definition(v).update(resolvedDependencies="none"), "files/ for linux/amd64", "kobuild", "nothing"),
        (lambda v: v["predicate"]["runDetails"].update(builder=7), "builder", "https://b.test/*", "nothing"),
    ],
)
def test_what_is_signed_and_not_so_is_found(
    project: PushedProject,
    change: Callable[[dict[str, Any]], object],
    place: str,
    expected: str,
    actual: str,
) -> None:
    policy(project, by_key(more='builder = "https://b.test/*"'))
    bundle = signed(
        project,
        lambda value: (value["predicate"]["runDetails"]["builder"].update(id="https://b.test/1"), change(value)),
    )
    (project.folder / "signed.json").write_bytes(bundle)
    code, value, err = check(project, str(project.reference), "--attestation", "signed.json")
    assert code == 3, err
    found = {
        item["place"].removeprefix("attestation signed.json").removeprefix(": "): item for item in value["findings"]
    }
    assert expected in found[place]["expected"]
    assert actual in found[place]["actual"]


def test_what_is_no_statement_on_a_build_counts_for_nothing(project: PushedProject) -> None:
    policy(project, by_key())
    for key in ("_type", "predicateType"):
        (project.folder / "signed.json").write_bytes(signed(project, partial(dict.update, **{key: "x"})))
        code, value, _ = check(project, str(project.reference), "--attestation", "signed.json")
        assert code == 3
        assert value["findings"][0]["actual"] == "1 attestations of other kinds"


@pytest.mark.parametrize(
    ("source", "is_good"),
    [
        (REPOSITORY, True),
        (f"{REPOSITORY}@refs/heads/*", True),
        ("https://github.com/*/ci@refs/heads/main", True),
        (f"{REPOSITORY}@refs/tags/*", False),
        ("https://github.com/team", False),
    ],
)
def test_where_the_settings_came_from(
    project: PushedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, is_good: bool
) -> None:
    policy(project, by_key(more=f'source = "{source}"'))
    with monkeypatch.context() as patch:
        for name, value in ACTIONS.items():
            patch.setenv(name, value)
        sign(project, tmp_path)
    code, found, err = check(project)
    assert code == (0 if is_good else 3), err
    if not is_good:
        (finding,) = found["findings"]
        assert finding["place"].endswith(": source")
        assert finding["actual"] == f"{REPOSITORY}@refs/heads/main"


def test_one_good_attestation_among_others_is_enough(project: PushedProject, tmp_path: Path) -> None:
    policy(project, by_key())
    attach(project, b"not a bundle")
    attach(project, signed(project, lambda _: None, OTHER), "of a stranger")
    attach(project, signed(project, lambda value: value.update(predicateType="https://x.test/1")), "other")
    code, value, _ = check(project)
    assert code == 3
    (finding,) = value["findings"]
    assert finding["place"].endswith((": bundle", ": signature"))
    # Of several that are wrong, the one by who may sign is told of.
    attach(project, signed(project, lambda v: definition(v).update(buildType="x")), "wrong")
    _, value, _ = check(project)
    assert value["findings"][0]["place"].endswith(": build type")
    assert len(project.attached(BUNDLE_TYPE)) == 4
    sign(project, tmp_path)
    code, value, err = check(project)
    assert code == 0, err


def test_a_bundle_moved_from_another_image_is_of_no_use(project: PushedProject, tmp_path: Path) -> None:
    policy(project, by_key())
    name = write_key(tmp_path / "k.pem", as_pem(KEY))
    project.ok("provenance", str(project.reference), "--key", name, "-o", "old.json")
    (project.folder / "files" / "a").write_text("another")
    project.ok("resolve", "--upgrade")
    project.ok("push")
    attach(project, (project.folder / "old.json").read_bytes())
    code, value, _ = check(project)
    assert code == 3
    assert any(item["place"].endswith(": subject") for item in value["findings"])


def never() -> Trust:
    raise SignatureError("no certificate is verified here")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
members = [
    "buildDefinition",
    "externalParameters",
    "settings",
    "lock",
    "digest",
    "sha256",
    "resolvedDependencies",
    "uri",
]
shaped = st.recursive(
    json_values,
    lambda inner: st.dictionaries(st.sampled_from([*members, "runDetails", "platforms"]), inner, max_size=5),
    max_leaves=12,
)


@given(shaped, json_values)
def test_a_signed_statement_of_any_shape_is_judged_without_a_crash(predicate: object, subject: object) -> None:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": PREDICATE_TYPE,
        "subject": subject,
        "predicate": predicate,
    }
    bundle = load_signing_key(as_pem(KEY), None, "k").sign_statement(json.dumps(statement).encode())
    settings = VerifySettings(("provenance",), (public_pem(KEY),), builder="b:*", source="s:*")
    attestation = Attestation("a", parse_statement(bundle, "b"))
    found = judge("image", Digest.of(b""), [attestation], Signers(settings, never), {})
    assert found.findings


@pytest.mark.usefixtures("job")
def test_the_payload_that_was_verified_is_the_one_that_is_judged(project: PushedProject) -> None:
    """A second `payload` in one bundle: readers differ in which of the two they take."""
    policy(project, by_workflow())
    project.ok("provenance", str(project.reference), "--sign", "-o", "signed.json")
    path = project.folder / "signed.json"
    raw = path.read_text()
    other = base64.b64encode(b'{"_type": "https://in-toto.io/Statement/v1"}').decode()
    first = raw.replace('"payload":', f'"payload":"{other}","payload":', 1)
    last = raw.replace('"payloadType":', f'"payload":"{other}","payloadType":', 1)
    for changed in (first, last):
        assert changed.count('"payload":') == 2
        path.write_text(changed)
        code, _, err = check(project, str(project.reference), "--attestation", "signed.json")
        # Whoever takes the first is refused; who takes the last reads what was signed, or is refused.
        is_signed_one = json.loads(changed)["dsseEnvelope"] == json.loads(raw)["dsseEnvelope"]
        assert code == (0 if is_signed_one else 3), err
