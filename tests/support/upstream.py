"""A server on loopback that answers as go.dev/dl and the GitHub API do, from files that tests hand to it.

    with Upstream() as upstream:
        upstream.add_go_release("1.27.3", {"linux/amd64": go_tarball})
        upstream.add_github_release("ko-build/ko", "v0.18.0", {"ko_0.18.0_Linux_x86_64.tar.gz": ko_tarball})
        environ = upstream.environ            # KOBUILD_GO_URL, GITHUB_API_URL, GITHUB_SERVER_URL

It has two origins, as the real ones do: downloads redirect from `url` to `files_url`. Files are served with ETag, Range
and If-Range. `requests` is the log; `fail` plans faults.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

Content = bytes | Path
_CHUNK_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class Fault:
    """What goes wrong with the next answers for a path."""

    status: int | None = None
    """Answer with this status and nothing else."""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""
    corrupt: bool = False
    """Change the last byte of the body."""
    hold_after: int | None = None
    """After so many bytes of the body, wait for `release`."""
    release: threading.Event = field(default_factory=threading.Event)
    times: int = 1
    """How many answers it spoils."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One request that was answered."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    status: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the API."""

    body: bytes
    content_type: str = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass(slots=True)
class _File:
    content: Content
    content_type: str
    ranges: bool = True
    etag: bool = True
    _tag: str = ""

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @property
    def tag(self) -> str:
        # Once a file: a server that sums up 80 MB before each answer would be measured along with the code under test.
        self._tag = self._tag or f'"{sha256_of(self.content)[:32]}"'
        return self._tag

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        if isinstance(self.content, bytes):
            for offset in range(start, stop, _CHUNK_BYTES):
                yield self.content[offset : min(stop, offset + _CHUNK_BYTES)]
            return
        with self.content.open("rb") as file:
            file.seek(start)
            left = stop - start
            while left and (data := file.read(min(_CHUNK_BYTES, left))):
                left -= len(data)
                yield data


def sha256_of(content: Content) -> str:
    """The sum of what is served, in hex."""
    hasher = hashlib.sha256()
    if isinstance(content, bytes):
        hasher.update(content)
    else:
        with content.open("rb") as file:
            while data := file.read(1024 * 1024):
                hasher.update(data)
    return hasher.hexdigest()


def size_of(content: Content) -> int:
    """The size of what is served, in bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


