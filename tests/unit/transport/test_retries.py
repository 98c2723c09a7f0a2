from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from kobuild.errors import FetchError, RateLimited
from kobuild.transport import Backoff, Request, Transport, parse_retry_after
from tests.support.recorders import HeldClock, RecordingReporter
from tests.support.scripted import Reply, replies, serve


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def transport(clock: HeldClock, reporter: RecordingReporter) -> Iterator[Transport]:
    made = Transport(clock=clock, reporter=reporter, certs=(), max_attempts=4)
    yield made
    made.close()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_failures_that_may_pass_are_tried_again(status: int, transport: Transport, clock: HeldClock) -> None:
    with serve(replies(Reply(status), Reply(status), Reply(body=b"there"))) as server:
        assert transport.send(Request("GET", server.url)).read_all(100) == b"there"
    assert len(server.log) == 3
    assert 0.25 <= clock.slept[0] <= 0.5
    assert 0.5 <= clock.slept[1] <= 1.0


def test_each_new_attempt_is_told(transport: Transport, reporter: RecordingReporter) -> None:
    with serve(replies(Reply(503, b"busy now\nmore"), Reply())) as server:
        transport.send(Request("GET", f"{server.url}/a?token=planted")).close()
    (notice,) = reporter.notices
    assert "503 Service Unavailable: busy now; trying again in" in notice
    assert "(2 of 4)" in notice
    assert "planted" not in notice


def test_attempts_are_bounded(transport: Transport, clock: HeldClock) -> None:
    with serve(replies(Reply(503))) as server, pytest.raises(FetchError) as caught:
        transport.send(Request("GET", server.url))
    assert caught.value.status == 503
    assert caught.value.retryable
    assert len(server.log) == 4
    assert len(clock.slept) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 501])
def test_what_will_not_pass_is_not_tried_again(status: int, transport: Transport) -> None:
    with serve(replies(Reply(status))) as server, pytest.raises(FetchError) as caught:
        transport.send(Request("GET", server.url))
    assert caught.value.status == status
    assert len(server.log) == 1


def test_retry_can_be_off(transport: Transport) -> None:
    with serve(replies(Reply(503), Reply())) as server, pytest.raises(FetchError):
        transport.send(Request("POST", server.url), retry=False)
    assert len(server.log) == 1


def test_a_status_that_is_expected_is_an_answer(transport: Transport) -> None:
    with (
        serve(replies(Reply(503))) as server,
        transport.send(Request("GET", server.url), expect=(200, 503)) as response,
    ):
        assert response.status == 503


def test_retry_after_in_seconds_is_kept_to(transport: Transport, clock: HeldClock) -> None:
    with serve(replies(Reply(429, headers={"Retry-After": "17"}), Reply())) as server:
        transport.send(Request("GET", server.url)).close()
    assert 17 <= clock.slept[0] < 18


def test_retry_after_as_a_date_is_kept_to(transport: Transport, clock: HeldClock) -> None:
    # The held clock stands at 2027-01-15 08:00:00 UTC.
    with serve(replies(Reply(503, headers={"Retry-After": "Fri, 15 Jan 2027 08:00:42 GMT"}), Reply())) as server:
        transport.send(Request("GET", server.url)).close()
    assert 42 <= clock.slept[0] < 43


def test_a_very_long_retry_after_is_not_waited_for(transport: Transport, clock: HeldClock) -> None:
    with serve(replies(Reply(429, headers={"Retry-After": "3600"}))) as server, pytest.raises(RateLimited) as caught:
        transport.send(Request("GET", server.url))
    assert caught.value.hint == "the server asks to wait 3600 s; run the command again after that"
    assert clock.slept == []


@pytest.mark.parametrize("reset", [True, False])
def test_a_connection_dropped_before_the_answer_is_tried_again(reset: bool, transport: Transport) -> None:
    with serve(replies(Reply(drop=True, reset=reset), Reply(body=b"there"))) as server:
        assert transport.send(Request("GET", server.url)).read_all(100) == b"there"


def test_a_refused_connection_names_place_and_cause(transport: Transport) -> None:
    with serve(replies(Reply())) as server:
        url = server.url
    with pytest.raises(FetchError, match=r"GET http://127\.0\.0\.1:[0-9]+/x: Connection refused") as caught:
        transport.send(Request("GET", f"{url}/x"))
    assert caught.value.status is None
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_a_slow_server_is_not_waited_for_for_ever(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        request = Request("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/", read_seconds=0.05)
        with pytest.raises(FetchError, match="no answer within"):
            transport.send(request, retry=False)


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(first=1, longest=5)
    bounds = [(0.5, 1), (1, 2), (2, 4), (2.5, 5), (2.5, 5)]
    for attempt, (least, most) in enumerate(bounds, start=1):
        assert all(least <= backoff.delay(attempt) <= most for _ in range(50))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("99999999999999999999", None),
        ("0", 0.0),
        (" 12 ", 12.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 99 Foo 1970", None),
    ],
)
def test_retry_after_forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=10.0) == seconds
