"""Signatures without a key, by Sigstore: a certificate says who signed, and a log that it was while it was valid.

Everything is verified by the `sigstore` library; here is who may sign, and which statement is taken.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kobuild.errors import SignatureError
from kobuild.frozen import frozen
from kobuild.signatures.dsse import MAX_BUNDLE_BYTES, PAYLOAD_TYPE, STATEMENT_TYPES
from kobuild.signatures.libraries import SIGN_EXTRA, missing_library
from kobuild.signatures.words import printable

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import Bundle
    from sigstore.verify import Verifier

GITHUB_ISSUER: Final = "https://token.actions.githubusercontent.com"
ROOT_VARIABLE: Final = "KOBUILD_TRUSTED_ROOT"
"""Names a file that says whose certificates and logs count; a client's configuration also says where to sign."""
PUBLIC_REKOR: Final = "https://rekor.sigstore.dev"
PROVENANCE: Final = "https://slsa.dev/provenance/"
"""What the type of a statement about a build begins with."""
MAX_ROOT_BYTES: Final = 4 * 1024 * 1024
# https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
_FULCIO: Final = "1.3.6.1.4.1.57264.1"
_OLD_ISSUER, _ISSUER, _SOURCE_REPOSITORY, _SOURCE_REF = "1", "8", "12", "14"
_ODD: Final = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading strange JSON and certificates may raise beside the library's own errors."""


def matches(pattern: str, text: str, *, ignore_case: bool = False) -> bool:
    """Whether a text is as a pattern says, in which `*` stands for anything."""
    parts = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(parts, text, re.IGNORECASE if ignore_case else 0) is not None


@frozen
class Signer:
    """Who may sign without a key."""

    identity: str
    """The certificate's subject: an address of a workflow or of mail, in which `*` stands for anything."""
    issuer: str
    """Who vouched for the identity."""
    repository: str = ""
    """The repository that the workflow ran for, as an address, with `*`; empty where any will do.

    The identity alone does not say it: a workflow that others may call signs in its own name for all its callers.
    """
    ref: str = ""
    """The git ref that the workflow ran for, with `*`; empty where any will do."""

    def allows(self, identity: str) -> bool:
        """Whether an identity is one that may sign; GitHub takes owners and repositories in any case.

        What cannot stand in a lock as it is may not: it would be somebody else there.
        """
        if identity != printable(identity):
            return False
        return matches(self.identity, identity, ignore_case=bool(self.repository))


@frozen
class Trust:
    """Whose certificates and logs count, and where signatures are looked up."""

    verifier: Verifier
    rekor_url: str


def root_file(environ: Mapping[str, str], named: str | None, folder: Path) -> Path | None:
    """The file that says whom to trust, by the environment or else by the settings; None is the public Sigstore.

    `folder` is the settings'.
    """
    name = environ.get(ROOT_VARIABLE) or named
    return folder / name if name else None


def load_trust(root: Path | None, *, offline: bool) -> Trust:
    """The trust of a file, or of the public Sigstore, which is fetched anew unless `offline`.

    A file is a trusted root, or a whole client's configuration that has one. Raises SignatureError for one that cannot
    be read, ProgramError where the library is missing.
    """
    try:
        from sigstore.errors import Error  # noqa: PLC0415  # an extra, and slow to import
        from sigstore.models import ClientTrustConfig, TrustedRoot  # noqa: PLC0415
        from sigstore.verify import Verifier  # noqa: PLC0415
    except ImportError as error:
        raise missing_library("sigstore", SIGN_EXTRA, error) from error
    try:
        if root is None:
            return Trust(Verifier.production(offline=offline), PUBLIC_REKOR)
        text, value = _read_root(root)
        if "trustedRoot" in value:
            trusted, value = ClientTrustConfig.from_json(text).trusted_root, value["trustedRoot"]
        else:
            trusted = TrustedRoot.from_file(str(root))
        logs = [log.get("baseUrl") for log in value.get("tlogs", ())]
        return Trust(Verifier(trusted_root=trusted), str(next(filter(None, logs), PUBLIC_REKOR)).rstrip("/"))
    except (Error, *_ODD, OSError) as error:
        place = str(root) if root is not None else "the public Sigstore's trusted root"
        hint = f"{ROOT_VARIABLE} or [sources] trusted-root names a file for sites without the internet"
        raise SignatureError(f"read {place}: {_first_line(error)}", hint=hint) from error


def _read_root(root: Path) -> tuple[str, dict[str, Any]]:
    with root.open("rb") as file:
        data = file.read(MAX_ROOT_BYTES + 1)
    if len(data) > MAX_ROOT_BYTES:
        raise ValueError(f"more than {MAX_ROOT_BYTES} bytes cannot be a trusted root")
    value = json.loads(data)
    if not isinstance(value, dict):
        raise TypeError("not a trusted root")
    return data.decode(), value


