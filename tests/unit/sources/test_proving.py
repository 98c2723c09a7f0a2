"""What is proven of a release's files, through a real server: which signature is found, and which is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from kobuild.errors import DigestMismatch, FetchError, MissingProof, ProgramError, RateLimited, SignatureError
from kobuild.oci.platforms import Platform
from kobuild.settings.model import SourceSpec, ToolSettings
from kobuild.signatures import libraries
from kobuild.sources.catalog import open_source
from kobuild.sources.model import SourceContext
from kobuild.sources.proving import prove_all
from tests.support.recorders import RecordingReporter
from tests.support.signers import CosignSigner, MinisignSigner, Sigstore, Workload, b64
from tests.support.upstream import Fault, Upstream
from tests.unit.sources.conftest import MakeContext

AMD64 = Platform("linux", "amd64")
REPOSITORY = "ko-build/ko"
NAME = "ko_1.0_Linux_x86_64.tar.gz"
ARCHIVE = b"an archive of ko"
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
SUMS = f"{SHA256}  {NAME}\n{'0' * 64}  other.tar.gz\n".encode()
MINISIGN, COSIGN = MinisignSigner(), CosignSigner()
OWN = Workload.of(REPOSITORY, ref="refs/tags/v1.0")
KO = ToolSettings("ko", SourceSpec("github", REPOSITORY), "v1.0")
SIGNED = dataclasses.replace(KO, require="signature")


@pytest.fixture(scope="module")
def sigstore() -> Sigstore:
    return Sigstore()


@pytest.fixture
def trusting(make_context: MakeContext, sigstore: Sigstore, tmp_path: Path, upstream: Upstream) -> SourceContext:
    """A context whose trusted root is the private Sigstore's, with its log at the server."""
    sigstore.rekor_url = upstream.url
    path = sigstore.write_trusted_root(tmp_path / "trusted_root.json")
    return make_context(environ={"KOBUILD_TRUSTED_ROOT": str(path), "GITHUB_TOKEN": "", "KOBUILD_GITHUB_TOKEN": ""})


def publish(upstream: Upstream, beside: Mapping[str, bytes], *, digests: bool = True) -> None:
    upstream.add_github_release(REPOSITORY, "v1.0", {NAME: ARCHIVE, **beside}, digests=digests)


def prove(tool: ToolSettings, context: SourceContext) -> tuple[str, ...]:
    release = open_source(tool, context).resolve(tool, (AMD64,))
    artifact = dataclasses.replace(release.artifacts[AMD64], sha256=SHA256, size=len(ARCHIVE))
    return prove_all(tool, release, {artifact.url: artifact}, context).get(artifact.url, ())


def with_key(tool: ToolSettings = KO, **keys: Any) -> ToolSettings:
    return dataclasses.replace(tool, **keys)


BY_MINISIGN = with_key(minisign_keys=(MINISIGN.public,))
BY_COSIGN = with_key(cosign_key=COSIGN.pem)
BY_IDENTITY = with_key(identity=OWN.identity.replace("v1.0", "{tag}"))


def test_nothing_is_asked_for_by_itself(upstream: Upstream, context: SourceContext) -> None:
    publish(upstream, {"SHA256SUMS": b"wrong", "SHA256SUMS.minisig": b"wrong", f"{NAME}.sigstore.json": b"wrong"})
    assert prove(KO, context) == ()
    assert upstream.count("/releases/download/") == 0


def test_a_required_sum_is_also_looked_up_in_the_releases_checksums(upstream: Upstream, context: SourceContext) -> None:
    required = with_key(require="checksum")
    publish(upstream, {"notes.txt": b""})
    assert prove(required, context) == ()  # GitHub's own listing has it
    publish(upstream, {"SHA256SUMS": SUMS})
    assert prove(required, context) == ("checksums:SHA256SUMS",)
    publish(upstream, {"SHA256SUMS": SUMS.replace(SHA256[:8].encode(), b"00000000")})
    with pytest.raises(DigestMismatch, match=r"SHA256SUMS another: expected sha256:0{8}.* got sha256:") as caught:
        prove(required, context)
    assert "were replaced" in (caught.value.hint or "")
    publish(upstream, {}, digests=False)
    with pytest.raises(MissingProof, match='require = "checksum", and its publisher says no sha256'):
        prove(required, context)


