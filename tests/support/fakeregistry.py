"""A registry in memory that behaves as others do: scripted, with a request log and a plan of faults.

docker-registry cannot be told to answer a mount with 202, to put its uploads on another host, or to lose an answer;
this one can.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.scripted import Reply, ScriptedServer, Seen, serve

_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)\Z")
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/([^/]*)\Z")
_BLOB = re.compile(r"/v2/(.+)/blobs/([^/]+)\Z")
_REFERRERS = re.compile(r"/v2/(.+)/referrers/([^/]+)\Z")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")


@dataclass
class Behaviour:
    """How this registry differs from a plain one."""

    location: Callable[[str], str] = lambda path: path
    """Makes the Location header of an upload's path."""
    mount: int = 201
    least_chunk: int = 0
    chunks: bool = True
    ranges: bool = True
    digest_header: Callable[[str], str | None] = lambda digest: digest
    content_type: Callable[[str], str | None] = lambda media_type: media_type
    immutable: bool = False
    largest_body: int | None = None
    """Bodies beyond this are refused with 413, as proxies do."""
    gateway_bytes: int | None = None
    """Uploads are cut after this many bytes of a body, which are kept."""
    referrers: bool = False
    tokens: set[str] | None = None
    """Bearer tokens that are let in; None lets all in."""
    realm: str = ""


@dataclass
class Fault:
    """One break: which requests, how they are answered instead, and whether the work is done all the same."""

    when: Callable[[Seen], bool]
    reply: Reply
    times: int = 1
    done: bool = False


