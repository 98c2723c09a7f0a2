"""Certificates for tests, made by the openssl program: an authority, a server's and a client's."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import require_program


@dataclass(frozen=True)
class Authority:
    """An authority's certificate and key, PEM."""

    certificate: Path
    key: Path

    def issue(self, name: str, *, extensions: str = "subjectAltName=IP:127.0.0.1,DNS:localhost") -> tuple[Path, Path]:
        """A certificate and its key, signed by this authority."""
        folder = self.certificate.parent
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        request, details = folder / f"{name}.csr", folder / f"{name}.ext"
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        details.write_text(extensions)
        signer = ("-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial")
        _openssl("x509", "-req", "-in", request, *signer, "-days", "2", "-extfile", details, "-out", certificate)
        return certificate, key


def make_authority(folder: Path) -> Authority:
    """A new authority in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "authority.key", folder / "authority.pem"
    options = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=kobuild test authority")
    _openssl("req", *options, "-keyout", key, "-out", certificate)
    return Authority(certificate, key)


def _openssl(*arguments: str | Path) -> None:
    command = [require_program("openssl"), *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)
