"""What can be proven of a release's files: which signatures are there, and whether they are right.

A proof is of one sha256, and that stays true; so it is made when the lock is, and kept there beside the sum. Proofs are
looked for where a tool's settings ask for them. One that is there and is wrong is an error, never taken for none.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kobuild.errors import DigestMismatch, FetchError, MissingProof, SignatureError
from kobuild.frozen import frozen
from kobuild.settings.model import ToolSettings
from kobuild.signatures import cosign, keyless, minisign, rekor
from kobuild.signatures.subject import Buffer, Subject, mapped, subject_of_bytes
from kobuild.signatures.words import printable
from kobuild.sources.attestations import find_provenance, verify_any
from kobuild.sources.checksums import MAX_CHECKSUMS_BYTES, find_sum
from kobuild.sources.download import open_artifact
from kobuild.sources.model import Artifact, Release, SourceContext, Vouched
from kobuild.sources.sidefiles import SideFile, SideFiles
from kobuild.transport import Request, redact

MINISIGN_SUFFIXES: Final = (".minisig",)
BUNDLE_SUFFIXES: Final = (".sigstore.json", ".sigstore", ".bundle", ".cosign.bundle")
COSIGN_SUFFIXES: Final = (*BUNDLE_SUFFIXES, ".sig")
CERTIFICATE_SUFFIXES: Final = (".pem", ".crt", ".cert")
_GITHUB: Final = "https://github.com"


def prove_all(
    tool: ToolSettings, release: Release, artifacts: Mapping[str, Artifact], context: SourceContext
) -> dict[str, tuple[str, ...]]:
    """What was proven of each artifact, by address; each has its sha256.

    Raises SignatureError and DigestMismatch for what is wrong, MissingProof where a required one is not there,
    FetchError where it cannot be looked for, and ProgramError where a library is missing.
    """
    if not tool.looks_for_proof:
        return {}
    prover = Prover(tool, release, context)
    return {url: prover.prove(artifact) for url, artifact in artifacts.items()}


@frozen
class _Found:
    """One signature file, and what it is beside of."""

    subject: Subject
    signed: SideFile
    place: str
    """The signature file's name."""
    data: bytes


class Prover:
    """Proves the files of one release."""

    def __init__(self, tool: ToolSettings, release: Release, context: SourceContext) -> None:
        self._tool = tool
        self._release = release
        self._context = context
        self._held: dict[str, bytes | None] = {}

    def prove(self, artifact: Artifact) -> tuple[str, ...]:
        """What was proven of one file, sorted."""
        job = _Job(self._tool, self._release, artifact, self._context, self._held)
        job.run()
        return tuple(sorted(job.proofs))


