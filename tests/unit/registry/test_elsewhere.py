"""Uploads on another host that wants a login of its own: it gets its own, and nothing of the registry's."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from kobuild.errors import AuthError
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
from kobuild.registry.keychain import FileKeychain
from tests.support.fakeregistry import Behaviour, FakeRegistry, Fault, is_request, run_fake
from tests.support.images import random_image
from tests.support.scripted import Reply, ScriptedServer, Seen, serve
from tests.unit.registry.conftest import make_client

HOME, AWAY = "home-s3cret", "away-s3cret"


def basic(password: str) -> str:
    return base64.b64encode(f"user:{password}".encode()).decode()


@dataclass
class World:
    """A registry, and the other host that its uploads go to; each has a token server, which knows one password."""

    home: FakeRegistry
    away: FakeRegistry
    home_tokens: ScriptedServer
    away_tokens: ScriptedServer

    def keychain(self, folder: Path, *, away: bool) -> FileKeychain:
        hosts = {self.home.host: HOME, **({self.away.host: AWAY} if away else {})}
        path = folder / "config.json"
        path.write_text(json.dumps({"auths": {host: {"auth": basic(word)} for host, word in hosts.items()}}))
        return FileKeychain({}, paths=[path])

    def push(self, keychain: FileKeychain) -> None:
        client = make_client(keychain)
        client.push(gather([random_image(1)]), [Reference.parse(f"{self.home.host}/team/app:1")])

    def seen_away(self) -> str:
        """All that the other host and its token server were sent, in the clear."""
        seen = [item for server in (self.away.server, self.away_tokens) if server for item in server.log]
        return " ".join(f"{item.target} {dict(item.headers)}" for item in seen)


def token_server(password: str, token: str) -> ScriptedServer:
    def respond(seen: Seen) -> Reply:
        if seen.headers.get("authorization") != f"Basic {basic(password)}":
            return Reply(401)
        return Reply(200, json.dumps({"token": token}).encode())

    return ScriptedServer(respond)


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        tokens = [token_server(HOME, "home-t0ken"), token_server(AWAY, "away-t0ken")]
        for server in tokens:
            stack.callback(server.close)
        away = stack.enter_context(run_fake(Behaviour(tokens={"away-t0ken"}, realm=tokens[1].url)))
        behaviour = Behaviour(tokens={"home-t0ken"}, realm=tokens[0].url, location=lambda path: f"{away.url}{path}")
        home = stack.enter_context(run_fake(behaviour))
        away.uploads, away.blobs = home.uploads, home.blobs
        yield World(home, away, *tokens)


def test_a_host_of_uploads_gets_the_login_that_is_known_for_it(world: World, tmp_path: Path) -> None:
    world.push(world.keychain(tmp_path, away=True))
    assert ("team/app", "1") in world.home.manifests
    assert len(world.away_tokens.log) == 1, "one token for all the uploads"
    puts = [seen for seen in world.away.log if seen.method == "PUT"]
    assert {seen.headers.get("authorization") for seen in puts} >= {"Bearer away-t0ken"}
    assert basic(HOME) not in world.seen_away()
    assert "home-t0ken" not in world.seen_away()
    assert basic(AWAY) not in str([dict(seen.headers) for seen in world.home_tokens.log])


def test_without_one_the_push_fails_and_says_where(world: World, tmp_path: Path) -> None:
    with pytest.raises(AuthError, match="push blob sha256:") as caught:
        world.push(world.keychain(tmp_path, away=False))
    assert world.away_tokens.log == []
    assert basic(HOME) not in world.seen_away()
    assert "home-t0ken" not in world.seen_away()
    assert caught.value.status == 401


def test_basic_is_answered_too(world: World, tmp_path: Path) -> None:
    answered = world.away.respond

    def respond(seen: Seen) -> Reply:
        if seen.headers.get("authorization") != f"Basic {basic(AWAY)}":
            return Reply(401, headers={"WWW-Authenticate": 'Basic realm="uploads"'})
        return answered(seen)

    world.away.behaviour.tokens = None
    assert world.away.server is not None
    world.away.server.respond = respond
    world.push(world.keychain(tmp_path, away=True))
    assert ("team/app", "1") in world.home.manifests
    assert basic(HOME) not in world.seen_away()


@pytest.mark.parametrize(
    "path",
    [
        "/v2/victim/app/manifests/latest",
        "/v2/victim/app/blobs/uploads/1",
        "/v2/team/app/manifests/1",
        "/v2/team/app/blobs/uploads/../../manifests/1",
        "/v2/team/app/blobs/uploads/%2e%2e/%2e%2e/manifests/1",
        "/v2/team/app/blobs/uploads/%252e%252e/manifests/1",
        "/artifactory/releases/tool.jar",
    ],
)
def test_a_registry_cannot_let_us_write_elsewhere_with_our_own_login(path: str, world: World, tmp_path: Path) -> None:
    """Else a bad registry could have its bytes put wherever the person's other logins reach."""
    world.home.behaviour.location = lambda _: f"{world.away.url}{path}"
    with pytest.raises(AuthError):
        world.push(world.keychain(tmp_path, away=True))
    assert world.away_tokens.log == []
    assert "authorization" not in world.seen_away()


def read_layer(client: RegistryClient, place: Reference, image: Image) -> None:
    with client.open_blob(place.repository, image.layers[0].descriptor) as reader:
        reader.read()


def push_another(client: RegistryClient, place: Reference, _: Image) -> None:
    client.push(gather([random_image(2)]), [place])


@pytest.mark.parametrize(("method", "work"), [("GET", read_layer), ("PUT", push_another)])
def test_a_challenge_at_the_end_of_a_redirect_is_not_answered(
    method: str, work: Callable[[RegistryClient, Reference, Image], None], world: World, tmp_path: Path
) -> None:
    """What a blob store asks for must not be given what belongs to the registry, at a realm of the store's choice."""
    world.home.behaviour.location = lambda path: path
    keychain = world.keychain(tmp_path, away=False)
    image = random_image(1)
    place = Reference.parse(f"{world.home.host}/team/app:1")
    make_client(keychain).push(gather([image]), [place])
    with serve(lambda _: Reply(200, b'{"token": "stolen"}')) as thief:
        challenge = {"WWW-Authenticate": f'Bearer realm="{thief.url}",service="x"'}
        with serve(lambda _: Reply(401, headers=challenge)) as store:
            away = Reply(307, headers={"Location": f"{store.url}/blob"})
            world.home.faults.append(Fault(is_request(method, "/blobs/"), away, times=9))
            with pytest.raises(AuthError):
                work(make_client(keychain), place, image)
            assert store.log != []
        assert thief.log == []
        assert all("authorization" not in seen.headers for seen in store.log)


def test_a_redirect_of_the_first_look_is_not_followed(world: World, tmp_path: Path) -> None:
    world.home.behaviour.location = lambda path: path
    answered = world.home.respond
    with serve(lambda _: Reply(200, b'{"token": "stolen"}')) as thief:
        challenge = {"WWW-Authenticate": f'Bearer realm="{thief.url}",service="x"'}
        with serve(lambda _: Reply(401, headers=challenge)) as portal:
            away = Reply(302, headers={"Location": f"{portal.url}/"})
            assert world.home.server is not None
            world.home.server.respond = lambda seen: away if seen.path == "/v2/" else answered(seen)
            world.push(world.keychain(tmp_path, away=False))
            assert portal.log == [], "its challenge would count as the registry's"
        assert thief.log == []
    assert ("team/app", "1") in world.home.manifests
