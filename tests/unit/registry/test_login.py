from __future__ import annotations

import base64
import json
import logging
import traceback
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kobuild.errors import AuthError, RegistryError
from kobuild.image.blobs import Layer
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.oci.reference import Reference, Repository
from kobuild.registry import AnonymousKeychain, Credential, RegistryClient, RegistrySource
from kobuild.registry.auth import _parse_token
from kobuild.registry.keychain import FileKeychain
from kobuild.streams import Readable
from tests.support.certificates import Authority
from tests.support.images import make_image, random_image
from tests.support.registry import PASSWORD, USERNAME, DockerRegistry, TokenServer, skopeo
from tests.support.scripted import Reply, Seen
from tests.unit.registry.conftest import make_client


def reference(registry: DockerRegistry, name: str, tag: str = "1") -> Reference:
    return Reference.parse(f"{registry.host}/{name}:{tag}")


def logged_in(folder: Path, registry: DockerRegistry, password: str = PASSWORD, **entry: str) -> FileKeychain:
    """A keychain on a file as `docker login` leaves it."""
    secret = base64.b64encode(f"{USERNAME}:{password}".encode()).decode()
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: entry or {"auth": secret}}}))
    return FileKeychain({}, paths=[folder / "config.json"])


def mounted(client: RegistryClient, place: Reference, image: Image) -> Image:
    """`image` with its layers in the registry."""
    return make_image(
        [
            Layer(layer.descriptor, RegistrySource(client, place.repository, layer.descriptor), layer.diff_id)
            for layer in image.layers
        ]
    )


@dataclass(frozen=True)
class _Held:
    """A layer that could be mounted, and whose bytes are at hand too."""

    layer: Layer
    place: Reference

    @property
    def repository(self) -> Repository | None:
        return self.place.repository

    def open(self) -> AbstractContextManager[Readable]:
        return self.layer.source.open()


@pytest.fixture
def log(token_server: TokenServer) -> TokenServer:
    """The token server, its log emptied."""
    token_server.log.clear()
    return token_server


def test_basic_login(htpasswd_server: DockerRegistry, name: str, tmp_path: Path) -> None:
    images = gather([random_image(1)])
    client = make_client(logged_in(tmp_path, htpasswd_server))
    htpasswd_server.forget()
    client.push(images, [reference(htpasswd_server, name)])
    assert [status for _, _, status in htpasswd_server.requests()].count(401) == 1, "the ping alone, to learn"
    creds = f"--creds={USERNAME}:{PASSWORD}"
    raw = skopeo("inspect", "--raw", "--tls-verify=false", creds, f"docker://{reference(htpasswd_server, name)}")
    assert raw.encode() == images.root.raw


@pytest.mark.parametrize("kind", ["htpasswd", "token"])
def test_a_wrong_password_is_said_so(
    kind: str, name: str, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    registry: DockerRegistry = request.getfixturevalue("htpasswd_server" if kind == "htpasswd" else "token_registry")
    client = make_client(logged_in(tmp_path, registry, "wr0ng-pl4nted"))
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthError) as caught:
        client.push(gather([random_image(1)]), [reference(registry, name)])
    error = caught.value
    assert f"refused user {USERNAME!r} with the credentials of {tmp_path}/config.json" in str(error)
    assert f"docker login {registry.host}" in str(error.hint)
    for text in ("".join(traceback.format_exception(error)), caplog.text, str(error.hint)):
        assert "wr0ng-pl4nted" not in text
        assert base64.b64encode(f"{USERNAME}:wr0ng-pl4nted".encode()).decode() not in text


def test_no_password_is_said_so(htpasswd_server: DockerRegistry, name: str) -> None:
    with pytest.raises(AuthError, match="asks for a user name and a password, and none are known") as caught:
        make_client().get_manifest(reference(htpasswd_server, name))
    assert f"docker login {htpasswd_server.host}" in str(caught.value.hint)


