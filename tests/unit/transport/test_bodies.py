from __future__ import annotations

import contextlib
import gzip
import io
import threading
from collections.abc import Iterator

import pytest

from kobuild.errors import FetchError, IntegrityError, SizeMismatch, StorageError
from kobuild.streams import Readable
from kobuild.transport import Body, Request, Transport
from tests.support.recorders import HeldClock
from tests.support.scripted import Reply, Seen, replies, serve


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = Transport(clock=HeldClock(), certs=())
    yield made
    made.close()


def body_of(data: bytes, size: int | None = None) -> Body:
    return Body(lambda: contextlib.nullcontext(io.BytesIO(data)), len(data) if size is None else size)


@pytest.mark.parametrize("cut", [0, 1, 999])
@pytest.mark.parametrize("reset", [True, False])
def test_a_body_that_breaks_is_an_error(cut: int, reset: bool, transport: Transport) -> None:
    def read_all() -> bytes:
        with transport.send(Request("GET", server.url), retry=False) as response:
            return b"".join(iter(lambda: response.read(100), b""))

    # A reset may also take away the head of the answer, which was sent before it.
    with serve(replies(Reply(body=bytes(1000), cut=cut, reset=reset))) as server, pytest.raises(FetchError) as caught:
        read_all()
    assert caught.value.retryable


def test_a_body_shorter_than_announced_is_an_error_for_every_way_of_reading(transport: Transport) -> None:
    with serve(replies(Reply(body=b"half", length=8, reset=False))) as server:
        with pytest.raises(FetchError, match="broke off after 0 bytes: the body is shorter than announced"):
            transport.send(Request("GET", server.url)).read()
        with pytest.raises(FetchError, match="broke off after 4 bytes: the body is shorter than announced"):
            transport.send(Request("GET", server.url)).read_all(100)


def test_read_all_is_bounded(transport: Transport) -> None:
    with serve(replies(Reply(body=bytes(1001)))) as server, pytest.raises(SizeMismatch):
        transport.send(Request("GET", server.url)).read_all(1000)


def test_bytes_come_as_stored_whatever_the_encoding_header_says(transport: Transport) -> None:
    packed = gzip.compress(b"a tarball")
    with serve(replies(Reply(body=packed, headers={"Content-Encoding": "gzip"}))) as server:
        assert transport.send(Request("GET", server.url)).read_all(100) == packed
    assert server.log[0].headers["accept-encoding"] == "identity"


def test_a_document_may_come_compressed(transport: Transport) -> None:
    packed = gzip.compress(b"[]" * 1000)
    with serve(replies(Reply(body=packed, headers={"Content-Encoding": "gzip"}))) as server:
        response = transport.send(Request("GET", server.url, compressed=True))
        assert response.read_all(10_000) == b"[]" * 1000
    assert server.log[0].headers["accept-encoding"] == "gzip"


def test_a_large_body_streams_both_ways(transport: Transport) -> None:
    data = bytes(range(256)) * 20_000
    with serve(lambda seen: Reply(body=seen.body)) as server:
        response = transport.send(Request("PUT", server.url, body=body_of(data)))
        assert response.read_all(len(data)) == data
    assert server.log[0].headers["content-length"] == str(len(data))


def test_each_attempt_sends_the_whole_body_again(transport: Transport) -> None:
    with serve(replies(Reply(503), Reply(drop=True), Reply())) as server:
        transport.send(Request("PUT", server.url, body=body_of(b"whole"))).close()
    assert [seen.body for seen in server.log] == [b"whole"] * 3


@pytest.mark.parametrize("size", [3, 7])
def test_a_body_of_another_length_than_promised_is_never_completed(size: int, transport: Transport) -> None:
    with serve(replies(Reply())) as server, pytest.raises(SizeMismatch):
        transport.send(Request("PUT", server.url, body=body_of(b"12345", size)))
    assert server.log == []


def test_the_sources_own_errors_come_through(transport: Transport) -> None:
    class Broken:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def read(self, size: int = -1, /) -> bytes:
            raise self.error

    def failing(error: Exception) -> Body:
        reader: Readable = Broken(error)
        return Body(lambda: contextlib.nullcontext(reader), 10)

    with serve(replies(Reply())) as server:
        with pytest.raises(StorageError, match="Input/output error"):
            transport.send(Request("PUT", server.url, body=failing(OSError(5, "Input/output error"))))
        with pytest.raises(IntegrityError, match="not the blob"):
            transport.send(Request("PUT", server.url, body=failing(IntegrityError("not the blob"))))


def test_a_server_that_refuses_before_the_body_is_read_is_understood(transport: Transport) -> None:
    refusing = replies(Reply(413, b"too large"))
    with serve(refusing, read_body=False) as server, pytest.raises(FetchError) as caught:
        transport.send(Request("PUT", server.url, body=body_of(bytes(100))))
    assert caught.value.status == 413


def test_one_connection_serves_many_requests_and_survives_refusals(transport: Transport) -> None:
    def respond(seen: Seen) -> Reply:
        return Reply(404, b'{"errors":[]}') if seen.path == "/no" else Reply(body=bytes(1000))

    with serve(respond) as server:
        for _ in range(5):
            transport.send(Request("GET", server.url)).close()
            transport.send(Request("HEAD", server.url)).close()
            with pytest.raises(FetchError):
                transport.send(Request("GET", f"{server.url}/no"))
    assert {seen.connection for seen in server.log} == {1}


def test_many_threads_share_one_transport(transport: Transport) -> None:
    results: list[bytes] = []

    def work(number: int) -> None:
        addresses = [f"{server.url}/{number}/{turn}" for turn in range(10)]
        results.extend(transport.send(Request("GET", address)).read_all(100) for address in addresses)

    with serve(lambda seen: Reply(body=seen.path.encode())) as server:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == sorted(f"/{number}/{turn}".encode() for number in range(8) for turn in range(10))
    assert len({seen.connection for seen in server.log}) <= 8


def test_head_has_the_length_and_no_body(transport: Transport) -> None:
    with serve(replies(Reply(body=bytes(500)))) as server, transport.send(Request("HEAD", server.url)) as response:
        assert response.headers["content-length"] == "500"
        assert response.read() == b""
