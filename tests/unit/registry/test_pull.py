from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kobuild.errors import DigestMismatch, KobuildError, MalformedDocument, NotFound, RegistryError, SizeMismatch
from kobuild.oci import mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient, RegistryStore
from tests.support.fakeregistry import Behaviour, FakeRegistry, Fault, is_request, run_fake
from tests.support.images import random_image
from tests.support.scripted import Reply, replies, serve

DATA = bytes(range(256)) * 4096
"""One mebibyte."""
BLOB = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with run_fake() as running:
        running.add_blob("a", DATA)
        yield running


def reference(fake: FakeRegistry, text: str = "a:1") -> Reference:
    return Reference.parse(f"{fake.host}/{text}")


def read_blob(client: RegistryClient, fake: FakeRegistry, descriptor: Descriptor = BLOB) -> bytes:
    with client.open_blob(reference(fake).repository, descriptor) as reader:
        return b"".join(iter(lambda: reader.read(100_000), b""))


def blob_requests(fake: FakeRegistry) -> list[str | None]:
    """The Range of each request for a blob."""
    return [seen.headers.get("range") for seen in fake.log if seen.method == "GET" and "/blobs/" in seen.path]


def cut(at: int, *, reset: bool = False, times: int = 1) -> Fault:
    return Fault(is_request("GET", "/blobs/"), Reply(body=DATA, cut=at, reset=reset), times)


