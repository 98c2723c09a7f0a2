"""A proxy before a real server, that counts requests, delays them, and breaks those that a plan names."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, BinaryIO

_LENGTH = re.compile(rb"\r\nContent-Length: *(\d+)\r\n", re.IGNORECASE)
_PIECE = 256 * 1024


class Break(Enum):
    """Ways to break one request."""

    REFUSED = "reset before anything is passed on"
    CUT_REQUEST = "reset in the middle of the request's body"
    LOST_ANSWER = "reset after the work was done"
    CUT_ANSWER = "reset in the middle of the answer's body"
    UNAVAILABLE = "503"
    TOO_MANY = "429 with Retry-After"
    TOO_MANY_SILENT = "429 without Retry-After"
    TIMED_OUT = "408"
    SERVER_ERROR = "500 with a page"
    BAD_GATEWAY = "502 with Retry-After as a date"
    GATEWAY_TIMEOUT = "504"


_REFUSALS = {
    Break.UNAVAILABLE: b"503 Unavailable",
    Break.TOO_MANY: b"429 Many\r\nRetry-After: 1",
    Break.TOO_MANY_SILENT: b"429 Many",
    Break.TIMED_OUT: b"408 Request Timeout",
    Break.SERVER_ERROR: b"500 Internal Server Error\r\nContent-Type: text/html",
    Break.BAD_GATEWAY: b"502 Bad Gateway\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT",
    Break.GATEWAY_TIMEOUT: b"504 Gateway Timeout",
}


@dataclass(frozen=True)
class Cut:
    """A reset after so many bytes of the request, or of the answer to it, heads included."""

    in_answer: bool
    after: int


@dataclass(frozen=True)
class Stall:
    """Half of an answer, and then silence on an open connection."""


Fault = Break | Cut | Stall | None


class FaultProxy:
    """Passes HTTP/1.1 on to `upstream` (`host:port`); `plan` gives the break for request number N, from 1."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self.upstream = (host, int(port))
        self.plan: Callable[[int], Fault] = lambda _: None
        self.delay_seconds = 0.0
        self.lines: list[str] = []
        self.connections = 0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def restart(self, plan: Callable[[int], Fault] = lambda _: None) -> None:
        """Count from 1 again, under another plan."""
        with self._lock:
            self.lines.clear()
            self.connections = self.most_at_once = 0
            self.plan = plan

    def count(self, line: str) -> Fault:
        """Note a request; returns how it is to be broken."""
        with self._lock:
            self.lines.append(line)
            return self.plan(len(self.lines))

    def wait(self) -> None:
        """Delay one request, and note how many wait with it."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.delay_seconds)
        with self._lock:
            self._at_once -= 1

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def run_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A proxy for the length of a block."""
    proxy = FaultProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: breaking is the work here."""


class _BrokenError(Exception):
    """The connection is to be reset."""


def _handler(proxy: FaultProxy) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            proxy.connections += 1
            with socket.create_connection(proxy.upstream) as upstream, upstream.makefile("rb") as answers:
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    while self._exchange(upstream, answers):
                        pass
                except _BrokenError:
                    for side in (upstream, self.connection):
                        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    # The file objects hold the socket open: closing the descriptor under them sends the reset now.
                    upstream.shutdown(socket.SHUT_RDWR)
                    self.connection.close()

        def _exchange(self, upstream: socket.socket, answers: BinaryIO) -> bool:
            head = _read_head(self.rfile)
            if not head:
                return False
            line = head.split(b"\r\n", 1)[0].decode()
            fault = proxy.count(line.rpartition(" ")[0])
            if proxy.delay_seconds:
                proxy.wait()
            if fault is Break.REFUSED:
                raise _BrokenError
            length = _length(head)
            if isinstance(fault, Break) and fault in _REFUSALS:
                _pass_on(self.rfile, lambda _: None, length)
                page = b"" if line.startswith("HEAD") else b"<html>not now</html>"
                size = b"\r\nContent-Length: 20\r\n\r\n"
                self.wfile.write(b"HTTP/1.1 " + _REFUSALS[fault] + size + page)
                return True
            if isinstance(fault, Cut) and not fault.in_answer and fault.after < len(head) + length:
                upstream.sendall(head[: fault.after])
                _pass_on(self.rfile, upstream.sendall, max(fault.after - len(head), 0))
                raise _BrokenError
            upstream.sendall(head)
            if fault is Break.CUT_REQUEST:
                _pass_on(self.rfile, upstream.sendall, length // 2)
                raise _BrokenError
            _pass_on(self.rfile, upstream.sendall, length)
            self._answer(line.startswith("HEAD"), answers, fault)
            return True

        def _answer(self, is_head: bool, answers: BinaryIO, fault: Fault) -> None:
            head = _read_head(answers)
            if not head or fault is Break.LOST_ANSWER:
                raise _BrokenError
            length = 0 if is_head or b" 204 " in head.split(b"\r\n", 1)[0] else _length(head)
            if isinstance(fault, Cut) and fault.in_answer and fault.after < len(head) + length:
                self.wfile.write(head[: fault.after])
                _pass_on(answers, self.wfile.write, max(fault.after - len(head), 0))
                raise _BrokenError
            if isinstance(fault, Stall):
                self.wfile.write(head if length else head[: len(head) // 2])
                _pass_on(answers, self.wfile.write, length // 2)
                self.rfile.read(1)  # until the client has had enough
                raise _BrokenError
            self.wfile.write(head)
            if fault is Break.CUT_ANSWER:
                _pass_on(answers, self.wfile.write, length // 2)
                raise _BrokenError
            _pass_on(answers, self.wfile.write, length)

    return Handler


def _read_head(stream: Any) -> bytes:
    lines = []
    # Anything but a request line, such as a TLS handshake, has no end that could be waited for.
    if not stream.peek(1)[:1].isalpha():
        return b""
    while line := stream.readline(65536):
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def _length(head: bytes) -> int:
    found = _LENGTH.search(head)
    return int(found[1]) if found else 0


def _pass_on(source: Any, sink: Callable[[bytes], Any], count: int) -> None:
    while count and (data := source.read(min(_PIECE, count))):
        sink(data)
        count -= len(data)
