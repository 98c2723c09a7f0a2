"""The known behaviours of registries that cannot be run here, played over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kobuild.errors import AuthError, DigestMismatch, PushRefused, RegistryError
from kobuild.image.blobs import BytesSource, Layer
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import OCI_LAYER
from kobuild.oci.reference import Reference
from kobuild.registry import PushResult, RegistryClient, sessions
from kobuild.registry.endpoints import resolve_location, with_query
from kobuild.registry.hints import hint_for
from kobuild.registry.sessions import chunk_bytes, stored_bytes
from tests.support.fakeregistry import Behaviour, FakeRegistry, Fault, is_request, run_fake
from tests.support.images import make_image, random_image
from tests.support.recorders import RecordingReporter
from tests.support.scripted import Reply, Seen, serve
from tests.unit.registry.conftest import make_client

CHUNK_BYTES = 256 * 1024
"""Chunks are this small here, so that blobs of several need not be large."""
BIG = bytes(2 * CHUNK_BYTES + 12345)
"""More than two chunks."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "CHUNK_BYTES", CHUNK_BYTES)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with run_fake() as running:
        yield running


def target(fake: FakeRegistry, tag: str = "1") -> Reference:
    return Reference.parse(f"{fake.host}/team/app:{tag}")


def push(client: RegistryClient, fake: FakeRegistry, image: Image) -> PushResult:
    """Push, and check that all that the manifest names is there."""
    result = client.push(gather([image]), [target(fake)])
    assert fake.manifests["team/app", "1"][1] == image.manifest.raw
    for blob in image.blobs:
        assert Digest.of(fake.blobs["team/app", str(blob.descriptor.digest)]) == blob.descriptor.digest
    assert fake.uploads == {}
    return result


def big_image(data: bytes = BIG) -> Image:
    digest = Digest.of(data)
    return make_image([Layer(Descriptor(OCI_LAYER, digest, len(data)), BytesSource(data), digest)])


def held_elsewhere(image: Image, fake: FakeRegistry) -> Image:
    """`image` with its layers in another repository of the registry."""
    place = Reference.parse(f"{fake.host}/library/base").repository
    for layer in image.layers:
        with layer.source.open() as reader:
            fake.add_blob("library/base", reader.read())
    return make_image([Layer(layer.descriptor, _in(layer, place), layer.diff_id) for layer in image.layers])


def _in(layer: Layer, place: object) -> BytesSource:
    assert isinstance(layer.source, BytesSource)
    return BytesSource(layer.source.data, place)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "location",
    [
        "{path}",
        "http://{host}{path}",
        "http://{host}{path}?_state=abc%2Bdef%3D%3D&x=1",
        "{path}?",
    ],
    ids=["relative", "absolute", "with a query", "with an empty query"],
)
def test_locations_of_every_form(location: str, fake: FakeRegistry, client: RegistryClient) -> None:
    fake.behaviour.location = lambda path: location.format(host=fake.host, path=path)
    assert push(client, fake, random_image(1)).uploaded == 3
    puts = [seen for seen in fake.log if seen.method == "PUT" and "/uploads/" in seen.path]
    if "_state" in location:
        assert all(seen.query["_state"] == "abc+def==" for seen in puts)
    assert all(seen.query["digest"].startswith("sha256:") for seen in puts)


def test_a_token_does_not_go_along_to_uploads_on_another_host() -> None:
    with serve(lambda _: Reply(200, b'{"token": "pl4nted"}')) as tokens, run_fake() as store:
        behaviour = Behaviour(tokens={"pl4nted"}, realm=tokens.url, location=lambda path: f"{store.url}{path}")
        with run_fake(behaviour) as fake:
            store.uploads = fake.uploads
            store.blobs = fake.blobs
            push(make_client(), fake, random_image(1))
    puts = [seen for seen in store.log if seen.method == "PUT"]
    assert len(puts) == 3
    assert all("authorization" not in seen.headers for seen in puts)


def is_whole_put(seen: Seen) -> bool:
    """Whether a request carries the whole of a big blob."""
    return seen.method == "PUT" and len(seen.body) == len(BIG)


@pytest.mark.parametrize("status", [202, 400, 401, 403, 404, 405])
def test_a_mount_that_is_refused_becomes_an_upload(status: int, fake: FakeRegistry, client: RegistryClient) -> None:
    image = held_elsewhere(random_image(1, count=2), fake)
    fake.behaviour.mount = status
    result = push(client, fake, image)
    assert (result.mounted, result.uploaded) == (0, 3)
    opened = [line for line in fake.lines("POST") if "/uploads/" in line]
    if status == 202:
        assert len(opened) == 3, "the upload that the registry opened instead is used"


