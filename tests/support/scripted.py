"""An HTTP server on loopback that answers as a function says, keeps a log, and can break its answers on purpose."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Seen:
    """One request as the server saw it."""

    method: str
    target: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    connection: int
    """Which connection it came on; equal numbers mean that it was reused."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {
            name: values[-1] for name, values in parse_qs(urlsplit(self.target).query, keep_blank_values=True).items()
        }


@dataclass(frozen=True)
class Reply:
    """One answer; `cut` breaks the connection after that many bytes of the body, `drop` before any answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    drop: bool = False
    length: int | None = None
    """An announced Content-Length that is not the body's."""
    reset: bool = True
    """Whether a break is a reset, or a plain close."""


Respond = Callable[[Seen], Reply]


class ScriptedServer:
    """A threaded server; `log` holds what came, in order of arrival."""

    def __init__(self, respond: Respond, *, tls: tuple[Path, Path] | None = None, read_body: bool = True) -> None:
        self.respond = respond
        self.log: list[Seen] = []
        self.read_body = read_body
        self._connections = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self.tls_context is not None and tls is not None:
            self.tls_context.load_cert_chain(*tls)
            self._server.socket = self.tls_context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def record(self, seen: Seen) -> None:
        with self._lock:
            self.log.append(seen)

    def next_connection(self) -> int:
        with self._lock:
            self._connections += 1
            return self._connections

    @property
    def lines(self) -> list[str]:
        """The log as `METHOD PATH`."""
        with self._lock:
            return [f"{seen.method} {seen.path}" for seen in self.log]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def serve(respond: Respond, **options: Any) -> Iterator[ScriptedServer]:
    """A server for the length of a block."""
    server = ScriptedServer(respond, **options)
    try:
        yield server
    finally:
        server.close()


def replies(*answers: Reply) -> Respond:
    """Answer with each in turn, the last for ever after."""
    rest = list(answers)
    lock = threading.Lock()

    def respond(_: Seen) -> Reply:
        with lock:
            return rest.pop(0) if len(rest) > 1 else rest[0]

    return respond


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is part of many tests."""


def _handler(owner: ScriptedServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 30

        def setup(self) -> None:
            super().setup()
            self.number = owner.next_connection()

        def _read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                return b"".join(_chunks(self.rfile))
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:
                raise ConnectionError("the client went away in the middle of its body")
            return body

        def _serve(self) -> None:
            body = self._read_body() if owner.read_body else b""
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.command, self.path, headers, body, self.number)
            owner.record(seen)
            reply = owner.respond(seen)
            if reply.drop:
                self._break(reply)
                return
            self._send(seen, reply)

        def _send(self, seen: Seen, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "transfer-encoding" not in {name.lower() for name in reply.headers}:
                self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
            self.end_headers()
            body = b"" if seen.method == "HEAD" or reply.status in (204, 304) else reply.body
            self.wfile.write(body if reply.cut is None else body[: reply.cut])
            self.wfile.flush()
            if reply.cut is not None or reply.length is not None:
                self._break(reply)

        def _break(self, reply: Reply) -> None:
            self.close_connection = True
            if reply.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    return Handler


def _chunks(stream: Any) -> Iterator[bytes]:
    while size := int(stream.readline().partition(b";")[0] or b"0", 16):
        yield stream.read(size)
        stream.readline()
    stream.readline()
