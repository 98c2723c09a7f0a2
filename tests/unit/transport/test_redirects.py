from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import pytest

from kobuild.errors import FetchError
from kobuild.transport import Body, Request, Transport
from tests.support.recorders import HeldClock
from tests.support.scripted import Reply, Seen, replies, serve

SECRETS = {"Authorization": "Bearer planted", "Cookie": "id=planted", "PRIVATE-TOKEN": "planted"}


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = Transport(clock=HeldClock(), certs=())
    yield made
    made.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_and_keeps_the_credential_at_home(status: int, transport: Transport) -> None:
    def respond(seen: Seen) -> Reply:
        return Reply(status, headers={"Location": "../b?x=1#part"}) if seen.path == "/v2/a" else Reply(body=b"there")

    with serve(respond) as server, transport.send(Request("GET", f"{server.url}/v2/a", SECRETS)) as response:
        assert response.read() == b"there"
        assert response.url == f"{server.url}/b?x=1"
    assert server.log[1].headers["authorization"] == "Bearer planted"


def test_no_credential_goes_to_another_origin(transport: Transport) -> None:
    with serve(replies(Reply(body=b"blob"))) as store:
        target = {"Location": f"{store.url}/blob?signature=planted"}
        with serve(replies(Reply(307, headers=target))) as server:
            headers = {**SECRETS, "Range": "bytes=5-"}
            assert transport.send(Request("GET", server.url, headers)).read_all(10) == b"blob"
    (seen,) = store.log
    assert seen.headers["range"] == "bytes=5-"
    assert "planted" not in str(seen.headers)


def test_a_credential_does_not_come_back_on_the_way_home(transport: Transport) -> None:
    def respond(seen: Seen) -> Reply:
        return Reply(body=b"x") if seen.path == "/back" else Reply(302, headers={"Location": store.url})

    with serve(respond) as server, serve(replies(Reply(302, headers={"Location": f"{server.url}/back"}))) as store:
        transport.send(Request("GET", server.url, SECRETS)).close()
    assert "authorization" not in server.log[1].headers


def test_localhost_and_127_0_0_1_are_different_origins(transport: Transport) -> None:
    def respond(seen: Seen) -> Reply:
        return Reply() if seen.path == "/b" else Reply(302, headers={"Location": f"http://localhost:{server.port}/b"})

    with serve(respond) as server:
        transport.send(Request("GET", f"{server.url}/a", SECRETS)).close()
    assert "authorization" not in server.log[1].headers


def test_a_circle_of_redirects_ends(transport: Transport) -> None:
    circle = replies(Reply(302, headers={"Location": "/"}))
    with serve(circle) as server, pytest.raises(FetchError, match="more than 10 redirects"):
        transport.send(Request("GET", server.url))
    assert len(server.log) == 11


@pytest.mark.parametrize("location", ["http://registry.example/x", "ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_a_redirect_to_plain_http_or_stranger_schemes_is_refused(location: str, transport: Transport) -> None:
    with serve(replies(Reply(302, headers={"Location": location}))) as server, pytest.raises(FetchError) as caught:
        transport.send(Request("GET", server.url, SECRETS))
    assert "plain HTTP is refused" in str(caught.value) or "not an https address" in str(caught.value)


def test_only_307_and_308_send_a_body_on(transport: Transport) -> None:
    body = Body(lambda: contextlib.nullcontext(io.BytesIO(b"layer")), 5)

    def respond(seen: Seen) -> Reply:
        return (
            Reply(201, body=seen.body) if seen.path == "/b" else Reply(int(seen.path[1:]), headers={"Location": "/b"})
        )

    with serve(respond) as server:
        with transport.send(Request("PUT", f"{server.url}/307", body=body), expect=(201,)) as response:
            assert response.read() == b"layer"
        with pytest.raises(FetchError, match="302 Found"):
            transport.send(Request("PUT", f"{server.url}/302", body=body), expect=(201,))


def test_a_small_body_which_may_be_a_credential_stays_at_home(transport: Transport) -> None:
    with (
        serve(replies(Reply())) as stranger,
        serve(replies(Reply(307, headers={"Location": stranger.url}))) as server,
        pytest.raises(FetchError, match="307 Temporary Redirect"),
    ):
        transport.send(Request("POST", server.url, body=b"refresh_token=planted"))
    assert stranger.log == []


def test_a_redirect_without_location_is_an_error(transport: Transport) -> None:
    with serve(replies(Reply(302))) as server, pytest.raises(FetchError, match="302 Found"):
        transport.send(Request("GET", server.url))