@pytest.mark.parametrize("prehashed", [True, False])
def test_minisign_beside_the_checksums_and_beside_the_file(
    upstream: Upstream, context: SourceContext, prehashed: bool
) -> None:
    signature = MINISIGN.sign(SUMS, "file:SHA256SUMS", prehashed=prehashed)
    publish(upstream, {"SHA256SUMS": SUMS, "SHA256SUMS.minisig": signature, f"{NAME}.minisig": b"not looked at"})
    assert prove(BY_MINISIGN, context) == ("checksums:SHA256SUMS", f"minisign:{MINISIGN.name}")
    assert upstream.count(f"/{NAME}") == 0
    publish(upstream, {f"{NAME}.minisig": MINISIGN.sign(ARCHIVE, f"file:{NAME}", prehashed=prehashed)})
    assert prove(BY_MINISIGN, context) == (f"minisign:{MINISIGN.name}",)
    assert upstream.count(f"/{NAME}") == 2  # the signature, and the file itself, once
    assert prove(BY_MINISIGN, context) == (f"minisign:{MINISIGN.name}",)
    assert upstream.count(f"/{NAME}") == 3


def test_the_one_checksums_file_that_is_signed_is_found(upstream: Upstream, context: SourceContext) -> None:
    own = f"{SHA256}\n".encode()
    publish(
        upstream,
        {
            f"{NAME}.sha256": own,
            "checksums.txt": f"{'0' * 64}  other.tar.gz\n".encode(),
            "checksums.txt.minisig": MinisignSigner().sign(b"of other files"),
            "SHA256SUMS": SUMS,
            "SHA256SUMS.minisig": MINISIGN.sign(SUMS),
        },
    )
    proofs = prove(BY_MINISIGN, context)
    assert proofs == ("checksums:SHA256SUMS", f"checksums:{NAME}.sha256", f"minisign:{MINISIGN.name}")


def test_a_file_that_was_signed_under_another_name_is_told(
    upstream: Upstream, context: SourceContext, reporter: RecordingReporter
) -> None:
    publish(upstream, {f"{NAME}.minisig": MINISIGN.sign(ARCHIVE, "timestamp:1\tfile:ko_0.9.tar.gz")})
    assert prove(BY_MINISIGN, context) == (f"minisign:{MINISIGN.name}",)
    assert reporter.warnings == [f"{NAME}.minisig: {NAME} was signed under the name ko_0.9.tar.gz"]


@pytest.mark.parametrize("suffix", [".sig", ".sigstore.json", ".bundle"])
def test_cosign_with_a_key(upstream: Upstream, context: SourceContext, suffix: str) -> None:
    make = COSIGN.sign if suffix == ".sig" else COSIGN.bundle
    publish(upstream, {"checksums.txt": SUMS, f"checksums.txt{suffix}": make(SUMS)})
    assert prove(BY_COSIGN, context) == ("checksums:checksums.txt", f"cosign:{COSIGN.name}")
    publish(upstream, {NAME + suffix: make(ARCHIVE)})
    assert prove(BY_COSIGN, context) == (f"cosign:{COSIGN.name}",)
    assert upstream.count(f"/{NAME}?") == 0  # its sum is enough
    publish(upstream, {NAME + suffix: make(b"another file")})
    with pytest.raises(SignatureError, match="no signature of ko_"):
        prove(BY_COSIGN, context)


def test_a_signature_without_a_key(upstream: Upstream, trusting: SourceContext, sigstore: Sigstore) -> None:
    publish(upstream, {f"{NAME}.sigstore.json": sigstore.sign(ARCHIVE, OWN).json()})
    assert prove(BY_IDENTITY, trusting) == (f"sigstore:{OWN.identity}",)
    assert prove(SIGNED, trusting) == (f"sigstore:{OWN.identity}",)
    publish(upstream, {f"{NAME}.sigstore.json": sigstore.attest(SHA256, OWN).json()})
    assert prove(BY_IDENTITY, trusting) == (f"sigstore:{OWN.identity}",)
    with pytest.raises(SignatureError, match=r"and expected is https://github\.com/other/repository"):
        prove(with_key(identity="https://github.com/other/repository/*"), trusting)


