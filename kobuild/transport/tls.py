"""Which certificates are trusted, and which are shown: the system's store, the environment's, and the host's own."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import truststore

from kobuild.errors import UsageError
from kobuild.transport.certs import HostTls

BUNDLE_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Each names a file or folder of authorities that stands in for the system's store; the first that is set counts."""
EXTRA_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""OpenSSL's own names: where the system's store is."""


def make_context(environ: Mapping[str, str], host: HostTls | None = None) -> ssl.SSLContext:
    """A client context that verifies names and chains; raises UsageError for a named file that cannot be read."""
    bundle = next((environ[name] for name in BUNDLE_VARIABLES if environ.get(name)), None)
    context = _system_context() if bundle is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if bundle is not None:
        _load(context, Path(bundle))
    elif sys.platform != "linux":
        # There the system's own store is not OpenSSL's, and does not know OpenSSL's variables.
        for name in EXTRA_VARIABLES:
            if environ.get(name):
                _load(context, Path(environ[name]))
    for path in host.authorities if host else ():
        _load(context, path)
    for certificate, key in host.client if host else ():
        _load_client(context, certificate, key)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _system_context() -> ssl.SSLContext:
    """A context on the system's store.

    Where OpenSSL knows the store itself, it is loaded once here: truststore would read it again for each connection,
    and lets only one handshake run at a time, which a push over a slow link would feel.
    """
    paths = ssl.get_default_verify_paths()
    if sys.platform == "linux" and (paths.cafile or _has_hashed_names(paths.capath)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_default_verify_paths()
        return context
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _has_hashed_names(folder: str | None) -> bool:
    """Whether OpenSSL could find an authority in `folder`, where it looks for names such as `5ed36f99.0`."""
    if not folder:
        return False
    try:
        return any(name.endswith(".0") and len(name) == 10 for name in os.listdir(folder))
    except OSError:
        return False


def _load(context: ssl.SSLContext, path: Path) -> None:
    try:
        if path.is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"read authorities from {path}: {error}", hint="a PEM file of certificates is wanted"
        ) from error


def _load_client(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"read client certificate {certificate}: {error}") from error