class Upstream:
    """One server; a context manager."""

    def __init__(self) -> None:
        self.requests: list[Logged] = []
        self.page_size = 100
        """How many releases a page of the API holds at most."""
        self.token: str | None = None
        """When set, the API answers 401 to any other token."""
        self.licenses: dict[str, str] = {}
        """GitHub's reading of repositories' licences; a repository that is not named here has none."""
        self.rate_limit_remaining = 60
        self.rate_limit_reset = 1_800_000_000
        self._go: list[dict[str, Any]] = []
        self._releases: dict[str, list[dict[str, Any]]] = {}
        self._attestations: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._log: list[dict[str, Any]] = []
        self._files: dict[str, _File] = {}
        self._redirects: dict[str, str] = {}
        self._private: set[str] = set()
        self._guards: dict[str, str] = {}
        self._faults: list[tuple[str, Fault]] = []
        self._announced: list[tuple[str, threading.Event]] = []
        self._next_id = 1000
        self._lock = threading.Lock()
        self._servers = [_Server(self), _Server(self)]

    # What the code under test is told.

    @property
    def url(self) -> str:
        """The origin of both go.dev and the code host."""
        return self._servers[0].url

    @property
    def files_url(self) -> str:
        """The origin that downloads are redirected to."""
        return self._servers[1].url

    @property
    def go_url(self) -> str:
        """What KOBUILD_GO_URL is set to."""
        return f"{self.url}/dl"

    @property
    def github_api_url(self) -> str:
        """What GITHUB_API_URL is set to."""
        return f"{self.url}/api/v3"

    @property
    def environ(self) -> dict[str, str]:
        """The environment that points kobuild here."""
        return {
            "KOBUILD_GO_URL": self.go_url,
            "GITHUB_API_URL": self.github_api_url,
            "GITHUB_SERVER_URL": self.url,
        }

    # What there is.

    def add_go_release(
        self,
        version: str,
        archives: Mapping[str, Content],
        *,
        stable: bool | None = None,
        sha256: str | None = None,
    ) -> None:
        """Publish a Go version, newest first; `archives` by platform (`linux/amd64`, `linux/arm/v6`).

        `sha256` is what the listing says for all of them, when it is not to be the truth.
        """
        name = f"go{version}"
        files = [self._go_file(name, "src.tar.gz", "", arch="", kind="source", content=b"source")]
        for platform, content in archives.items():
            system, _, rest = platform.partition("/")
            arch = {"arm/v6": "armv6l", "arm/v7": "armv6l"}.get(rest, rest)
            add = functools.partial(self._go_file, name, system=system, arch=arch)
            files.append(add(f"{system}-{arch}.tar.gz", kind="archive", content=content, sha256=sha256))
            files.append(add(f"{system}-{arch}.pkg", kind="installer", content=b"installer"))
        is_stable = stable if stable is not None else not any(mark in version for mark in ("rc", "beta"))
        with self._lock:
            self._go.insert(0, {"version": name, "stable": is_stable, "files": files})

    def _go_file(
        self,
        version: str,
        suffix: str,
        system: str,
        *,
        arch: str,
        kind: str,
        content: Content,
        sha256: str | None = None,
    ) -> dict[str, Any]:
        filename = f"{version}.{suffix}"
        self.add_file(f"/go/{filename}", content, "application/x-gzip")
        self._redirects[f"/dl/{filename}"] = f"{self.files_url}/go/{filename}"
        return {
            "filename": filename,
            "os": system,
            "arch": arch,
            "version": version,
            "sha256": sha256 or sha256_of(content),
            "size": size_of(content),
            "kind": kind,
        }

    def add_github_release(
        self,
        repository: str,
        tag: str,
        assets: Mapping[str, Content],
        *,
        prerelease: bool = False,
        draft: bool = False,
        digests: bool | Mapping[str, str] = True,
    ) -> None:
        """Publish a release, newest first; `digests` False leaves GitHub's digest field null, as for old uploads."""
        listed = [self._asset(repository, tag, name, content, digests) for name, content in assets.items()]
        release = {
            "url": f"{self.github_api_url}/repos/{repository}/releases/{self._new_id()}",
            "html_url": f"{self.url}/{repository}/releases/tag/{quote(tag)}",
            "id": self._new_id(),
            "tag_name": tag,
            "target_commitish": "main",
            "name": tag,
            "draft": draft,
            "immutable": False,
            "prerelease": prerelease,
            "created_at": "2026-01-02T03:04:05Z",
            "published_at": "2026-01-02T03:14:05Z",
            "assets": listed,
            "tarball_url": f"{self.github_api_url}/repos/{repository}/tarball/{quote(tag)}",
            "zipball_url": f"{self.github_api_url}/repos/{repository}/zipball/{quote(tag)}",
            "body": "",
        }
        with self._lock:
            self._releases.setdefault(repository, []).insert(0, release)

    def _asset(
        self, repository: str, tag: str, name: str, content: Content, digests: bool | Mapping[str, str]
    ) -> dict[str, Any]:
        number = self._new_id()
        place = f"/{repository}/releases/download/{quote(tag)}/{quote(name)}"
        self.add_file(f"/release-assets/{number}", content)
        self._redirects[unquote(place)] = f"{self.files_url}/release-assets/{number}?sig=a-signed-secret"
        digest = None
        if digests is not False:
            digest = f"sha256:{sha256_of(content)}"
        if isinstance(digests, Mapping):
            digest = digests.get(name, digest)
        return {
            "url": f"{self.github_api_url}/repos/{repository}/releases/assets/{number}",
            "id": number,
            "name": name,
            "label": None,
            "content_type": "application/octet-stream",
            "state": "uploaded",
            "size": size_of(content),
            "digest": digest,
            "download_count": 1,
            "browser_download_url": self.url + place,
        }

    def add_attestation(self, repository: str, sha256: str, entry: Mapping[str, Any]) -> None:
        """Have the API answer one more entry, with `bundle` or `bundle_url`, for a file of that sum."""
        with self._lock:
            self._attestations.setdefault((repository, sha256), []).append({"repository_id": 1, **entry})

    def add_log_entry(self, entry: Mapping[str, Any]) -> None:
        """Put an entry into the transparency log at `url`, in the form in which its API answers."""
        with self._lock:
            self._log.append(dict(entry))

    def add_file(
        self,
        path: str,
        content: Content,
        content_type: str = "application/octet-stream",
        *,
        ranges: bool = True,
        etag: bool = True,
    ) -> str:
        """Serve a file at `path`; returns its address."""
        with self._lock:
            self._files[path] = _File(content, content_type, ranges, etag)
        return f"{self.url}{quote(path)}"

    def add_redirect(self, path: str, target: str) -> str:
        """Redirect `path` to `target`; returns its address."""
        self._redirects[path] = target
        return f"{self.url}{quote(path)}"

    def make_private(self, repository: str) -> None:
        """Answer 404 for the repository to everyone but API requests with `token`."""
        self._private.add(repository)

    def guard(self, prefix: str, authorization: str) -> None:
        """Answer 401 to every request below `prefix` that has another Authorization."""
        self._guards[prefix] = authorization

    def is_allowed(self, path: str, authorization: str | None) -> bool:
        """Whether a request passes the guards."""
        return all(authorization == wanted or not path.startswith(prefix) for prefix, wanted in self._guards.items())

    def fail(self, part: str, fault: Fault) -> Fault:
        """Spoil the next answers whose path contains `part`; for a download, name a part of the final path."""
        with self._lock:
            self._faults.append((part, fault))
        return fault

    # What happened.

    def announce(self, part: str) -> threading.Event:
        """Is set by the next request whose path contains `part`."""
        event = threading.Event()
        with self._lock:
            self._announced.append((part, event))
        return event

    def count(self, part: str = "") -> int:
        """How many requests had `part` in their path."""
        return len(self.logged(part))

    def logged(self, part: str = "") -> list[Logged]:
        """The requests with `part` in their path."""
        with self._lock:
            return [request for request in self.requests if part in request.path]

    def forget(self) -> None:
        """Empty the log."""
        with self._lock:
            self.requests.clear()

    def __enter__(self) -> Upstream:  # noqa: PYI034  # Self is not in typing before Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            for _, fault in self._faults:
                fault.release.set()
        for server in self._servers:
            server.stop()

    # How requests are answered.

    def _new_id(self) -> int:
        with self._lock:
            self._next_id += 1
            return self._next_id

    def take_fault(self, path: str) -> Fault | None:
        """The fault planned for the path, counted down."""
        with self._lock:
            for entry in self._faults:
                part, fault = entry
                if part in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def log(self, request: Logged) -> None:
        """Remember a request."""
        with self._lock:
            self.requests.append(request)
            announced = [event for part, event in self._announced if part in request.path]
        for event in announced:
            event.set()

    def find(self, path: str) -> _File | str | None:
        """The file at the path, the address that it redirects to, or None."""
        if any(path.startswith(f"/{name}/releases/") for name in self._private):
            return None
        return self._files.get(path) or self._redirects.get(path)

    def api(self, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str]) -> Answer | None:
        """Answer for go.dev's listing and the API; None for any other path."""
        if path in ("/dl/", "/dl") and query.get("mode") == ["json"]:
            return self._go_listing(everything=query.get("include") == ["all"])
        prefix = "/api/v3/repos/"
        if path.startswith(prefix):
            return self._github(path.removeprefix(prefix), query, headers)
        return None

    def log_entries(self, question: bytes) -> Answer:
        """What the log has of the entries that are asked for (Rekor's `/api/v1/log/entries/retrieve`)."""
        asked = [entry["spec"] for entry in json.loads(question)["entries"]]
        found = [entry for entry in self._log if json.loads(base64.b64decode(entry["body"]))["spec"] in asked]
        return Answer(
            json.dumps([{f"24296fb24b8ad77a{number:064x}": entry} for number, entry in enumerate(found)]).encode()
        )

    def _go_listing(self, *, everything: bool) -> Answer:
        newest: dict[str, dict[str, Any]] = {}
        for release in self._go:
            if release["stable"]:
                newest.setdefault(".".join(release["version"].split(".")[:2]), release)
        listed = self._go if everything else list(newest.values())[:2]
        return Answer(json.dumps(listed, indent=1).encode(), "application/json")

    def _github(self, rest: str, query: Mapping[str, list[str]], headers: Mapping[str, str]) -> Answer:
        authorization = headers.get("authorization")
        if self.token is not None and authorization is not None and authorization != f"Bearer {self.token}":
            return Answer(b'{"message":"Bad credentials","status":"401"}', status=401)
        if authorization is None and any(rest.startswith(f"{name}/") for name in self._private):
            return Answer(b'{"message":"Not Found","status":"404"}', status=404)
        asset = re.fullmatch(r"[^/]+/[^/]+/releases/assets/(\d+)", rest)
        if asset is not None and headers.get("accept") == "application/octet-stream":
            target = f"{self.files_url}/release-assets/{asset[1]}?sig=a-signed-secret"
            return Answer(b"", headers={"Location": target}, status=302)
        if self.rate_limit_remaining <= 0:
            message = {"message": "API rate limit exceeded for 192.0.2.1. (But here's the good news: …)"}
            return Answer(json.dumps(message).encode(), headers=self._limits(), status=403)
        answer = self._releases_answer(rest, query)
        etag = f'W/"{hashlib.sha256(answer.body).hexdigest()}"'
        if answer.status == 200 and headers.get("if-none-match") == etag:
            return Answer(b"", headers={**self._limits(), "ETag": etag}, status=304)
        self.rate_limit_remaining -= 1
        return Answer(answer.body, headers={**answer.headers, **self._limits(), "ETag": etag}, status=answer.status)

    def _releases_answer(self, rest: str, query: Mapping[str, list[str]]) -> Answer:
        owner, name, *action = rest.split("/", 3)
        releases = self._releases.get(f"{owner}/{name}")
        missing = Answer(b'{"message":"Not Found","status":"404"}', status=404)
        if len(action) == 2 and action[0] == "attestations":
            listed = self._attestations.get((f"{owner}/{name}", action[1].removeprefix("sha256:")))
            return self._attestations_page(f"{owner}/{name}", action[1], listed, query) if listed else missing
        if releases is not None and not action:
            spdx_id = self.licenses.get(f"{owner}/{name}")
            about = {"key": "other", "spdx_id": spdx_id} if spdx_id else None
            return Answer(json.dumps({"id": 1, "full_name": f"{owner}/{name}", "license": about}).encode())
        if releases is None or not action or action[0] != "releases":
            return missing
        if len(action) == 2 and action[1].startswith("tags/"):
            tag = unquote(action[1].removeprefix("tags/"))
            found = next((item for item in releases if item["tag_name"] == tag and not item["draft"]), None)
            return Answer(json.dumps(found).encode()) if found else missing
        return self._page(f"{owner}/{name}", releases, query)

    def _attestations_page(
        self, repository: str, subject: str, listed: list[dict[str, Any]], query: Mapping[str, list[str]]
    ) -> Answer:
        """What comes after the cursor, which is opaque to clients, and where the rest is."""
        start = int(query.get("after", ["0"])[0].removeprefix("opaque="))
        end = start + min(int(query.get("per_page", ["30"])[0]), self.page_size)
        place = f"{self.github_api_url}/repos/{repository}/attestations/{subject}?per_page={query['per_page'][0]}"
        following = f'<{place}&after=opaque%3D{end}>; rel="next"'
        headers = {"Link": following} if end < len(listed) else {}
        return Answer(json.dumps({"attestations": listed[start:end]}).encode(), headers=headers)

    def _page(self, repository: str, releases: list[dict[str, Any]], query: Mapping[str, list[str]]) -> Answer:
        size = min(int(query.get("per_page", ["30"])[0]), self.page_size)
        number = int(query.get("page", ["1"])[0])
        last = max(1, -(-len(releases) // size))
        place = f"{self.github_api_url}/repos/{repository}/releases?per_page={size}&page="
        links = []
        if number < last:
            links = [f'<{place}{number + 1}>; rel="next"', f'<{place}{last}>; rel="last"']
        if number > 1:
            links = [f'<{place}{number - 1}>; rel="prev"', *links, f'<{place}1>; rel="first"']
        headers = {"Link": ", ".join(links)} if links else {}
        return Answer(json.dumps(releases[(number - 1) * size : number * size]).encode(), headers=headers)

    def _limits(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": "60",
            "X-RateLimit-Remaining": str(max(0, self.rate_limit_remaining)),
            "X-RateLimit-Reset": str(self.rate_limit_reset),
            "X-RateLimit-Used": str(60 - max(0, self.rate_limit_remaining)),
            "X-RateLimit-Resource": "core",
        }


class _Server:
    def __init__(self, upstream: Upstream) -> None:
        self._server = _QuietServer(("127.0.0.1", 0), _Handler)
        self._server.upstream = upstream
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    upstream: Upstream

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is part of many tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as every real server: else each answer would wait for an acknowledgement
    timeout = 30

    @property
    def upstream(self) -> Upstream:
        return cast("_QuietServer", self.server).upstream

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Log nothing: `requests` holds it."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        found = self.path == "/api/v1/log/entries/retrieve"
        self._send(self.upstream.log_entries(body) if found else Answer(b"{}", status=404), None)

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.upstream.take_fault(self.path)
        if fault is not None and fault.status is not None:
            self._send(Answer(b"a planned fault\n", "text/plain", fault.headers, fault.status), fault)
            return
        if not self.upstream.is_allowed(path, headers.get("authorization")):
            self._send(Answer(b"{}", headers={"WWW-Authenticate": "Basic"}, status=401), fault)
            return
        answer = self.upstream.api(path, parse_qs(parts.query), headers)
        if answer is not None:
            self._send(answer, fault)
            return
        found = self.upstream.find(path)
        if isinstance(found, str):
            self._send(Answer(b"", "text/html", {"Location": found}, 302), fault)
        elif found is None:
            self._send(Answer(b"404 page not found\n", "text/plain", {}, 404), fault)
        else:
            self._send_file(found, headers, fault)

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        self._head(answer.status, {"Content-Type": answer.content_type, **answer.headers}, len(answer.body))
        self._body(iter([answer.body]), len(answer.body), fault)

    def _send_file(self, file: _File, headers: Mapping[str, str], fault: Fault | None) -> None:
        out = {"Content-Type": file.content_type}
        if file.etag:
            out["ETag"] = file.tag
            if headers.get("if-none-match") == file.tag:
                self._head(304, out, 0)
                return
        start, status, size = 0, 200, file.size
        wanted = headers.get("range", "") if file.ranges else ""
        if wanted.startswith("bytes=") and headers.get("if-range", out.get("ETag", "")) == out.get("ETag", ""):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= size:
                self._head(416, {**out, "Content-Range": f"bytes */{size}"}, 0)
                return
            status = 206
            out["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._head(status, out, size - start)
        self._body(file.chunks(start, size), size - start, fault)

    def _head(self, status: int, headers: Mapping[str, str], size: int) -> None:
        seen = {name.lower(): value for name, value in self.headers.items()}
        self.upstream.log(Logged(self.command, self.path, seen, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(size))
        self.end_headers()

    def _body(self, chunks: Iterator[bytes], size: int, fault: Fault | None) -> None:
        if self.command == "HEAD":
            return
        sent = 0
        for data in _spoiled(chunks, size, fault):
            if fault is not None and fault.hold_after is not None and sent >= fault.hold_after:
                self.wfile.flush()
                fault.release.wait(30)
            self.wfile.write(data)
            sent += len(data)
        if sent < size:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)


def _spoiled(chunks: Iterator[bytes], size: int, fault: Fault | None) -> Iterator[bytes]:
    """The body as the fault leaves it, split where something is to happen."""
    wanted = (fault.cut_after, fault.hold_after) if fault is not None else ()
    stops = sorted({stop for stop in wanted if stop is not None})
    offset = 0
    for data in chunks:
        rest = data
        if fault is not None and fault.corrupt and offset + len(data) == size:
            rest = data[:-1] + bytes([data[-1] ^ 1])
        for stop in stops:
            if offset < stop < offset + len(rest):
                yield rest[: stop - offset]
                rest, offset = rest[stop - offset :], stop
            if fault is not None and fault.cut_after == offset and stop == offset:
                return
        if rest:
            yield rest
            offset += len(rest)
