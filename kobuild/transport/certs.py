"""Certificates for single hosts: `certs.d` folders.

They are laid out as Docker (docs.docker.com, "Use CA certificates with Docker Engine") and containers
(containers-certs.d(5)) have it:

    DIR/HOST[:PORT]/*.crt           authorities to trust for that registry, beside the system's own
    DIR/HOST[:PORT]/NAME.cert       a client certificate, with its key in NAME.key
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from kobuild.errors import UsageError
from kobuild.frozen import frozen


@frozen
class HostTls:
    """What one host needs beside the system's store."""

    authorities: tuple[Path, ...] = ()
    """PEM files of authorities."""
    client: tuple[tuple[Path, Path], ...] = ()
    """Pairs of client certificate and key, PEM."""


def certs_folders(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The `certs.d` folders, those of the user before those of the system."""
    home = Path(environ.get("HOME") or Path.home())
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return (
        config / "containers" / "certs.d",
        config / "docker" / "certs.d",
        Path("/etc/containers/certs.d"),
        Path("/etc/docker/certs.d"),
    )


def find_host_tls(host: str, folders: Iterable[Path]) -> HostTls | None:
    """What `host[:port]` needs, from the first folder that has a directory of that name; None where none has.

    Raises UsageError for a client certificate without its key.
    """
    for folder in folders:
        place = folder / host
        try:
            names = sorted(place.iterdir())
        except OSError:
            continue
        authorities = tuple(path for path in names if path.suffix == ".crt")
        certificates = [path for path in names if path.suffix == ".cert"]
        return HostTls(authorities, tuple((path, _key_of(path)) for path in certificates))
    return None


def _key_of(certificate: Path) -> Path:
    key = certificate.with_suffix(".key")
    if not key.is_file():
        raise UsageError(
            f"read client certificate {certificate}: its key {key.name} is missing",
            hint="a client certificate NAME.cert stands beside its key NAME.key",
        )
    return key
