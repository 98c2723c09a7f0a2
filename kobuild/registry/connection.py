"""One request to a registry: its address, its login, its refusals; everything else is built from this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote, urlsplit

from kobuild.errors import AuthError, FetchError
from kobuild.frozen import frozen
from kobuild.oci.reference import Registry, Repository
from kobuild.registry.auth import Authenticator
from kobuild.registry.credentials import Keychain
from kobuild.registry.endpoints import Endpoints
from kobuild.registry.failures import registry_error
from kobuild.registry.scopes import Scopes
from kobuild.transport import Body, Request, Response, Transport, netloc, origin

_LOGINS: Final = 3
"""How often one request may be answered by 401: without a token, with one that has aged, and no more."""
_READ_ATTEMPTS: Final = 5
_ERROR_BODY_BYTES: Final = 64 * 1024


@frozen
class Call:
    """One request to a repository's API."""

    action: str
    """What is being done, with its place, for messages: `read manifest ghcr.io/a/b:1`."""
    repository: Repository
    method: str
    path: str
    """Below `/v2/NAME/`, or a whole address that the registry gave."""
    scopes: Scopes
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Body | None = None
    expect: tuple[int, ...] = (200,)
    retry: bool = True
    """Whether it may be sent again as it is when it fails in a way that may pass."""
    read_seconds: float = 60.0


@frozen
class _Account:
    """Whose login a request takes."""

    base: str
    """The address of the host that asks for it."""
    repository: Repository
    """What credentials are looked up for."""


def _account_elsewhere(call: Call, url: str) -> _Account | None:
    """The account at another host that the registry sends an upload to; None where there can be none.

    That host must speak the protocol too, and the address be that of an upload to the same repository: with any
    address, a registry could let us write wherever our credentials for the other host reach.
    """
    path = unquote(urlsplit(url).path)
    if ".." in path or "%" in path or not path.startswith(f"/v2/{call.repository.path}/blobs/uploads/"):
        return None
    scheme, _, _ = origin(url)
    host = netloc(url)
    return _Account(f"{scheme}://{host}", Repository(Registry(host), call.repository.path))


class Connection:
    """Sends calls; safe to use from many threads."""

    def __init__(self, transport: Transport, keychain: Keychain) -> None:
        self.transport = transport
        self._authenticator = Authenticator(transport, keychain)
        self._endpoints = Endpoints(transport, self._authenticator.learn)

    def base(self, repository: Repository) -> str:
        """The registry's base address; raises RegistryError."""
        return self._endpoints.base(repository.registry)

    def url(self, repository: Repository, path: str) -> str:
        """The whole address of a call's path."""
        if "://" in path:
            return path
        return f"{self.base(repository)}/v2/{repository.path}/{path}"

    def send(self, call: Call) -> Response:
        """Send, logging in as the registry asks; raises RegistryError and its kinds for any other status.

        The token goes to the registry's own origin alone, never to another host that the registry names. Such a host
        may ask for a login of its own, for which what is known for that host counts, and nothing else. A host that a
        redirect led to may not: its challenge would be answered with what belongs to another.
        """
        base = self.base(call.repository)
        url = self.url(call.repository, call.path)
        account = _Account(base, call.repository) if origin(url) == origin(base) else _account_elsewhere(call, url)
        header = self._authenticator.header(account.base, account.repository, call.scopes) if account else None
        for attempt in range(1, _LOGINS + 1):
            response = self._send_once(call, url, header)
            if response.status != HTTPStatus.UNAUTHORIZED:
                return response
            is_own = origin(response.url) == origin(url)
            if attempt == _LOGINS or account is None or not is_own or not self._can_log_in(call, account):
                raise self._unauthorized(call, response)
            response.close()
            answer = self._authenticator.answer
            header = answer(account.base, account.repository, call.scopes, header, response.headers)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _can_log_in(self, call: Call, account: _Account) -> bool:
        """Whether a challenge may be answered: a registry's always, another host's with a credential of its own."""
        return account.repository == call.repository or self._authenticator.knows(account.repository)

    def read(self, call: Call, limit_bytes: int) -> tuple[Response, bytes]:
        """Send, and read the whole answer, again if it breaks; raises RegistryError, SizeMismatch beyond the limit."""
        attempt = 1
        while True:
            response = self.send(call)
            try:
                return response, response.read_all(limit_bytes)
            except FetchError as error:
                if attempt == _READ_ATTEMPTS:
                    raise self.error(call, error) from error
                self.transport.pause(error, attempt)
            attempt += 1

    def error(self, call: Call, failure: FetchError) -> Exception:
        """The registry's error for a failed request or body."""
        problems = self._authenticator.problems(call.repository) if failure.status in (401, 403) else ()
        return registry_error(call.action, call.repository, failure, problems=problems)

    def _send_once(self, call: Call, url: str, header: str | None) -> Response:
        headers = {**call.headers, "Authorization": header} if header else dict(call.headers)
        request = Request(call.method, url, headers, call.body, read_seconds=call.read_seconds)
        expect = (*call.expect, int(HTTPStatus.UNAUTHORIZED))
        try:
            return self.transport.send(request, expect=expect, retry=call.retry)
        except FetchError as error:
            raise self.error(call, error) from error

    def _unauthorized(self, call: Call, response: Response) -> Exception:
        with response:
            body = response.read(_ERROR_BODY_BYTES)
        failure = FetchError(f"{response.place}: 401 Unauthorized", status=401, body=body, headers=response.headers)
        error = self.error(call, failure)
        assert isinstance(error, AuthError)  # noqa: S101  # 401 is always one
        return error