class _Job:
    """One file to be proven."""

    def __init__(
        self,
        tool: ToolSettings,
        release: Release,
        artifact: Artifact,
        context: SourceContext,
        held: dict[str, bytes | None],
    ) -> None:
        assert artifact.sha256 is not None, "proof is of a sum"  # noqa: S101
        self._tool = tool
        self._release = release
        self._artifact = artifact
        self._sha256 = artifact.sha256
        self._context = context
        self._files = SideFiles(artifact, context, held)
        self._looked_for: list[str] = []
        self.proofs: set[str] = set()

    def run(self) -> None:
        """Look for every proof that the settings ask for; raises MissingProof where the required one is not there."""
        tool = self._tool
        if tool.source.kind in ("github", "url"):
            self._check_listed()
            signed = [self._minisign(), self._cosign_key(), self._keyless()]
            if self._asks_github(any(signed)):
                signed.append(self._attested())
            if not any(signed) and (tool.looks_for_signatures or tool.attestations or tool.require == "signature"):
                self._none_found()
        if tool.require == "checksum" and self._artifact.vouched_by is Vouched.FIRST_DOWNLOAD and not self.proofs:
            raise MissingProof(
                f'{self._artifact.filename}: require = "checksum", and its publisher says no sha256 for it',
                hint='say where the sum is with checksums or sha256, or leave require = "checksum" out',
            )

    def _asks_github(self, is_signed: bool) -> bool:
        """Whether to ask for attestations: where the settings say so, or nothing else fulfils what they require."""
        tool = self._tool
        if tool.source.kind != "github" or tool.attestations is not None:
            return bool(tool.attestations)
        return tool.require == "signature" and not is_signed

    def _none_found(self) -> None:
        names = dict.fromkeys(self._looked_for)
        looked = f"looked for {', '.join(names) or 'nothing, since no signature file is listed'}"
        if self._tool.require != "signature":
            self._context.reporter.warning(f"{self._tool.name}: no signature of {self._artifact.filename}: {looked}")
            return
        raise MissingProof(
            f'{self._artifact.filename}: require = "signature", and there is none: {looked}',
            hint="see the publisher's release for how it is signed, and docs/proof.md for what is read; "
            'without require = "signature" it is taken unproven',
        )

    # Checksums files

    def _check_listed(self) -> None:
        """Note the first checksums file that lists the file; raises DigestMismatch where it lists another sum."""
        for file in self._files.checksums():
            if self._read_sums(file) is not None:
                return

    def _read_sums(self, file: SideFile) -> bytes | None:
        """A checksums file that lists the file with its sum; None for one that does not list it."""
        data = self._files.read(file, MAX_CHECKSUMS_BYTES)
        try:
            listed = find_sum(data or b"", self._artifact.filename, file.name)
        except FetchError:
            return None
        if listed != self._sha256:
            raise DigestMismatch(
                f"{self._artifact.filename}: its release says one sum, and {file.name} another",
                expected=f"sha256:{listed} ({file.name})",
                actual=f"sha256:{self._sha256}",
                hint="the file or its checksums were replaced; ask the publisher before you use it",
            )
        self.proofs.add(f"checksums:{printable(file.name) or 'unnamed'}")
        return data

    # Signature files

    def _find(self, suffixes: tuple[str, ...], limit_bytes: int) -> Iterator[_Found]:
        """Signature files beside checksums files that list the file, then those beside the file itself."""
        for file in (*self._files.checksums(), self._files.own()):
            for suffix in suffixes:
                beside = self._files.beside(file, suffix)
                if beside is None:
                    continue
                self._looked_for.append(beside.name)
                data = self._files.read(beside, limit_bytes)
                subject = self._subject(file) if data is not None else None
                if data is not None and subject is not None:
                    yield _Found(subject, file, beside.name, data)

    def _subject(self, file: SideFile) -> Subject | None:
        """What the signature beside `file` is about; None for a checksums file that says nothing of our file."""
        if file == self._files.own():
            return Subject(file.name, self._sha256, self._content)
        data = self._read_sums(file)
        return subject_of_bytes(file.name, data) if data is not None else None

    @contextmanager
    def _content(self) -> Iterator[Buffer]:
        """The file's own bytes; it is downloaded for this, and the build then finds it in the cache."""
        with open_artifact(self._artifact, self._context) as opened, mapped(opened.path()) as content:
            yield content

    def _minisign(self) -> bool:
        if not self._tool.minisign_keys:
            return False
        keys = [minisign.parse_public_key(key) for key in self._tool.minisign_keys]
        for found in self._find(MINISIGN_SUFFIXES, minisign.MAX_SIGNATURE_BYTES):
            signature = minisign.parse_signature(found.data, found.place)
            key = minisign.verify(signature, keys, found.subject, found.place)
            name = printable(signature.signed_name.rpartition("/")[2])
            if name and name != found.subject.name:
                self._context.reporter.warning(f"{found.place}: {found.subject.name} was signed under the name {name}")
            self.proofs.add(f"minisign:{key.key_id}")
            return True
        return False

    def _cosign_key(self) -> bool:
        if not self._tool.cosign_key:
            return False
        key = cosign.parse_public_key(self._tool.cosign_key)
        for found in self._find(COSIGN_SUFFIXES, cosign.MAX_SIGNATURE_BYTES):
            blob = cosign.parse_signature(found.data, found.place)
            if not blob.is_statement:
                cosign.verify_with_key(blob.signature, key, found.subject, found.place)
                self.proofs.add(f"cosign:{cosign.key_name(key)}")
                return True
        return False

    def _keyless(self) -> bool:
        signer = self._signer()
        if signer is None:
            return False
        for found in self._find(COSIGN_SUFFIXES, cosign.MAX_SIGNATURE_BYTES):
            identity = self._verify_keyless(found, signer)
            if identity is not None:
                self.proofs.add(f"sigstore:{identity}")
                return True
        return False

    def _signer(self) -> keyless.Signer | None:
        """Who may sign without a key; None where nobody may."""
        tool = self._tool
        if tool.identity:
            return keyless.Signer(self._filled(tool.identity), tool.issuer or keyless.GITHUB_ISSUER)
        if tool.source.kind == "github" and tool.require == "signature" and not tool.looks_for_signatures:
            return self._own_workflows()
        return None

    def _own_workflows(self) -> keyless.Signer:
        repository = f"{_GITHUB}/{self._tool.source.argument}"
        return keyless.Signer(f"{repository}/.github/workflows/*", keyless.GITHUB_ISSUER, repository)

    def _filled(self, identity: str) -> str:
        """The identity with the release's names, in which a star would stand for anything; raises SignatureError."""
        if "*" in self._release.version + self._release.tag:
            raise SignatureError(f"{self._tool.name}: the tag {self._release.tag!r} cannot stand in an identity")
        return identity.replace("{version}", self._release.version).replace("{tag}", self._release.tag)

    def _verify_keyless(self, found: _Found, signer: keyless.Signer) -> str | None:
        """The identity that signed; None where the file is one that a key signed, or of another program's."""
        certificate = ""
        if not found.data.lstrip().startswith(b"{"):
            # PGP's signatures have the same suffix, but no certificate beside them.
            certificate = self._certificate(found.signed) if found.place.endswith(".sig") else ""
            if not certificate:
                return None
        blob = cosign.parse_signature(found.data, found.place)
        sha256, certificate = found.subject.sha256, blob.certificate or certificate
        if not blob.bundle and not certificate:
            return None
        if blob.is_statement:
            return keyless.verify_statement(self._trust(), blob.bundle, sha256, signer, found.place)
        if blob.bundle:
            return keyless.verify_blob(self._trust(), blob.bundle, sha256, signer, found.place)
        trust = self._trust()
        bundle = self._look_up(trust, sha256, blob.signature, certificate, found.place)
        return keyless.verify_blob(trust, bundle, sha256, signer, found.place)

    def _certificate(self, signed: SideFile) -> str:
        """The certificate beside a signature, as PEM; empty where there is none."""
        for suffix in CERTIFICATE_SUFFIXES:
            beside = self._files.beside(signed, suffix)
            data = self._files.read(beside, cosign.MAX_SIGNATURE_BYTES) if beside is not None else None
            if beside is not None and data is not None:
                return cosign.parse_certificate(data, beside.name)
        return ""

    def _look_up(self, trust: keyless.Trust, sha256: str, signature: bytes, certificate: str, place: str) -> bytes:
        """The bundle of a signature and its certificate, with what the log has of them."""
        url = f"{trust.rekor_url}/api/v1/log/entries/retrieve"
        self._context.require_network(url)
        question = rekor.entry_request(sha256, signature, certificate)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        with self._context.transport.send(Request("POST", url, headers, question)) as response:
            answer = response.read_all(rekor.MAX_ANSWER_BYTES)
        bundle = rekor.bundle_from(answer, sha256, signature, certificate, f"POST {redact(url)}")
        if bundle is None:
            raise SignatureError(
                f"{place}: the transparency log has no such signature, so nothing says that it was made in time"
            )
        return bundle

    # Attestations

    def _attested(self) -> bool:
        repository = self._tool.source.argument
        place = f"attestation of {self._artifact.filename} by github:{repository}"
        self._looked_for.append(f"GitHub's {place}")
        bundles = find_provenance(repository, self._sha256, self._context)
        identity = verify_any(bundles, self._trust, self._sha256, self._attester(), place)
        if identity is None:
            return False
        self.proofs.add(f"github-attestation:{identity}")
        return True

    def _attester(self) -> keyless.Signer:
        """Who may attest: whom the settings name, but always for this repository where GitHub vouches."""
        own = self._own_workflows()
        if not self._tool.identity:
            return own
        issuer = self._tool.issuer or keyless.GITHUB_ISSUER
        repository = own.repository if issuer == keyless.GITHUB_ISSUER else ""
        return keyless.Signer(self._filled(self._tool.identity), issuer, repository)

    def _trust(self) -> keyless.Trust:
        context = self._context
        root = keyless.root_file(context.environ, context.settings.trusted_root, context.folder)
        with _trust_lock:
            return _load_trust(root, context.offline)


_trust_lock: Final = threading.Lock()


@functools.lru_cache(maxsize=8)
def _load_trust(root: Path | None, offline: bool) -> keyless.Trust:
    """Once a process: the public one is fetched."""
    return keyless.load_trust(root, offline=offline)
