"""Logging in: challenges answered with Basic or with bearer tokens, each token fetched once and kept until it ages.

distribution's "Token Authentication Specification" and "Oauth2 Token Authentication".
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import field
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from kobuild.errors import AuthError, FetchError, MalformedDocument, RegistryError
from kobuild.frozen import frozen
from kobuild.oci import jsonio
from kobuild.oci.reference import Repository
from kobuild.registry.challenge import Challenge, parse_challenges
from kobuild.registry.credentials import Credential, Keychain
from kobuild.registry.failures import registry_error
from kobuild.registry.hints import hint_for
from kobuild.registry.scopes import Scopes, join_scopes
from kobuild.transport import Request, Transport, redact

_CLIENT: Final = "kobuild"
_DEFAULT_SECONDS: Final = 60.0
"""How long a token lasts when the server does not say."""
_SKEW_SECONDS: Final = 10.0
"""A token this close to its end is not used for a new request."""
_LONGEST_SECONDS: Final = 10.0 * 365 * 24 * 3600
_TOKEN: Final = re.compile(r"[\x21-\x7e]+\Z")
"""What can be sent in a header."""
_MAX_TOKEN_BYTES: Final = 1024 * 1024


@frozen
class Token:
    """A bearer token and, on our own clock, when to stop using it."""

    value: str = field(repr=False)
    stale_at: float

    @property
    def header(self) -> str:
        """The Authorization header's value."""
        return f"Bearer {self.value}"


@frozen
class _TokenKey:
    realm: str
    service: str
    scopes: Scopes
    credential: Credential | None


class Authenticator:
    """Turns a registry's challenges into Authorization headers; safe to use from many threads."""

    def __init__(self, transport: Transport, keychain: Keychain) -> None:
        self._transport = transport
        self._keychain = keychain
        self._challenges: dict[str, Challenge] = {}
        self._wider: dict[tuple[str, Scopes], Scopes] = {}
        self._tokens: dict[_TokenKey, Token] = {}
        self._locks: dict[_TokenKey, threading.Lock] = {}
        self._lock = threading.Lock()

    def header(self, base: str, repository: Repository, scopes: Scopes) -> str | None:
        """The header for a request to the registry at `base`; None while nothing is known to be asked for."""
        challenge = self._challenges.get(base)
        if challenge is None:
            return None
        credential = self._keychain.resolve(repository)
        if challenge.scheme == "basic":
            return credential.basic() if credential else None
        return self._token(challenge, repository, self._wider.get((base, scopes), scopes), credential).header

    def learn(self, base: str, headers: Mapping[str, str]) -> None:
        """Remember what the registry at `base` asks for, from an answer's headers."""
        challenge = _choose(parse_challenges(headers.get("WWW-Authenticate", "")))
        if challenge is not None:
            self._challenges[base] = challenge

    def answer(
        self, base: str, repository: Repository, scopes: Scopes, used: str | None, headers: Mapping[str, str]
    ) -> str:
        """The header for another try after a 401 to a request that carried `used`.

        Raises AuthError where there is no better one, RegistryError where the token server fails.
        """
        challenge = _choose(parse_challenges(headers.get("WWW-Authenticate", "")))
        if challenge is None:
            raise self._refused(repository, "the registry asks for a login of a kind that is not known here")
        self._challenges[base] = challenge
        credential = self._keychain.resolve(repository)
        if challenge.scheme == "basic":
            return self._basic(repository, credential, used)
        wider = join_scopes((*scopes, *challenge.parameters.get("scope", "").split()))
        if wider != scopes:
            self._wider[base, scopes] = wider
        self._forget(self._key(challenge, wider, credential), used)
        return self._token(challenge, repository, wider, credential).header

    def knows(self, repository: Repository) -> bool:
        """Whether a credential is known for a repository."""
        return self._keychain.resolve(repository) is not None

    def problems(self, repository: Repository) -> tuple[str, ...]:
        """What went wrong in looking for credentials."""
        return tuple(self._keychain.problems(repository))

    def _basic(self, repository: Repository, credential: Credential | None, used: str | None) -> str:
        if credential is None:
            raise self._refused(repository, "the registry asks for a user name and a password, and none are known")
        if credential.identity_token and not credential.password:
            raise self._refused(repository, f"the registry asks for a password; {credential.place} has only a token")
        header = credential.basic()
        if header == used:
            raise self._refused(repository, _wrong(credential))
        return header

    def _token(
        self, challenge: Challenge, repository: Repository, scopes: Scopes, credential: Credential | None
    ) -> Token:
        key = self._key(challenge, scopes, credential)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            token = self._tokens.get(key)
            if token is None or token.stale_at <= self._transport.clock.now():
                token = self._tokens[key] = self._fetch(key, repository)
            return token

    def _key(self, challenge: Challenge, scopes: Scopes, credential: Credential | None) -> _TokenKey:
        service = challenge.parameters.get("service", "")
        return _TokenKey(challenge.parameters["realm"], service, scopes, credential)

    def _forget(self, key: _TokenKey, used: str | None) -> None:
        """Drop a token that was refused, unless another thread has already replaced it."""
        with self._lock:
            token = self._tokens.get(key)
            if token is not None and token.header == used:
                del self._tokens[key]

    def _fetch(self, key: _TokenKey, repository: Repository) -> Token:
        try:
            request = _token_request(key)
        except ValueError:
            raise self._refused(repository, f"its token server {redact(key.realm)} is no address") from None
        try:
            raw = self._transport.send(request).read_all(_MAX_TOKEN_BYTES)
        except FetchError as error:
            raise self._token_error(key, repository, error) from error
        return _parse_token(raw, f"token from {redact(key.realm)}", self._transport.clock.now())

    def _token_error(self, key: _TokenKey, repository: Repository, error: FetchError) -> RegistryError:
        if error.status in (400, 401, 403):
            if key.credential is not None:
                return self._refused(repository, _wrong(key.credential))
            return self._refused(repository, "it gives no token without a login")
        problems = self.problems(repository)
        return registry_error(f"log in to {repository.registry}", repository, error, problems=problems)

    def _refused(self, repository: Repository, cause: str) -> AuthError:
        """A failed login; its status is 401 whatever the token server said, since 403 means a lack of rights."""
        parts = (*self.problems(repository), hint_for(repository, 401))
        hint = "; ".join(part for part in parts if part)
        return AuthError(f"log in to {repository.registry} for {repository.path}: {cause}", status=401, hint=hint)