@pytest.mark.parametrize("form", ["pem", "base64", "bundle", "old"])
def test_a_signature_with_its_certificate_is_found_in_the_log(
    upstream: Upstream, trusting: SourceContext, sigstore: Sigstore, form: str
) -> None:
    signed = sigstore.sign(SUMS, OWN)
    certificate = signed.pem if form == "pem" else b64(signed.pem).encode()
    beside = {"SHA256SUMS.sig": b64(signed.signature).encode(), "SHA256SUMS.pem": certificate}
    if form == "bundle":
        beside = {"SHA256SUMS.bundle": signed.cosign_bundle()}
    if form == "old":
        beside = {"SHA256SUMS.sigstore": signed.old_bundle()}
    publish(upstream, {"SHA256SUMS": SUMS, **beside})
    with pytest.raises(SignatureError, match="the transparency log has no such signature"):
        prove(BY_IDENTITY, trusting)
    upstream.add_log_entry(signed.entry)
    assert prove(BY_IDENTITY, trusting) == ("checksums:SHA256SUMS", f"sigstore:{OWN.identity}")
    with pytest.raises(FetchError, match="--offline forbids the network"):
        prove(BY_IDENTITY, dataclasses.replace(trusting, offline=True))


def test_what_other_programs_sign_is_passed_over(
    upstream: Upstream, trusting: SourceContext, sigstore: Sigstore
) -> None:
    """A repository may have PGP's signatures, git's bundles and key-signed files, and attest as well."""
    beside = {f"{NAME}.sig": b"\x89\x01\x33\x04\x00", f"{NAME}.bundle": b"# v2 git bundle\n"}
    publish(upstream, {**beside, "SHA256SUMS": SUMS, "SHA256SUMS.sig": COSIGN.sign(SUMS)})
    upstream.add_attestation(REPOSITORY, SHA256, {"bundle": sigstore.attest(SHA256, OWN).bundle()})
    assert prove(SIGNED, trusting) == ("checksums:SHA256SUMS", f"github-attestation:{OWN.identity}")
    publish(upstream, {**beside, "SHA256SUMS": SUMS, "SHA256SUMS.sigstore.json": COSIGN.bundle(SUMS)})
    assert prove(SIGNED, trusting) == ("checksums:SHA256SUMS", f"github-attestation:{OWN.identity}")
    publish(upstream, {**beside, "SHA256SUMS": SUMS, "SHA256SUMS.sig": COSIGN.sign(SUMS)})
    assert prove(BY_COSIGN, trusting) == ("checksums:SHA256SUMS", f"cosign:{COSIGN.name}")
    publish(upstream, beside)
    with pytest.raises(SignatureError, match="not a signature of cosign"):
        prove(BY_COSIGN, trusting)


def test_githubs_attestations(upstream: Upstream, trusting: SourceContext, sigstore: Sigstore) -> None:
    publish(upstream, {})
    with pytest.raises(
        MissingProof, match=f"looked for GitHub's attestation of {NAME} by github:ko-build/ko"
    ) as caught:
        prove(SIGNED, trusting)
    assert "docs/proof.md" in (caught.value.hint or "")
    sbom = sigstore.attest(SHA256, OWN, predicate="https://spdx.dev/Document/v2.3").bundle()
    upstream.add_attestation(REPOSITORY, SHA256, {"bundle": sbom})
    with pytest.raises(MissingProof):
        prove(SIGNED, trusting)
    upstream.add_attestation(REPOSITORY, SHA256, {"bundle": Sigstore().attest(SHA256, OWN).bundle()})
    with pytest.raises(SignatureError, match=f"attestation of {NAME} by github:ko-build/ko: not a signature that can"):
        prove(SIGNED, trusting)
    upstream.add_attestation(REPOSITORY, SHA256, {"bundle": sigstore.attest(SHA256, OWN).bundle()})
    assert prove(SIGNED, trusting) == (f"github-attestation:{OWN.identity}",)
    assert prove(with_key(attestations=True), trusting) == (f"github-attestation:{OWN.identity}",)
    (request,) = upstream.logged("/attestations/")[-1:]
    assert request.path.endswith(
        f"/repos/{REPOSITORY}/attestations/sha256:{SHA256}?per_page=30&predicate_type=provenance"
    )


