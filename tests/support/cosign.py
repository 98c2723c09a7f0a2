"""cosign, Sigstore's own program, as a person runs it: with a home of its own, and on registries without TLS."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.localsigstore import GITHUB, WORKFLOW, LocalSigstore
from tests.support.programs import optional_program, require_program

PASSWORD: Final = "s3cret"
_PLAIN_HTTP: Final = "--allow-http-registry"
_ON_IMAGES: Final = ("verify", "verify-attestation", "attest", "sign", "tree", "download")


@dataclass(frozen=True)
class Cosign:
    """The program, and the folder that its words are relative to."""

    program: str
    folder: Path

    @classmethod
    def find(cls, folder: Path) -> Cosign:
        """The one on PATH; without it the test skips."""
        return cls(optional_program("cosign"), folder)

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run to the end, whatever the exit code."""
        more = (_PLAIN_HTTP,) if words[0] in _ON_IMAGES else ()
        environ = {**os.environ, "HOME": str(self.folder), "COSIGN_PASSWORD": PASSWORD}
        command = [self.program, *map(str, words), *more]
        return subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)

    def ok(self, *words: object) -> str:
        """Run, and insist that it went well; its standard output."""
        done = self.run(*words)
        assert done.returncode == 0, f"cosign {' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
        return done.stdout

    def generate_key(self) -> tuple[Path, Path]:
        """A new key pair, encrypted with PASSWORD: the private and the public key's file."""
        self.ok("generate-key-pair")
        return self.folder / "cosign.key", self.folder / "cosign.pub"

    def import_key(self, curve: str) -> tuple[Path, Path]:
        """A new key on another curve than P-256, as `generate_key` returns it."""
        parameters = ["-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-out", self.folder / "key.pem"]
        command = [require_program("openssl"), "genpkey", *map(str, parameters)]
        subprocess.run(command, capture_output=True, check=True)
        self.ok("import-key-pair", "--key=key.pem", "--output-key-prefix=cosign")
        return self.folder / "cosign.key", self.folder / "cosign.pub"

    def by_key(self, key: Path) -> tuple[str, ...]:
        """What signs with a key, and enters that in no log."""
        (self.folder / "nolog.json").write_text(self.ok("signing-config", "create"))
        root = self.folder / "noroot.json"
        root.write_text('{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}')
        return (f"--key={key}", "--signing-config=nolog.json", f"--trusted-root={root}")

    def by_job(self, sigstore: LocalSigstore) -> tuple[str, ...]:
        """What signs as a workflow, by the services of a Sigstore."""
        sigstore.signing_config(self.folder / "signing.json")
        (self.folder / "token").write_text(sigstore.token())  # it takes only tokens by RSA as words
        return ("--yes", "--identity-token=token", "--signing-config=signing.json", self.trusts(sigstore))

    def from_job(self, sigstore: LocalSigstore, workflow: str = WORKFLOW) -> tuple[str, ...]:
        """What says that a workflow must have signed."""
        return (f"--certificate-identity={workflow}", f"--certificate-oidc-issuer={GITHUB}", self.trusts(sigstore))

    def trusts(self, sigstore: LocalSigstore) -> str:
        """What says whose certificates and logs count."""
        return f"--trusted-root={sigstore.write_trusted_root(self.folder / 'root.json')}"