def _choose(challenges: tuple[Challenge, ...]) -> Challenge | None:
    """The strongest challenge that can be answered: Bearer before Basic."""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            return challenge
    return next((challenge for challenge in challenges if challenge.scheme == "basic"), None)


def _wrong(credential: Credential) -> str:
    who = f"user {credential.username!r}" if credential.username else "the identity token"
    return f"the registry refused {who} with the credentials of {credential.place}"


def _token_request(key: _TokenKey) -> Request:
    credential = key.credential
    if credential is not None and credential.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": key.service,
            "client_id": _CLIENT,
            "scope": " ".join(key.scopes),
            "refresh_token": credential.identity_token,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Request("POST", key.realm, headers, urlencode(form).encode())
    query = [("scope", scope) for scope in key.scopes]
    if key.service:
        query.insert(0, ("service", key.service))
    if credential is None:
        return Request("GET", _with_query(key.realm, query))
    query.append(("account", credential.username))
    return Request("GET", _with_query(key.realm, query), {"Authorization": credential.basic()})


def _with_query(url: str, query: list[tuple[str, str]]) -> str:
    parts = urlsplit(url)
    joined = "&".join(part for part in (parts.query, urlencode(query)) if part)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, joined, ""))


def _parse_token(raw: bytes, what: str, now: float) -> Token:
    """Read a token server's answer; the time starts with us, since the server's clock may be off."""
    try:
        value = jsonio.parse_object(raw, what)
    except MalformedDocument:
        # The cause is left out: it may quote the token.
        raise RegistryError(f"read {what}: not a JSON object") from None
    token = value.get("token") or value.get("access_token")
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise RegistryError(f"read {what}: there is no token in the answer")
    try:
        seconds = float(value.get("expires_in") or _DEFAULT_SECONDS)
    except (TypeError, ValueError, OverflowError):
        seconds = _DEFAULT_SECONDS
    if not 0 < seconds < _LONGEST_SECONDS:
        seconds = _DEFAULT_SECONDS
    return Token(token, now + max(seconds - _SKEW_SECONDS, seconds / 2))