def test_all_pages_of_attestations_are_read_until_one_is_good(
    upstream: Upstream, trusting: SourceContext, sigstore: Sigstore
) -> None:
    publish(upstream, {})
    upstream.page_size = 2
    foreign = Sigstore().attest(SHA256, OWN).bundle()
    for bundle in (foreign, foreign, foreign, foreign, sigstore.attest(SHA256, OWN).bundle(), foreign, foreign):
        upstream.add_attestation(REPOSITORY, SHA256, {"bundle": bundle})
    environ = {**trusting.environ, "KOBUILD_GITHUB_TOKEN": "a-token"}
    assert prove(SIGNED, dataclasses.replace(trusting, environ=environ)) == (f"github-attestation:{OWN.identity}",)
    asked = upstream.logged("/attestations/")
    assert [request.path.partition("&after=")[2] for request in asked] == ["", "opaque%3D2", "opaque%3D4"]
    assert {request.headers.get("authorization") for request in asked} == {"Bearer a-token"}


def test_pages_of_attestations_have_an_end(upstream: Upstream, trusting: SourceContext, sigstore: Sigstore) -> None:
    publish(upstream, {})
    upstream.page_size = 1
    other = sigstore.attest(SHA256, OWN, predicate="https://spdx.dev/Document/v2.3").bundle()
    for _ in range(11):
        upstream.add_attestation(REPOSITORY, SHA256, {"bundle": other})
    with pytest.raises(FetchError, match="more than 10 pages of attestations of one file"):
        prove(SIGNED, trusting)
    assert upstream.count("/attestations/") == 10


@pytest.mark.parametrize(
    "entry", [{}, {"bundle": None}, {"bundle": {}}, {"bundle": {"dsseEnvelope": {"payload": "e30="}}}]
)
def test_an_attestation_that_is_broken_is_no_missing_one(
    upstream: Upstream, trusting: SourceContext, entry: dict[str, Any]
) -> None:
    publish(upstream, {})
    upstream.add_attestation(REPOSITORY, SHA256, entry)
    with pytest.raises(SignatureError, match=f"attestation of .*{REPOSITORY}: "):
        prove(with_key(attestations=True), trusting)


def test_a_tag_cannot_widen_an_identity(upstream: Upstream, trusting: SourceContext, sigstore: Sigstore) -> None:
    signed = sigstore.sign(ARCHIVE, OWN)
    publish(upstream, {f"{NAME}.sigstore.json": signed.json()})
    release = dataclasses.replace(open_source(KO, trusting).resolve(KO, (AMD64,)), tag="*1.0")
    artifact = dataclasses.replace(release.artifacts[AMD64], sha256=SHA256)
    with pytest.raises(SignatureError, match=r"the tag '\*1\.0' cannot stand in an identity"):
        prove_all(BY_IDENTITY, release, {artifact.url: artifact}, trusting)


def test_attestations_that_lie_elsewhere(upstream: Upstream, trusting: SourceContext, sigstore: Sigstore) -> None:
    publish(upstream, {})
    bundle = sigstore.attest(SHA256, OWN).json()
    size, length = len(bundle), len(bundle) - 1
    assert 0x4000 > size > 0x100
    packed = bytes([size & 0x7F | 0x80, size >> 7, 61 << 2]) + length.to_bytes(2, "little") + bundle
    url = upstream.add_file("/bundles/1.json.sn", packed, "application/x-snappy")
    upstream.add_attestation(REPOSITORY, SHA256, {"bundle": None, "bundle_url": url})
    environ = {**trusting.environ, "KOBUILD_GITHUB_TOKEN": "a-token"}
    assert prove(SIGNED, dataclasses.replace(trusting, environ=environ)) == (f"github-attestation:{OWN.identity}",)
    assert "authorization" in upstream.logged("/attestations/")[0].headers
    assert "authorization" not in upstream.logged("/bundles/")[0].headers