def test_a_missing_helper_is_named_once_the_registry_refuses(
    htpasswd_server: DockerRegistry, registry: DockerRegistry, name: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "nowhere"}))
    client = make_client(FileKeychain({"PATH": str(tmp_path)}, paths=[tmp_path / "config.json"]))
    client.push(gather([random_image(1)]), [reference(registry, name)])
    with pytest.raises(AuthError) as caught:
        client.push(gather([random_image(1)]), [reference(htpasswd_server, name)])
    assert "docker-credential-nowhere: not found on PATH" in str(caught.value.hint)


def test_token_login_fetches_one_token_for_a_whole_push(
    token_registry: DockerRegistry, log: TokenServer, name: str, tmp_path: Path
) -> None:
    images = gather([random_image(2, count=6)])
    client = make_client(logged_in(tmp_path, token_registry))
    client.push(images, [reference(token_registry, name), reference(token_registry, name, "2")])
    (seen,) = log.log
    assert seen.query["scope"] == f"repository:{name}:pull,push"
    assert seen.query["service"] == log.service
    assert client.get_manifest(reference(token_registry, name)).digest == images.descriptor.digest
    assert log.log[-1].query["scope"] == f"repository:{name}:pull"
    assert len(log.log) == 2


def test_an_anonymous_pull_gets_a_token_without_a_login(
    token_registry: DockerRegistry, log: TokenServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = gather([random_image(3)])
    make_client(logged_in(tmp_path, token_registry)).push(images, [reference(token_registry, name)])
    monkeypatch.setattr(log, "allowed", lambda user, _: {"pull", "push"} if user else {"pull"})
    client = make_client()
    assert client.get_manifest(reference(token_registry, name)).digest == images.descriptor.digest
    assert "authorization" not in log.log[-1].headers
    with pytest.raises(AuthError, match="UNAUTHORIZED: authentication required"):
        client.push(gather([random_image(4)]), [reference(token_registry, name)])


def test_a_mount_asks_for_both_scopes_in_one_token(
    token_registry: DockerRegistry, log: TokenServer, name: str, tmp_path: Path
) -> None:
    base, target = reference(token_registry, f"{name}/base"), reference(token_registry, name)
    client = make_client(logged_in(tmp_path, token_registry))
    image = random_image(5)
    client.push(gather([image]), [base])
    log.log.clear()
    result = client.push(gather([mounted(client, base, image)]), [target])
    assert result.mounted == 2
    (seen,) = log.log
    assert f"scope=repository%3A{name.replace('/', '%2F')}%3Apull%2Cpush&" in seen.target
    assert seen.query["scope"] == f"repository:{name}/base:pull"


def test_a_mount_that_may_not_be_read_becomes_an_upload(
    token_registry: DockerRegistry, log: TokenServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "allowed", lambda _, path: set() if path.endswith("/base") else {"pull", "push"})
    check_push_without_mounts(make_client(logged_in(tmp_path, token_registry)), token_registry, name)


def test_a_token_server_that_refuses_two_scopes_is_asked_for_one(
    token_registry: DockerRegistry, log: TokenServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(seen: Seen) -> Reply:
        return log.respond(seen) if seen.target.count("scope=") == 1 else Reply(403, b"no")

    monkeypatch.setattr(log.server, "respond", respond)
    check_push_without_mounts(make_client(logged_in(tmp_path, token_registry)), token_registry, name)


def check_push_without_mounts(client: RegistryClient, registry: DockerRegistry, name: str) -> None:
    base, target = reference(registry, f"{name}/base"), reference(registry, name)
    image = random_image(6)
    held = make_image([Layer(layer.descriptor, _Held(layer, base), layer.diff_id) for layer in image.layers])
    result = client.push(gather([held]), [target])
    assert (result.mounted, result.uploaded) == (0, 3)
    assert client.get_manifest(target).digest == held.manifest.digest


def test_an_identity_token_is_exchanged_by_post(
    token_registry: DockerRegistry, log: TokenServer, name: str, tmp_path: Path
) -> None:
    log.identity_tokens["refresh-me"] = USERNAME
    client = make_client(logged_in(tmp_path, token_registry, identitytoken="refresh-me"))
    client.push(gather([random_image(7)]), [reference(token_registry, name)])
    (seen,) = log.log
    assert (seen.method, "authorization" in seen.headers) == ("POST", False)
    assert b"grant_type=refresh_token" in seen.body
    assert f"scope=repository%3A{name.replace('/', '%2F')}%3Apull%2Cpush".encode() in seen.body


def test_a_refused_identity_token_does_not_show(
    token_registry: DockerRegistry, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(logged_in(tmp_path, token_registry, identitytoken="st4le-pl4nted"))
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthError, match="refused the identity token") as caught:
        client.push(gather([random_image(8)]), [reference(token_registry, name)])
    assert "st4le-pl4nted" not in "".join(traceback.format_exception(caught.value)) + caplog.text


def test_a_token_is_fetched_again_once_it_is_old(
    token_registry: DockerRegistry, log: TokenServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "expires_in", None)
    client = make_client(logged_in(tmp_path, token_registry))
    client.push(gather([random_image(9)]), [reference(token_registry, name)])
    clock = client._connection.transport.clock
    for seconds, expected in ((49.0, 1), (1.5, 2)):
        clock.sleep(seconds)
        client.push(gather([random_image(9)]), [reference(token_registry, name)])
        assert len(log.log) == expected


def test_an_identity_token_is_of_no_use_where_a_password_is_wanted(
    htpasswd_server: DockerRegistry, name: str, tmp_path: Path
) -> None:
    client = make_client(logged_in(tmp_path, htpasswd_server, identitytoken="refresh-me"))
    with pytest.raises(AuthError, match=r"asks for a password; .* has only a token"):
        client.get_manifest(reference(htpasswd_server, name))


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_token_server_that_is_down_is_named(
    status: int, token_registry: DockerRegistry, log: TokenServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log.server, "respond", lambda _: Reply(status, b"down"))
    with pytest.raises(RegistryError, match=f"log in to {token_registry.host}: .*{status}") as caught:
        make_client().get_manifest(reference(token_registry, name))
    assert not isinstance(caught.value, AuthError)


def test_a_token_server_that_refuses_strangers_is_said_so(
    token_registry: DockerRegistry, log: TokenServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log.server, "respond", lambda _: Reply(401, b"who are you?"))
    with pytest.raises(AuthError, match="it gives no token without a login"):
        make_client().get_manifest(reference(token_registry, name))


@pytest.mark.parametrize(
    ("expires_in", "used_for"),
    [(300, 290), ("300", 290), (300.5, 290.5), (30, 20), (8, 4), (None, 50), (0, 50), (-5, 50), ("soon", 50), ([], 50)],
)
def test_the_life_of_a_token_may_be_anything(expires_in: object, used_for: float) -> None:
    raw = json.dumps({"token": "pl4nted", "expires_in": expires_in}).encode()
    token = _parse_token(raw, "token", 1000.0)
    assert token.stale_at == 1000.0 + used_for
    assert "pl4nted" not in repr(token)


def test_tls_is_found_on_loopback(tls_server: DockerRegistry, authority: Authority, name: str) -> None:
    client = make_client(environ={"REQUESTS_CA_BUNDLE": str(authority.certificate)})
    images = gather([random_image(10)])
    client.push(images, [reference(tls_server, name)])
    assert client.get_manifest(reference(tls_server, name)).digest == images.descriptor.digest


def test_an_unknown_authority_is_an_error_with_a_remedy(tls_server: DockerRegistry, name: str) -> None:
    with pytest.raises(RegistryError, match="certificate verify failed") as caught:
        make_client(environ={}).get_manifest(reference(tls_server, name))
    assert f"certs.d/{tls_server.host}/ca.crt" in str(caught.value.hint)


def test_credentials_and_keychains_show_no_secret() -> None:
    credential = Credential("a file", "u", "pl4nted", "pl4nted")
    assert "pl4nted" not in f"{credential!r} {credential} {[credential]}"
    assert AnonymousKeychain().problems(Reference.parse("a.example/b").repository) == ()