@pytest.mark.parametrize("at", [0, 1, 1000, 524_288, len(DATA) - 1])
def test_a_broken_blob_is_read_on_from_where_it_broke(at: int, fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(cut(at))
    assert read_blob(client, fake) == DATA
    first, second = blob_requests(fake)
    assert first is None
    # What was on its way when the connection broke may be lost: never more, and never less, is asked for again.
    assert second is None or int(second.removeprefix("bytes=").removesuffix("-")) <= at


def test_a_reset_in_the_middle_is_read_on(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(cut(300_000, reset=True))
    assert read_blob(client, fake) == DATA


def test_many_breaks_with_progress_are_all_right(fake: FakeRegistry, client: RegistryClient) -> None:
    def respond(seen_range: str | None) -> Reply:
        start = int((seen_range or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        headers = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"}
        return Reply(206, DATA[start:], headers, cut=120_000, reset=False)

    assert fake.server is not None
    plain = fake.server.respond
    fake.server.respond = lambda seen: respond(seen.headers.get("range")) if "/blobs/" in seen.path else plain(seen)
    assert read_blob(client, fake) == DATA
    assert len(blob_requests(fake)) >= 9


def test_a_server_without_ranges_is_read_from_the_start(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.behaviour.ranges = False
    fake.faults.append(cut(600_000))
    assert read_blob(client, fake) == DATA
    assert len(blob_requests(fake)) == 2


def test_breaks_without_progress_end_in_an_error(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(cut(0, times=1000))
    with pytest.raises(RegistryError, match=f"read blob {BLOB.digest} of {fake.host}/a: .*broke off") as caught:
        read_blob(client, fake)
    assert caught.value.retryable
    assert len(blob_requests(fake)) < 40


def test_an_early_end_without_a_length_is_seen(fake: FakeRegistry, client: RegistryClient) -> None:
    short = b"%x\r\n" % 1000 + DATA[:1000] + b"\r\n0\r\n\r\n"
    chunked = Reply(body=short, headers={"Transfer-Encoding": "chunked"})
    fake.faults.append(Fault(is_request("GET", "/blobs/"), chunked))
    assert read_blob(client, fake) == DATA
    assert blob_requests(fake) == [None, "bytes=1000-"]


def test_other_bytes_are_refused(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.blobs["a", str(BLOB.digest)] = DATA[:-1] + b"!"
    with pytest.raises(DigestMismatch, match=f"blob {BLOB.digest} of {fake.host}/a"):
        read_blob(client, fake)


def test_an_endless_blob_is_refused(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.blobs["a", str(BLOB.digest)] = DATA * 3
    with pytest.raises(SizeMismatch):
        read_blob(client, fake)


def test_a_range_that_starts_elsewhere_is_refused(fake: FakeRegistry, client: RegistryClient) -> None:
    wrong = Reply(206, DATA[9:], {"Content-Range": f"bytes 900000-{len(DATA)}/{len(DATA)}"})
    fake.faults.extend([cut(500), Fault(is_request("GET", "/blobs/"), wrong)])
    with pytest.raises(RegistryError, match="other bytes than were asked for"):
        read_blob(client, fake)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_a_blob_is_read_alone(ranges: bool, fake: FakeRegistry, client: RegistryClient) -> None:
    fake.behaviour.ranges = ranges
    place = reference(fake).repository
    assert client.read_range(place, BLOB, 500_000, 1000) == DATA[500_000:501_000]
    assert client.read_range(place, replace(BLOB, data=DATA), 5, 3) == DATA[5:8]


def test_a_part_that_breaks_is_read_again_a_few_times(fake: FakeRegistry, client: RegistryClient) -> None:
    place = reference(fake).repository
    fake.faults.append(cut(10, times=2))
    assert client.read_range(place, BLOB, 500_000, 1000) == DATA[500_000:501_000]
    fake.faults.append(cut(10, times=1000))
    with pytest.raises(RegistryError, match="read blob"):
        client.read_range(place, BLOB, 500_000, 1000)
    elsewhere = Reply(206, DATA[:9], {"Content-Range": "bytes 600000-600008/1048576"})
    fake.faults[:] = [Fault(is_request("GET", "/blobs/"), elsewhere)]
    with pytest.raises(RegistryError, match="other bytes than were asked for"):
        client.read_range(place, BLOB, 500_000, 9)


def test_a_range_that_says_nothing_is_refused(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(Fault(is_request("GET", "/blobs/"), Reply(206, DATA)))
    with pytest.raises(RegistryError, match="206 without a Content-Range"):
        read_blob(client, fake)


def test_a_missing_blob_is_not_found(fake: FakeRegistry, client: RegistryClient) -> None:
    with pytest.raises(NotFound, match="BLOB_UNKNOWN"):
        read_blob(client, fake, replace(BLOB, digest=Digest.of(b"")))


def test_embedded_data_needs_no_request(fake: FakeRegistry, client: RegistryClient) -> None:
    assert read_blob(client, fake, replace(BLOB, data=DATA)) == DATA
    assert fake.log == []


def test_a_foreign_layer_comes_from_the_first_address_that_has_it(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.blobs.clear()
    with serve(replies(Reply(404))) as empty, serve(replies(Reply(body=DATA))) as vendor:
        foreign = replace(BLOB, media_type=mediatypes.DOCKER_FOREIGN_LAYER, urls=(empty.url, vendor.url))
        assert read_blob(client, fake, foreign) == DATA
        fake.add_blob("a", DATA)
        assert read_blob(client, fake, replace(foreign, urls=(empty.url,))) == DATA


def test_a_blob_store_gets_no_credential(client: RegistryClient) -> None:
    with serve(replies(Reply(body=b'{"token": "pl4nted"}'))) as tokens, serve(replies(Reply(body=DATA))) as store:
        behaviour = Behaviour(tokens={"pl4nted"}, realm=tokens.url)
        away = Reply(307, headers={"Location": f"{store.url}/blob?X-Amz-Signature=s1gned"})
        with run_fake(behaviour) as fake:
            fake.server.respond = lambda seen: away if _let_in(seen.headers) else fake.respond(seen)  # type: ignore[union-attr]
            assert read_blob(client, fake) == DATA
        assert fake.log[-1].headers["authorization"] == "Bearer pl4nted"
        assert "pl4nted" not in str(store.log[0].headers)


def _let_in(headers: object) -> bool:
    return "Bearer pl4nted" in str(headers)


@pytest.mark.parametrize("digest", [None, "sha256:" + "0" * 64, "sha512:" + "0" * 128, "nonsense"])
def test_the_bytes_decide_not_the_digest_header(digest: str | None, fake: FakeRegistry, client: RegistryClient) -> None:
    image = random_image(1)
    fake.add_manifest("a", "1", image.manifest.raw, image.manifest.media_type)
    fake.behaviour.digest_header = lambda _: digest
    assert client.get_manifest(reference(fake)).digest == image.manifest.digest
    assert client.get_manifest(reference(fake).with_digest(image.manifest.digest)).raw == image.manifest.raw


def test_head_asks_for_the_bytes_where_the_headers_are_not_whole(fake: FakeRegistry, client: RegistryClient) -> None:
    image = random_image(1)
    fake.add_manifest("a", "1", image.manifest.raw, image.manifest.media_type)
    assert client.head_manifest(reference(fake)) == image.manifest.descriptor
    assert fake.lines("GET") == []
    fake.behaviour.digest_header = lambda _: None
    assert client.head_manifest(reference(fake)) == image.manifest.descriptor
    fake.behaviour = Behaviour(content_type=lambda _: None)
    assert client.head_manifest(reference(fake)) == image.manifest.descriptor
    assert client.head_manifest(reference(fake, "a:none")) is None


@pytest.mark.parametrize("tag", ["1", None])
def test_a_manifest_of_other_bytes_is_refused_by_digest(
    tag: str | None, fake: FakeRegistry, client: RegistryClient
) -> None:
    image, other = random_image(1), random_image(2)
    fake.manifests["a", str(image.manifest.digest)] = (other.manifest.media_type, other.manifest.raw)
    wanted = replace(reference(fake).with_digest(image.manifest.digest), tag=tag)
    with pytest.raises(DigestMismatch, match=f"manifest {fake.host}/a@{image.manifest.digest}"):
        client.get_manifest(wanted)


@pytest.mark.parametrize("header", [None, "text/plain", "application/json; charset=utf-8", "APPLICATION/X; a=b"])
def test_the_body_says_what_a_manifest_is_when_the_header_does_not(
    header: str | None, fake: FakeRegistry, client: RegistryClient
) -> None:
    image = random_image(1)
    value = json.loads(image.manifest.raw)
    del value["mediaType"]
    for tag, document in (("1", image.manifest.raw), ("2", json.dumps(value).encode())):
        fake.add_manifest("a", tag, document, "x")
    fake.behaviour.content_type = lambda _: header
    assert isinstance(client.get_manifest(reference(fake)), Manifest)
    assert client.get_manifest(reference(fake, "a:2")).media_type == mediatypes.OCI_MANIFEST


def test_docker_lists_are_read(fake: FakeRegistry, client: RegistryClient) -> None:
    image = random_image(1)
    index = Index.build(media_type=mediatypes.DOCKER_MANIFEST_LIST, manifests=(image.descriptor,))
    fake.add_manifest("a", "1", index.raw, index.media_type)
    found = client.get_manifest(reference(fake))
    assert isinstance(found, Index)
    assert found.manifests[0].digest == image.manifest.digest


def test_schema_1_is_refused_with_a_reason(fake: FakeRegistry, client: RegistryClient) -> None:
    raw = b'{"schemaVersion": 1, "name": "a", "fsLayers": [], "signatures": []}'
    fake.add_manifest("a", "1", raw, mediatypes.DOCKER_MANIFEST_V1_SIGNED)
    with pytest.raises(MalformedDocument, match="schema 1") as caught:
        client.get_manifest(reference(fake))
    assert caught.value.hint is not None


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"{}", b'{"schemaVersion": 2, "config": 3}'])
def test_what_is_no_manifest_is_named(raw: bytes, fake: FakeRegistry, client: RegistryClient) -> None:
    fake.add_manifest("a", "1", raw, mediatypes.OCI_MANIFEST)
    with pytest.raises(MalformedDocument, match=f"manifest {fake.host}/a:1"):
        client.get_manifest(reference(fake))


def test_a_manifest_of_any_size_is_not_swallowed(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.add_manifest("a", "1", b" " * (4 * 1024 * 1024 + 1), mediatypes.OCI_MANIFEST)
    with pytest.raises(SizeMismatch):
        client.get_manifest(reference(fake))


def test_a_manifest_that_breaks_is_read_again(fake: FakeRegistry, client: RegistryClient) -> None:
    image = random_image(1)
    fake.add_manifest("a", "1", image.manifest.raw, image.manifest.media_type)
    broken = Reply(body=image.manifest.raw, cut=100, reset=False)
    fake.faults.append(Fault(is_request("GET", "/manifests/"), broken, times=3))
    assert client.get_manifest(reference(fake)).digest == image.manifest.digest
    fake.faults.append(Fault(is_request("GET", "/manifests/"), broken, times=1000))
    with pytest.raises(RegistryError, match=r"read manifest .*broke off"):
        client.get_manifest(reference(fake))


def test_a_childs_size_is_checked(fake: FakeRegistry, client: RegistryClient) -> None:
    image = random_image(1)
    fake.add_manifest("a", "1", image.manifest.raw, image.manifest.media_type)
    store = RegistryStore(client, reference(fake))
    assert store.child(image.descriptor).raw == image.manifest.raw
    with pytest.raises(SizeMismatch):
        store.child(replace(image.descriptor, size=1))
    asked = len(fake.log)
    assert store.child(replace(image.descriptor, data=image.manifest.raw)).raw == image.manifest.raw
    assert len(fake.log) == asked


def test_what_is_missing_is_not_found(fake: FakeRegistry, client: RegistryClient) -> None:
    with pytest.raises(NotFound) as caught:
        client.get_manifest(reference(fake))
    assert str(caught.value) == f"read manifest {fake.host}/a:1: 404 MANIFEST_UNKNOWN: scripted"
    assert caught.value.codes == ("MANIFEST_UNKNOWN",)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_is_down_is_tried_a_few_times(status: int, fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(Fault(is_request("GET", "/manifests/"), Reply(status, b"down"), times=1000))
    with pytest.raises(KobuildError) as caught:
        client.get_manifest(reference(fake))
    assert isinstance(caught.value, RegistryError)
    assert caught.value.retryable
    assert len(fake.log) == 5