def test_attestations_of_other_files_and_repositories(
    upstream: Upstream, trusting: SourceContext, sigstore: Sigstore
) -> None:
    publish(upstream, {})
    upstream.add_attestation(REPOSITORY, SHA256, {"bundle": sigstore.attest("0" * 64, OWN).bundle()})
    with pytest.raises(SignatureError, match="the statement is about other files"):
        prove(SIGNED, trusting)
    fork = Workload.of("evil/ko")
    upstream.add_attestation(REPOSITORY, SHA256, {"bundle": sigstore.attest(SHA256, fork).bundle()})
    with pytest.raises(SignatureError, match=r"\(and 1 more\)"):
        prove(SIGNED, trusting)
    lent = dataclasses.replace(OWN, repository=fork.repository)
    by_name = with_key(SIGNED, identity="https://github.com/*")
    upstream.add_attestation(REPOSITORY, SHA256, {"bundle": sigstore.attest(SHA256, lent).bundle()})
    with pytest.raises(SignatureError, match=r"\(and 2 more\)"):
        prove(by_name, trusting)
    shared = Workload("https://github.com/slsa/builder/.github/workflows/b.yml@v1", repository=OWN.repository)
    upstream.add_attestation(REPOSITORY, SHA256, {"bundle": sigstore.attest(SHA256, shared).bundle()})
    assert prove(by_name, trusting) == (f"github-attestation:{shared.identity}",)


@pytest.mark.parametrize("reset", ["", "1767323045", "9" * 30, "\u00b2"])
def test_a_used_up_rate_limit_is_no_missing_attestation(
    upstream: Upstream, trusting: SourceContext, reset: str
) -> None:
    publish(upstream, {})
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    upstream.fail("/attestations/", Fault(status=403, headers=headers))
    with pytest.raises(RateLimited):
        prove(SIGNED, trusting)


def test_a_signature_that_cannot_be_fetched_is_no_missing_one(upstream: Upstream, context: SourceContext) -> None:
    publish(upstream, {f"{NAME}.minisig": MINISIGN.sign(ARCHIVE)})
    upstream.fail(f"{NAME}.minisig", Fault(status=404, times=9))
    with pytest.raises(FetchError, match="404"):
        prove(BY_MINISIGN, context)


def test_a_signature_without_end(upstream: Upstream, context: SourceContext) -> None:
    publish(upstream, {f"{NAME}.minisig": b"untrusted comment: " * 10_000})
    with pytest.raises(Exception, match="32768"):
        prove(BY_MINISIGN, context)


def test_none_found_is_a_warning_or_an_error(
    upstream: Upstream, context: SourceContext, reporter: RecordingReporter
) -> None:
    publish(upstream, {"SHA256SUMS": SUMS})
    assert prove(BY_MINISIGN, context) == ("checksums:SHA256SUMS",)
    assert reporter.warnings == [
        f"ko: no signature of {NAME}: looked for nothing, since no signature file is listed",
    ]
    with pytest.raises(MissingProof, match='require = "signature", and there is none'):
        prove(with_key(BY_MINISIGN, require="signature", attestations=False), context)


def test_a_private_repositorys_signatures_come_through_the_api(upstream: Upstream, make_context: MakeContext) -> None:
    publish(upstream, {f"{NAME}.sig": COSIGN.sign(ARCHIVE)})
    upstream.make_private(REPOSITORY)
    assert prove(BY_COSIGN, make_context(environ={"GITHUB_TOKEN": "a-token"})) == (f"cosign:{COSIGN.name}",)


# By address


def by_address(upstream: Upstream, **keys: Any) -> ToolSettings:
    address = f"{upstream.url}/files/{{version}}/tool.tar.gz?download=1"
    return ToolSettings("tool", SourceSpec("url", address), "1.0", **keys)