def verify_blob(trust: Trust, bundle: bytes, sha256: str, signer: Signer, place: str) -> str:
    """The identity that signed the file of that sum; raises SignatureError."""
    from sigstore.errors import Error  # noqa: PLC0415
    from sigstore.hashes import Hashed  # noqa: PLC0415
    from sigstore_models.common.v1 import HashAlgorithm  # noqa: PLC0415

    parsed = _parse(bundle, place)
    policy = _Policy(signer)
    hashed = Hashed(algorithm=HashAlgorithm.SHA2_256, digest=bytes.fromhex(sha256))
    try:
        trust.verifier.verify_artifact(hashed, parsed, policy)
    except (Error, *_ODD) as error:
        raise _refused(place, error) from error
    return policy.found


def verify_statement(trust: Trust, bundle: bytes, sha256: str, signer: Signer, place: str) -> str:
    """The identity that signed a statement on how the file of that sum was built; raises SignatureError."""
    identity, kind, payload = verified_payload(trust, bundle, signer, place)
    _check_statement(kind, payload, sha256, place)
    return identity


def verified_payload(trust: Trust, bundle: bytes, signer: Signer, place: str) -> tuple[str, str, bytes]:
    """The identity that signed an envelope, and the envelope's type and content; raises SignatureError."""
    from sigstore.errors import Error  # noqa: PLC0415

    parsed = _parse(bundle, place)
    policy = _Policy(signer)
    try:
        kind, payload = trust.verifier.verify_dsse(parsed, policy)
    except (Error, *_ODD) as error:
        raise _refused(place, error) from error
    return policy.found, kind, payload


def predicate_of(bundle: Mapping[str, Any]) -> str:
    """The type that a bundle's statement claims to be of, unverified; empty where it has none."""
    try:
        value = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        return str(value["predicateType"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return ""


def _parse(data: bytes, place: str) -> Bundle:
    from sigstore.errors import Error  # noqa: PLC0415
    from sigstore.models import Bundle  # noqa: PLC0415

    if len(data) > MAX_BUNDLE_BYTES:
        raise SignatureError(f"{place}: more than {MAX_BUNDLE_BYTES} bytes cannot be a bundle")
    try:
        return Bundle.from_json(data)
    except (Error, *_ODD) as error:
        raise _refused(place, error) from error


def _check_statement(kind: str, payload: bytes, sha256: str, place: str) -> None:
    """Whether the verified statement is one on a build, and of this file (in-toto, spec/v1/statement.md)."""
    try:
        statement = json.loads(payload)
        subjects = [subject["digest"].get("sha256") for subject in statement["subject"]]
        predicate = str(statement["predicateType"])
        is_statement = kind == PAYLOAD_TYPE and statement["_type"] in STATEMENT_TYPES
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise SignatureError(f"{place}: what was signed is no statement") from error
    if not is_statement:
        raise SignatureError(f"{place}: what was signed is no statement")
    if not predicate.startswith(PROVENANCE):
        raise SignatureError(f"{place}: the statement is of type {printable(predicate)}, not {PROVENANCE}…")
    if sha256 not in subjects:
        raise SignatureError(f"{place}: the statement is about other files: sha256:{sha256} is not among them")


class _Policy:
    """Who may sign, as the library asks for it; remembers who did."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.found = ""

    def verify(self, cert: Certificate) -> None:
        """Raise the library's VerificationError for a certificate of somebody else."""
        from sigstore.errors import VerificationError  # noqa: PLC0415

        signer, identities = self._signer, _identities(cert)
        identity = next((identity for identity in identities if signer.allows(identity)), "")
        if not identity:
            raise VerificationError(f"signed by {', '.join(identities) or 'nobody'}, and expected is {signer.identity}")
        issuer = _text_of(cert, _ISSUER) or _text_of(cert, _OLD_ISSUER)
        if issuer != signer.issuer:
            raise VerificationError(f"vouched for by {issuer or 'nobody'}, and expected is {signer.issuer}")
        source = _text_of(cert, _SOURCE_REPOSITORY)
        if signer.repository and not matches(signer.repository, source, ignore_case=True):
            raise VerificationError(f"signed for {source or 'no repository'}, and expected is {signer.repository}")
        ref = _text_of(cert, _SOURCE_REF)
        if signer.ref and not matches(signer.ref, ref):
            raise VerificationError(f"signed for {ref or 'no ref'}, and expected is {signer.ref}")
        self.found = identity


def _identities(cert: Certificate) -> list[str]:
    from cryptography import x509  # noqa: PLC0415

    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [*uris, *names.get_values_for_type(x509.RFC822Name)]


def _text_of(cert: Certificate, number: str) -> str:
    """What one of Fulcio's own extensions says; empty where the certificate has none."""
    from cryptography import x509  # noqa: PLC0415

    try:
        found = cert.extensions.get_extension_for_oid(x509.ObjectIdentifier(f"{_FULCIO}.{number}")).value
    except x509.ExtensionNotFound:
        return ""
    data = found.value if isinstance(found, x509.UnrecognizedExtension) else b""
    if number != _OLD_ISSUER:
        # A DER string of type UTF8String (X.690, 8.23), shorter than 64 KiB.
        if len(data) < 2 or data[0] != 0x0C:
            return ""
        data = data[{0x81: 3, 0x82: 4}.get(data[1], 2) :]
    return data.decode("utf-8", "replace")


def _refused(place: str, error: Exception) -> SignatureError:
    return SignatureError(f"{place}: not a signature that can be trusted: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0])