@dataclass
class FakeRegistry:
    """The registry's content and its server."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    faults: list[Fault] = field(default_factory=list)
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    server: ScriptedServer | None = None
    _numbers: int = 0

    @property
    def host(self) -> str:
        assert self.server is not None
        return self.server.host

    @property
    def url(self) -> str:
        assert self.server is not None
        return self.server.url

    @property
    def log(self) -> list[Seen]:
        """Every request but the first look at `/v2/`."""
        assert self.server is not None
        return [seen for seen in self.server.log if seen.path != "/v2/"]

    def lines(self, *methods: str) -> list[str]:
        """`METHOD PATH` of the log, of these methods alone if any are named."""
        return [f"{seen.method} {seen.path}" for seen in self.log if not methods or seen.method in methods]

    def add_blob(self, repository: str, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[repository, digest] = data
        return digest

    def add_manifest(self, repository: str, tag: str, raw: bytes, media_type: str) -> str:
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        self.manifests[repository, digest] = self.manifests[repository, tag] = (media_type, raw)
        return digest

    def respond(self, seen: Seen) -> Reply:
        """Answer as the plan of faults says, else as a registry."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.when(seen):
                    fault.times -= 1
                    if fault.done:
                        self._answer(seen)
                    return fault.reply
            return self._answer(seen)

    def _answer(self, seen: Seen) -> Reply:
        behaviour = self.behaviour
        sent = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if behaviour.tokens is not None and sent not in behaviour.tokens:
            challenge = f'Bearer realm="{behaviour.realm}",service="fake"'
            return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})
        if behaviour.largest_body is not None and len(seen.body) > behaviour.largest_body:
            return Reply(413, b"<html>413 Request Entity Too Large</html>")
        if seen.path == "/v2/":
            return Reply(200, b"{}")
        for pattern, answer in (
            (_MANIFEST, self._manifest),
            (_UPLOAD, self._upload),
            (_BLOB, self._blob),
            (_REFERRERS, self._referrers),
        ):
            found = pattern.match(seen.path)
            if found:
                return answer(seen, found[1], found[2])
        return _error(404, "UNSUPPORTED")

    def _manifest(self, seen: Seen, repository: str, name: str) -> Reply:
        if seen.method == "PUT":
            return self._put_manifest(seen, repository, name)
        found = self.manifests.get((repository, name))
        if found is None:
            return _error(404, "MANIFEST_UNKNOWN")
        headers = {
            "Docker-Content-Digest": self.behaviour.digest_header(f"sha256:{hashlib.sha256(found[1]).hexdigest()}"),
            "Content-Type": self.behaviour.content_type(found[0]),
        }
        return Reply(200, found[1], {key: value for key, value in headers.items() if value is not None})

    def _put_manifest(self, seen: Seen, repository: str, name: str) -> Reply:
        digest = f"sha256:{hashlib.sha256(seen.body).hexdigest()}"
        stored = (seen.headers["content-type"], seen.body)
        if self.behaviour.immutable and ":" not in name and (repository, name) in self.manifests:
            return _error(400, "TAG_INVALID", message=f"the tag {name} already exists and cannot be overwritten")
        document = json.loads(seen.body)
        needed = [document["config"], *document["layers"]] if "config" in document else []
        for descriptor in needed:
            if (repository, descriptor["digest"]) not in self.blobs and not descriptor.get("urls"):
                return _error(404, "MANIFEST_BLOB_UNKNOWN")
        for child in document.get("manifests", ()):
            if "config" not in document and (repository, child["digest"]) not in self.manifests:
                return _error(404, "MANIFEST_BLOB_UNKNOWN")
        self.manifests[repository, name] = self.manifests[repository, digest] = stored
        headers = {"Location": f"/v2/{repository}/manifests/{digest}"}
        promised = self.behaviour.digest_header(digest)
        if promised is not None:
            headers["Docker-Content-Digest"] = promised
        if self.behaviour.referrers and "subject" in document:
            headers["OCI-Subject"] = document["subject"]["digest"]
        return Reply(201, b"", headers)

    def _blob(self, seen: Seen, repository: str, digest: str) -> Reply:
        data = self.blobs.get((repository, digest))
        if data is None:
            return _error(404, "BLOB_UNKNOWN")
        wanted = _RANGE.match(seen.headers.get("range", ""))
        if wanted and self.behaviour.ranges:
            start, end = int(wanted[1]), int(wanted[2] or len(data) - 1)
            return Reply(206, data[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(data)}"})
        return Reply(200, data)

    def _upload(self, seen: Seen, repository: str, number: str) -> Reply:
        if seen.method == "POST":
            return self._open_upload(seen, repository)
        if number not in self.uploads:
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        if seen.method == "DELETE":
            del self.uploads[number]
            return Reply(204)
        if seen.method == "GET":
            return self._uploading(204, repository, number)
        if seen.method == "PATCH" and not self.behaviour.chunks:
            return _error(405, "UNSUPPORTED")
        return self._write(seen, repository, number)

    def _write(self, seen: Seen, repository: str, number: str) -> Reply:
        stored = self.uploads[number]
        position = seen.headers.get("content-range")
        if position is not None and int(position.partition("-")[0]) != len(stored):
            return self._uploading(416, repository, number)
        gateway = self.behaviour.gateway_bytes
        if gateway is not None and len(seen.body) > gateway:
            stored += seen.body[:gateway]
            return Reply(drop=True)
        stored += seen.body
        if seen.method == "PATCH":
            return self._uploading(202, repository, number)
        return self._close_upload(repository, number, seen.query.get("digest", ""))

    def _open_upload(self, seen: Seen, repository: str) -> Reply:
        source = seen.query.get("from")
        if "mount" in seen.query and source is not None:
            digest = seen.query["mount"]
            if self.behaviour.mount == 201 and (source, digest) in self.blobs:
                self.blobs[repository, digest] = self.blobs[source, digest]
                return Reply(201, b"", {"Location": f"/v2/{repository}/blobs/{digest}"})
            if self.behaviour.mount >= 400:
                return _error(self.behaviour.mount, "DENIED")
        self._numbers += 1
        number = f"upload{self._numbers}"
        self.uploads[number] = bytearray()
        return self._uploading(202, repository, number)

    def _uploading(self, status: int, repository: str, number: str) -> Reply:
        headers = {"Location": self.behaviour.location(f"/v2/{repository}/blobs/uploads/{number}")}
        stored = len(self.uploads[number])
        headers["Range"] = f"0-{max(stored - 1, 0)}"
        if self.behaviour.least_chunk:
            headers["OCI-Chunk-Min-Length"] = str(self.behaviour.least_chunk)
        return Reply(status, b"", headers)

    def _close_upload(self, repository: str, number: str, digest: str) -> Reply:
        data = bytes(self.uploads.pop(number))
        if self.add_blob("(checked)", data) != digest:
            return _error(400, "DIGEST_INVALID")
        self.blobs[repository, digest] = data
        return Reply(201, b"", {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest})

    def _referrers(self, _: Seen, repository: str, digest: str) -> Reply:
        if not self.behaviour.referrers:
            return _error(404, "NOT_FOUND")
        found = []
        for (place, name), (media_type, raw) in self.manifests.items():
            document = json.loads(raw)
            if place == repository and ":" in name and document.get("subject", {}).get("digest") == digest:
                kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
                descriptor = {"mediaType": media_type, "digest": name, "size": len(raw), "artifactType": kind}
                found.append({**descriptor, "annotations": document.get("annotations", {})})
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": found}
        return Reply(200, json.dumps(index).encode(), {"Content-Type": "application/vnd.oci.image.index.v1+json"})


@contextlib.contextmanager
def run_fake(behaviour: Behaviour | None = None, *faults: Fault) -> Iterator[FakeRegistry]:
    """A scripted registry for the length of a block."""
    fake = FakeRegistry(behaviour or Behaviour(), list(faults))
    with serve(fake.respond) as server:
        fake.server = server
        yield fake


def is_request(method: str, part: str) -> Callable[[Seen], bool]:
    """Whether a request has the method, and its target the part."""
    return lambda seen: seen.method == method and part in seen.target


def _error(status: int, code: str, headers: dict[str, str] | None = None, *, message: str = "scripted") -> Reply:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Reply(status, body, {"Content-Type": "application/json", **(headers or {})})