def test_signatures_by_address(upstream: Upstream, context: SourceContext) -> None:
    upstream.add_file("/files/1.0/tool.tar.gz", ARCHIVE)
    tool = by_address(upstream, minisign_keys=(MINISIGN.public,), require="signature")
    with pytest.raises(MissingProof, match=r"looked for tool\.tar\.gz\.minisig"):
        prove(tool, context)
    upstream.add_file("/files/1.0/tool.tar.gz.minisig", MINISIGN.sign(ARCHIVE))
    assert prove(tool, context) == (f"minisign:{MINISIGN.name}",)
    assert upstream.logged(".minisig")[-1].path == "/files/1.0/tool.tar.gz.minisig?download=1"
    upstream.fail(".minisig", Fault(status=500, times=9))
    with pytest.raises(FetchError, match="500"):
        prove(tool, context)


def test_signatures_of_checksums_by_address(upstream: Upstream, context: SourceContext) -> None:
    sums = upstream.add_file("/files/SUMS.txt", f"{SHA256}  tool.tar.gz\n".encode())
    upstream.add_file("/files/SUMS.txt.minisig", MINISIGN.sign(f"{SHA256}  tool.tar.gz\n".encode()))
    tool = by_address(upstream, minisign_keys=(MINISIGN.public,), checksums=sums)
    assert prove(tool, context) == ("checksums:SUMS.txt", f"minisign:{MINISIGN.name}")
    other = dataclasses.replace(tool, minisign_keys=(MinisignSigner(b"another1").public,))
    with pytest.raises(SignatureError, match=r"^SUMS\.txt\.minisig: signed with the key"):
        prove(other, context)


@pytest.mark.parametrize(("path", "name"), [("/sums/a%0Ab%1B.txt", "a?b?.txt"), ("/sums/", "unnamed")])
def test_names_from_outside_are_fit_for_the_lock(
    upstream: Upstream, context: SourceContext, path: str, name: str
) -> None:
    upstream.add_file(unquote(path), f"{SHA256}  tool.tar.gz\n".encode())
    tool = by_address(upstream, checksums=upstream.url + path, require="checksum")
    assert prove(tool, context) == (f"checksums:{name}",)


def test_a_missing_library_is_named(
    upstream: Upstream, trusting: SourceContext, sigstore: Sigstore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys  # noqa: PLC0415

    publish(upstream, {f"{NAME}.sig": COSIGN.sign(ARCHIVE), f"{NAME}.minisig": MINISIGN.sign(ARCHIVE)})
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    for tool in (BY_MINISIGN, BY_COSIGN):
        with pytest.raises(ProgramError, match="the library cryptography is not installed") as caught:
            prove(tool, trusting)
        assert "'kobuild[proof]'" in (caught.value.hint or "")
    monkeypatch.setitem(sys.modules, "sigstore.errors", None)
    upstream.add_attestation(REPOSITORY, SHA256, {"bundle": sigstore.attest(SHA256, OWN).bundle()})
    publish(upstream, {})
    from kobuild.sources import proving  # noqa: PLC0415

    proving._load_trust.cache_clear()
    with pytest.raises(ProgramError, match="the library sigstore is not installed") as caught:
        prove(SIGNED, trusting)
    assert f"'kobuild[{libraries.SIGN_EXTRA}]'" in (caught.value.hint or "")


def test_the_settings_name_the_trusted_root_too(
    upstream: Upstream, trusting: SourceContext, sigstore: Sigstore
) -> None:
    publish(upstream, {f"{NAME}.sigstore.json": sigstore.sign(ARCHIVE, OWN).json()})
    sigstore.write_trusted_root(trusting.folder / "root.json")
    settings = dataclasses.replace(trusting.settings, trusted_root="root.json")
    environ = {**trusting.environ, "KOBUILD_TRUSTED_ROOT": ""}
    assert prove(SIGNED, dataclasses.replace(trusting, settings=settings, environ=environ))
    (trusting.folder / "other.json").write_text(json.dumps({}))
    settings = dataclasses.replace(settings, trusted_root="other.json")
    with pytest.raises(SignatureError, match=r"other\.json"):
        prove(SIGNED, dataclasses.replace(trusting, settings=settings, environ=environ))
