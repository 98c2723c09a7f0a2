"""Who signed an attestation, and whether that one may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kobuild.errors import SignatureError
from kobuild.frozen import frozen
from kobuild.settings.model import VerifySettings
from kobuild.signatures.cosign import key_name, parse_public_key
from kobuild.signatures.dsse import SignedStatement
from kobuild.signatures.keyless import GITHUB_ISSUER, Signer, Trust, verified_payload
from kobuild.signatures.signingkeys import verify_statement_with_key

_GITHUB: Final = "https://github.com/"


@frozen
class Signers:
    """Whom the policy lets sign."""

    policy: VerifySettings
    trust: Callable[[], Trust]
    """Whose certificates and logs count; only asked for where a certificate has to be verified."""

    @property
    def wanted(self) -> str:
        """Them, for a finding."""
        keys = [f"the key {key_name(parse_public_key(key))}" for key in self.policy.keys]
        people = [f"{name}, vouched for by {self._issuer}" for name in self.policy.identities]
        return " or ".join([*keys, *people])

    def verify(self, statement: SignedStatement, place: str) -> str:
        """The one who signed; raises SignatureError where it is nobody that may."""
        return self._by_identity(statement, place) if statement.has_certificate else self._by_key(statement)

    @property
    def _issuer(self) -> str:
        return self.policy.issuer or GITHUB_ISSUER

    def _by_key(self, statement: SignedStatement) -> str:
        if not self.policy.keys:
            raise SignatureError(f"a signature by the key {statement.key_hint}")
        for text in self.policy.keys:
            key = parse_public_key(text)
            try:
                verify_statement_with_key(statement, key)
            except SignatureError:
                continue
            return f"the key {key_name(key)}"
        raise SignatureError("a signature that is by none of these keys, or not of this statement")

    def _by_identity(self, statement: SignedStatement, place: str) -> str:
        if not self.policy.identities:
            raise SignatureError("a signature with a certificate")
        trust, problem = self.trust(), SignatureError("")
        for identity in self.policy.identities:
            signer = Signer(identity, self._issuer, *self._source())
            try:
                found, kind, payload = verified_payload(trust, statement.raw, signer, place)
            except SignatureError as error:
                problem = error
                continue
            # Two readers of one bundle: what was verified must be what is judged.
            if (kind, payload) != (statement.payload_type, statement.payload):
                raise SignatureError("a bundle that can be read in two ways")
            return found
        raise SignatureError(problem.message.removeprefix(f"{place}: "))

    def _source(self) -> tuple[str, str]:
        """The repository and the ref that must stand in the certificate, where the policy names some on GitHub."""
        repository, _, ref = self.policy.source.partition("@")
        is_on_github = repository.startswith(_GITHUB) and self._issuer == GITHUB_ISSUER
        return (repository, ref) if is_on_github else ("", "")
