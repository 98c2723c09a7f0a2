from __future__ import annotations

import base64
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kobuild.errors import FetchError
from kobuild.transport import Request, Transport, redact
from tests.support.recorders import HeldClock
from tests.support.scripted import Reply, replies, serve

PLANTED = "s3cr3tTOKEN"


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = Transport(clock=HeldClock(), certs=(), max_attempts=2)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/p", "https://a.example/p"),
        ("https://user:pw@a.example:8443/p", "https://a.example:8443/p"),
        ("https://a.example/p?digest=sha256:ab&_state=pw", "https://a.example/p?digest=sha256:ab&_state=…"),
        ("https://a.example/p?X-Amz-Signature=pw#pw", "https://a.example/p?X-Amz-Signature=…"),
        ("https://[::1", "(an address that cannot be parsed)"),
    ],
)
def test_messages_show_only_what_is_harmless(url: str, shown: str) -> None:
    assert redact(url) == shown


@given(
    name=st.text(alphabet="abcdefghijklmnop_-", min_size=1),
    user=st.text(alphabet="abc:@%/?#", max_size=5),
)
def test_no_query_value_or_password_is_shown(name: str, user: str) -> None:
    shown = redact(f"https://{user}:{PLANTED}@a.example/x?{name}zz={PLANTED}&sig={PLANTED}#{PLANTED}")
    # A user name that itself holds / ? or # ends the host early: then there is no password, but a path.
    assert PLANTED not in shown or any(letter in user for letter in "/?#")


def test_errors_and_their_tracebacks_hold_no_secret(transport: Transport) -> None:
    with serve(replies(Reply(403, b"no"))) as server:
        dead = server.url
        address = f"{server.url.replace('//', f'//user:{PLANTED}@')}/x?sig={PLANTED}"
        with pytest.raises(FetchError) as refused:
            transport.send(Request("GET", address, {"Authorization": f"Bearer {PLANTED}"}))
    with pytest.raises(FetchError) as unreachable:
        transport.send(Request("GET", f"{dead}/x?sig={PLANTED}", {"Authorization": PLANTED}))
    for error in (refused.value, unreachable.value):
        assert PLANTED not in "".join(traceback.format_exception(error))
        assert PLANTED not in repr(error)


def test_debug_logs_hold_no_secret(transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serve(replies(Reply())) as server:
        url = f"{server.url}/x?sig={PLANTED}"
        transport.send(Request("GET", url, {"Authorization": PLANTED})).close()
    assert "/x?sig=…" in caplog.text
    assert PLANTED not in caplog.text


def test_a_request_does_not_show_its_headers() -> None:
    assert PLANTED not in repr(Request("GET", "https://a.example", {"Authorization": PLANTED}, PLANTED.encode()))


def test_markup_is_left_out_of_messages(transport: Transport) -> None:
    document = f"<?xml?><Error><SignatureProvided>{PLANTED}</SignatureProvided></Error>".encode()
    with serve(replies(Reply(403, document))) as server, pytest.raises(FetchError) as caught:
        transport.send(Request("GET", server.url))
    assert str(caught.value).endswith("403 Forbidden")
    assert caught.value.body == document


def test_netrc_is_used_only_where_asked_for(
    transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password pw\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serve(replies(Reply())) as server:
        transport.send(Request("GET", server.url)).close()
        transport.send(Request("GET", server.url, netrc=True)).close()
        transport.send(Request("GET", server.url, {"Authorization": "Bearer mine"}, netrc=True)).close()
    sent = [seen.headers.get("authorization") for seen in server.log]
    assert sent == [None, "Basic bWU6cHc=", "Bearer mine"]


def test_cookies_are_never_kept(transport: Transport) -> None:
    with serve(replies(Reply(headers={"Set-Cookie": "id=1"}))) as server:
        transport.send(Request("GET", server.url)).close()
        transport.send(Request("GET", server.url)).close()
    assert "cookie" not in server.log[1].headers


@pytest.mark.parametrize("value", [f"Bearer {PLANTED}\n", f"Bearer {PLANTED}\r\nX: 1", f" {PLANTED}"])
def test_a_header_that_cannot_be_sent_is_not_shown(value: str, transport: Transport) -> None:
    with serve(replies(Reply())) as server, pytest.raises(FetchError, match="it cannot be sent") as caught:
        transport.send(Request("GET", server.url, {"Authorization": value}))
    assert PLANTED not in "".join(traceback.format_exception(caught.value))
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Authorization": f"Bearer {PLANTED}"}, None),
        ({"Authorization": "Basic " + base64.b64encode(f"user:{PLANTED}".encode()).decode()}, None),
        ({"Private-Token": PLANTED}, None),
        ({}, f"grant_type=x&refresh_token={PLANTED}".encode()),
    ],
)
def test_a_server_that_repeats_what_it_was_sent_gives_nothing_away(
    headers: dict[str, str], body: bytes | None, transport: Transport
) -> None:
    repeat = f"you sent {PLANTED} {' '.join(headers.values())}".encode()
    with serve(replies(Reply(400, repeat))) as server, pytest.raises(FetchError) as caught:
        transport.send(Request("POST", server.url, headers, body))
    assert "you sent ***" in str(caught.value)
    assert PLANTED not in str(caught.value)
    assert PLANTED.encode() not in caught.value.body


def test_short_and_broken_credentials_tear_no_words_apart(transport: Transport) -> None:
    with serve(replies(Reply(400, b"a plain answer"))) as server, pytest.raises(FetchError, match="a plain answer"):
        transport.send(Request("GET", server.url, {"Authorization": "Basic a", "Cookie": "a"}))
