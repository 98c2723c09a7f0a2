"""Signing without a key, by Sigstore: a token says who we are, a short certificate repeats it, a log keeps it.

The `sigstore` library does all of it; here is where the token comes from, and what a failure means.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kobuild.errors import ProgramError, SignatureError
from kobuild.signatures.keyless import MAX_ROOT_BYTES
from kobuild.signatures.libraries import SIGN_EXTRA, missing_library

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig

SignStatement = Callable[[bytes], bytes]
"""Makes a bundle of a statement."""
TOKEN_VARIABLE: Final = "SIGSTORE_ID_TOKEN"  # noqa: S105  # the variable's name, which cosign and GitLab know too
_NO_TOKEN: Final = (
    "in a job on GitHub give it `permissions: id-token: write`; elsewhere put a token into "
    f"{TOKEN_VARIABLE}, or sign with --key"
)


@contextmanager
def keyless_signing(config: Path | None, environ: Mapping[str, str], *, offline: bool) -> Iterator[SignStatement]:
    """A way to sign statements as whoever this process is, by the services of `config` or the public ones.

    `config` is a client's trust configuration; a trusted root alone does not say where to sign. One certificate serves
    all statements. Raises SignatureError, and ProgramError where the library is missing.
    """
    try:
        from sigstore.dsse import Statement  # noqa: PLC0415  # an extra, and slow to import
        from sigstore.sign import SigningContext  # noqa: PLC0415
    except ImportError as error:
        raise missing_library("sigstore", SIGN_EXTRA, error, "sign") from error
    trust = _load_config(config, offline=offline)
    token = _find_token(environ)
    with contextlib.ExitStack() as stack:
        with _told("get a certificate"):
            signer = stack.enter_context(SigningContext.from_trust_config(trust).signer(token))

        def sign(payload: bytes) -> bytes:
            with _told("sign the statement"):
                return signer.sign_dsse(Statement(payload)).to_json().encode()

        yield sign


def _load_config(config: Path | None, *, offline: bool) -> ClientTrustConfig:
    from sigstore.models import ClientTrustConfig  # noqa: PLC0415

    with _told("read where to sign"):
        if config is None:
            return ClientTrustConfig.production(offline=offline)
        with config.open("rb") as file:
            data = file.read(MAX_ROOT_BYTES)
        return ClientTrustConfig.from_json(data.decode())


def _find_token(environ: Mapping[str, str]) -> Any:
    """Who we are: the token that was given, else that of the job that we are."""
    from sigstore.oidc import IdentityError, IdentityToken, detect_credential  # noqa: PLC0415

    try:
        raw = environ.get(TOKEN_VARIABLE) or detect_credential()
        if raw is None:
            raise ProgramError("sign: nothing says who signs", hint=_NO_TOKEN)
        return IdentityToken(raw)
    except IdentityError as error:
        # Its message may hold the token itself.
        what = f"the token in {TOKEN_VARIABLE}" if environ.get(TOKEN_VARIABLE) else "the token of this job"
        raise SignatureError(f"sign: {what} cannot be had or used, or has expired", hint=_NO_TOKEN) from error


@contextmanager
def _told(action: str) -> Iterator[None]:
    """Turn whatever the library and its services say into one error; it documents no common one."""
    try:
        yield
    except ProgramError:
        raise
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        hint = "Sigstore's services must be reached from here; [sources] trusted-root may name a site's own"
        raise SignatureError(f"{action}: {reason[:300]}", hint=hint) from error