def test_a_blob_that_is_there_and_cannot_be_mounted_is_not_sent(fake: FakeRegistry, client: RegistryClient) -> None:
    image = held_elsewhere(random_image(1, count=2), fake)
    fake.behaviour.mount = 202
    for layer in image.layers:
        fake.add_blob("team/app", fake.blobs["library/base", str(layer.descriptor.digest)])
    assert push(client, fake, image).existing == 2


def test_a_large_blob_goes_as_one_request(fake: FakeRegistry, client: RegistryClient) -> None:
    assert push(client, fake, big_image()).bytes_sent < len(BIG) + 1000
    assert fake.lines("PATCH") == []


def test_a_gateway_that_cuts_long_requests_is_passed_in_chunks(fake: FakeRegistry) -> None:
    reporter = RecordingReporter()
    client = make_client(reporter=reporter)
    fake.behaviour.gateway_bytes = CHUNK_BYTES + 1000
    push(client, fake, big_image())
    starts = [seen.headers["content-range"].partition("-")[0] for seen in fake.log if seen.method == "PATCH"]
    assert starts == [str(CHUNK_BYTES + 1000), str(2 * CHUNK_BYTES + 1000)], "nothing that was kept is sent again"
    assert any("going on in" in notice for notice in reporter.notices)


def test_chunks_are_as_large_as_the_registry_asks(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.behaviour.least_chunk = CHUNK_BYTES + 5
    fake.faults.append(Fault(is_whole_put, Reply(drop=True)))
    push(client, fake, big_image())
    sizes = [len(seen.body) for seen in fake.log if seen.method == "PATCH"]
    assert sizes == [CHUNK_BYTES + 5, CHUNK_BYTES + 5, len(BIG) - 2 * (CHUNK_BYTES + 5)]


def test_a_chunk_that_breaks_is_sent_again_from_the_registrys_own_count(
    fake: FakeRegistry, client: RegistryClient
) -> None:
    fake.faults.append(Fault(is_whole_put, Reply(drop=True)))
    fake.faults.append(Fault(is_request("PATCH", "/uploads/"), Reply(drop=True), done=True))
    fake.faults.append(Fault(is_request("PATCH", "/uploads/"), Reply(503)))
    push(client, fake, big_image())
    stored = [seen.headers["content-range"] for seen in fake.log if seen.method == "PATCH"]
    assert stored[0].startswith("0-")
    assert stored[1].startswith(f"{CHUNK_BYTES}-")
    assert stored[1] == stored[2]


def test_a_registry_that_forgot_the_upload_gets_a_new_one(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(Fault(is_whole_put, Reply(drop=True)))
    fake.faults.append(Fault(is_request("GET", "/uploads/"), Reply(404)))
    push(client, fake, big_image())
    assert len([line for line in fake.lines("POST") if line.endswith("/uploads/")]) == 3


def test_a_registry_without_chunks_gets_the_whole_again(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.behaviour.chunks = False
    fake.faults.append(Fault(is_whole_put, Reply(drop=True)))
    push(client, fake, big_image())


def test_a_proxy_that_refuses_large_bodies_is_passed_in_small_chunks(
    fake: FakeRegistry, client: RegistryClient
) -> None:
    fake.behaviour.largest_body = CHUNK_BYTES // 3
    push(client, fake, big_image())
    assert max(len(seen.body) for seen in fake.log if seen.method == "PATCH") == CHUNK_BYTES // 4


def test_an_upload_that_never_works_ends(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(Fault(is_request("PUT", "/uploads/"), Reply(503, b"down"), times=10_000))
    with pytest.raises(RegistryError, match=r"push blob sha256:\w+ to .*503"):
        push(client, fake, random_image(1))
    assert fake.uploads == {}, "what was opened is dropped"
    assert len([line for line in fake.lines("PUT") if "/uploads/" in line]) < 30


@pytest.mark.parametrize("part", ["/blobs/uploads/", "/manifests/"])
def test_a_lost_answer_is_looked_up(part: str, fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(Fault(is_request("PUT", part), Reply(drop=True), done=True))
    result = push(client, fake, random_image(1))
    assert result.uploaded == 3


def test_a_lost_answer_of_a_registry_whose_tags_do_not_move(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.behaviour.immutable = True
    fake.faults.append(Fault(is_request("PUT", "/manifests/"), Reply(drop=True), done=True))
    image = random_image(1)
    push(client, fake, image)
    assert fake.lines("PUT").count("PUT /v2/team/app/manifests/1") == 2, "the second was refused, and that is well"
    assert push(client, fake, image).unchanged == (target(fake),)
    with pytest.raises(PushRefused, match="the tag 1 already exists and cannot be overwritten") as caught:
        client.push(gather([random_image(2)]), [target(fake)])
    assert "choose a new tag" in str(caught.value.hint)


@pytest.mark.parametrize("status", [400, 404])
def test_a_blob_that_the_registry_does_not_see_yet_is_waited_for(status: int, fake: FakeRegistry) -> None:
    reporter = RecordingReporter()
    body = json.dumps({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown to registry"}]}).encode()
    fake.faults.append(Fault(is_request("PUT", "/manifests/"), Reply(status, body), times=2))
    push(make_client(reporter=reporter), fake, random_image(1))
    assert sum("blob unknown" in notice for notice in reporter.notices) == 2
    fake.faults.append(Fault(is_request("PUT", "/manifests/"), Reply(status, body), times=9))
    with pytest.raises(RegistryError, match="blob unknown to registry"):
        push(make_client(), fake, random_image(2))
    assert fake.faults[-1].times == 5, "it was asked four times"


def test_a_token_that_ends_in_the_middle_is_renewed() -> None:
    numbers = iter(range(1000))

    def issue(_: Seen) -> Reply:
        renewing.behaviour.tokens = {f"token{next(numbers)}"}
        return Reply(200, json.dumps({"access_token": next(iter(renewing.behaviour.tokens))}).encode())

    with serve(issue) as tokens, run_fake(Behaviour(tokens=set(), realm=tokens.url)) as renewing:
        handled = renewing.respond

        def respond(seen: Seen) -> Reply:
            if seen.method == "PUT" and "/manifests/" in seen.path and len(tokens.log) == 1:
                renewing.behaviour.tokens = set()
            return handled(seen)

        assert renewing.server is not None
        renewing.server.respond = respond
        push(make_client(), renewing, random_image(1))
        assert len(tokens.log) == 2


def test_a_login_that_never_works_ends(fake: FakeRegistry, client: RegistryClient) -> None:
    with serve(lambda _: Reply(200, b'{"token": "useless"}')) as tokens:
        fake.behaviour.tokens, fake.behaviour.realm = {"other"}, tokens.url
        with pytest.raises(AuthError, match="401 Unauthorized"):
            push(client, fake, random_image(1))
        assert len(tokens.log) <= 3


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"token": 5}', b"<html>pl4nted"])
def test_a_token_server_that_talks_nonsense(answer: bytes, fake: FakeRegistry, client: RegistryClient) -> None:
    with serve(lambda _: Reply(200, answer)) as tokens:
        fake.behaviour.tokens, fake.behaviour.realm = {"other"}, tokens.url
        with pytest.raises(RegistryError, match=f"token from {tokens.url}") as caught:
            client.get_manifest(target(fake))
    assert "pl4nted" not in str(caught.value)


@pytest.mark.parametrize(
    "challenge", ["", "Negotiate", 'Digest realm="x"', "Bearer", 'Bearer service="no realm"', "%%%"]
)
def test_a_login_of_an_unknown_kind_is_said_so(challenge: str, fake: FakeRegistry, client: RegistryClient) -> None:
    refusal = Reply(401, headers={"WWW-Authenticate": challenge} if challenge else {})
    fake.faults.append(Fault(lambda _: True, refusal, times=100))
    with pytest.raises(AuthError, match="a login of a kind that is not known here"):
        client.get_manifest(target(fake))


def test_a_look_that_is_denied_before_the_first_push_is_no_refusal(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(Fault(lambda seen: seen.method == "HEAD", Reply(403), times=4))
    assert push(client, fake, random_image(1)).uploaded == 3


def test_a_registry_that_stores_something_else_is_caught(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.behaviour.digest_header = lambda _: "sha256:" + "0" * 64
    with pytest.raises(DigestMismatch, match="push manifest"):
        client.push(gather([random_image(1)]), [target(fake)])


def test_the_first_failure_stops_the_rest(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(Fault(is_request("POST", "/uploads/"), Reply(400, b"no"), times=1000))
    with pytest.raises(PushRefused):
        client.push(gather([random_image(1, count=40)]), [target(fake)])
    assert len(fake.lines("POST")) < 20
    assert fake.manifests == {}


@pytest.mark.parametrize("stored", ["0-9", "0-99999999"])
def test_a_count_that_is_not_ours_is_no_success(stored: str, fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(Fault(is_whole_put, Reply(drop=True)))
    fake.faults.append(Fault(is_request("PATCH", "/uploads/"), Reply(202, headers={"Range": stored}), times=3))
    push(client, fake, big_image())


@pytest.mark.parametrize("status", [401, 500])
def test_a_look_that_fails_is_no_missing_blob(status: int, fake: FakeRegistry, client: RegistryClient) -> None:
    refusal = Reply(status, headers={"WWW-Authenticate": 'Basic realm="x"'})
    fake.faults.append(Fault(is_request("HEAD", "/blobs/"), refusal, times=1000))
    with pytest.raises(RegistryError, match=r"log in to|look for blob"):
        client.push(gather([random_image(1)]), [target(fake)])
    assert fake.lines("POST") == []


def test_a_mount_that_fails_for_good_becomes_an_upload(fake: FakeRegistry, client: RegistryClient) -> None:
    image = held_elsewhere(random_image(1, count=2), fake)
    fake.faults.append(Fault(is_request("POST", "mount="), Reply(500), times=1000))
    assert push(client, fake, image).uploaded == 3


def test_a_mount_that_nobody_answers_ends_the_push(fake: FakeRegistry, client: RegistryClient) -> None:
    image = held_elsewhere(random_image(1, count=2), fake)
    fake.faults.append(Fault(is_request("POST", "mount="), Reply(drop=True), times=1000))
    with pytest.raises(RegistryError, match="push blob"):
        client.push(gather([image]), [target(fake)])


def test_an_upload_without_a_place_is_an_error(fake: FakeRegistry, client: RegistryClient) -> None:
    fake.faults.append(Fault(is_request("POST", "/uploads/"), Reply(202), times=1000))
    with pytest.raises(RegistryError, match="did not say where"):
        client.push(gather([random_image(1)]), [target(fake)])


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/v2/a/blobs/uploads/1", "https://r.example/v2/a/blobs/uploads/1"),
        ("https://store.example/x?y=1", "https://store.example/x?y=1"),
        ("http://r.example/v2/x?y=1", "https://r.example/v2/x?y=1"),
        ("http://r.example:80/v2/x", "https://r.example/v2/x"),
        ("http://other.example/x", "http://other.example/x"),
        ("2", "https://r.example/v2/a/blobs/uploads/2"),
    ],
)
def test_where_a_location_leads(location: str, expected: str) -> None:
    assert resolve_location("https://r.example", "https://r.example/v2/a/blobs/uploads/", location) == expected


def test_queries_are_added_to() -> None:
    assert with_query("https://a/b", "c=d") == "https://a/b?c=d"
    assert with_query("https://a/b?x=%2B", "c=d") == "https://a/b?x=%2B&c=d"


@pytest.mark.parametrize(
    ("header", "count"),
    [
        (None, None),
        ("0-0", 0),
        ("0-1023", 1024),
        ("bytes=0-9", 10),
        ("5-9", None),
        ("", None),
        ("0-", None),
        ("0-" + "9" * 5000, None),
    ],
)
def test_ranges_say_what_is_stored(header: str | None, count: int | None) -> None:
    assert stored_bytes(header) == count


def test_the_size_of_chunks_is_bounded() -> None:
    assert chunk_bytes(None) == chunk_bytes("5") == chunk_bytes("lots") == CHUNK_BYTES
    assert chunk_bytes(str(CHUNK_BYTES + 1)) == CHUNK_BYTES + 1
    assert chunk_bytes("99999999999999") == 256 * 1024 * 1024
    assert chunk_bytes("9" * 5000) == CHUNK_BYTES


@pytest.mark.parametrize(
    ("name", "status", "word"),
    [
        ("debian", 401, "Docker Hub|docker login"),
        ("debian", 429, "limits pulls"),
        ("debian", 404, "private"),
        ("gcr.io/p/x", 403, "artifactregistry.writer"),
        ("europe-docker.pkg.dev/p/r/x", 401, "gcloud auth configure-docker europe-docker.pkg.dev"),
        ("europe-docker.pkg.dev/p/r/x", 404, "gcloud artifacts repositories create"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/x", 403, "get-login-password --region eu-west-1"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/x/y", 404, "create-repository --repository-name x/y"),
        ("mine.azurecr.io/x", 401, "az acr login --name mine"),
        ("ghcr.io/a/b", 403, "packages: write"),
        ("ghcr.io/a/b", 404, "check the name"),
        ("registry.gitlab.com/a/b", 403, "CI_JOB_TOKEN"),
        ("gitlab.corp.example:5050/a/b", 404, "container registry is switched on"),
        ("quay.io/a/b", 401, "NAMESPACE"),
        ("r.example/a", 401, "docker login r.example"),
        ("r.example/a", 403, "account"),
        ("r.example/a", 404, "check the name"),
        ("r.example/a", 429, "wait"),
    ],
)
def test_each_registrys_refusals_have_a_remedy(name: str, status: int, word: str) -> None:
    hint = hint_for(Reference.parse(name).repository, status) or ""
    assert any(part in hint for part in word.split("|"))


@pytest.mark.parametrize(
    ("name", "status"), [("r.example/a", 405), ("r.example/a", 500), ("r.example/a", None), ("quay.io/a/b", 404)]
)
def test_where_there_is_nothing_to_say_nothing_is_said(name: str, status: int | None) -> None:
    assert hint_for(Reference.parse(name).repository, status) is None
