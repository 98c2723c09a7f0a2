"""Headers and bodies that no registry should send: never a crash, never a secret in what is said of them."""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kobuild.errors import KobuildError, RegistryError
from kobuild.image.mutate import gather
from kobuild.oci.reference import Reference
from kobuild.registry.auth import _parse_token
from kobuild.registry.failures import parse_errors
from kobuild.registry.pull import _described
from kobuild.registry.sessions import chunk_bytes, stored_bytes
from kobuild.transport import parse_retry_after
from tests.support.fakeregistry import Behaviour, FakeRegistry, Fault, is_request, run_fake
from tests.support.images import random_image
from tests.support.scripted import Reply, Seen, serve
from tests.unit.registry.conftest import make_client

HEADER = st.text(alphabet=st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=40)
NUMBERS = st.sampled_from(["0-²", "²", "0-", "-", "bytes 0-²/5", "0", "12", "Fri, 31 Dec 99999999999 23:59:59 GMT"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=10,
)


@given(HEADER | NUMBERS)
def test_headers_of_any_kind_are_read_or_passed_by(value: str) -> None:
    stored_bytes(value)
    assert chunk_bytes(value) > 0
    parse_retry_after(value, 0.0)
    _described({"Docker-Content-Digest": value, "Content-Length": value, "Content-Type": value})


@given(JSON)
def test_error_bodies_of_any_kind_are_read_or_passed_by(value: object) -> None:
    for document in (value, {"errors": value}, {"errors": [value]}, {"errors": [{"code": value, "message": value}]}):
        codes, texts = parse_errors(json.dumps(document).encode())
        assert all(text.isprintable() for text in (*codes, *texts))


@given(JSON)
def test_tokens_of_any_kind_are_taken_or_refused(value: object) -> None:
    for document in (value, {"token": value}, {"token": "t", "expires_in": value}):
        try:
            token = _parse_token(json.dumps(document).encode(), "token", 0.0)
        except RegistryError:
            continue
        assert 0 <= token.stale_at < 10**9
        assert token.header.isascii()


@pytest.mark.parametrize("token", ["pl4nted\r\nX-Evil: 1", "pl4nted token", "pl4ntéd", "pl4nted\n", ""])
def test_a_token_that_cannot_be_a_header_is_refused_and_not_shown(token: str) -> None:
    with (
        serve(lambda _: Reply(200, json.dumps({"token": token}).encode())) as tokens,
        run_fake(Behaviour(tokens={"x"}, realm=tokens.url)) as fake,
        pytest.raises(RegistryError, match="there is no token in the answer") as caught,
    ):
        make_client().get_manifest(Reference.parse(f"{fake.host}/a:1"))
    assert "pl4nt" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("realm", ["http://[::1", "nonsense", "ftp://x", "//", "https://a:b/"])
def test_a_token_server_at_no_address_is_an_error(realm: str) -> None:
    with run_fake(Behaviour(tokens={"x"}, realm=realm)) as fake, pytest.raises(RegistryError, match="log in to"):
        make_client().get_manifest(Reference.parse(f"{fake.host}/a:1"))


@pytest.mark.parametrize("location", ["http://[::1", "http://a:b/", "ftp://x/", "http://elsewhere.example/"])
def test_an_upload_at_no_address_is_an_error(location: str) -> None:
    with run_fake(Behaviour(location=lambda _: location)) as fake, pytest.raises(RegistryError, match="push blob"):
        make_client().push(gather([random_image(1)]), [Reference.parse(f"{fake.host}/a:1")])


@pytest.mark.parametrize("location", ["http://[::1", "http://a:b/", "http://elsewhere.example/"])
def test_a_redirect_to_no_address_is_an_error(location: str) -> None:
    with run_fake() as fake:
        fake.faults.append(Fault(is_request("GET", "/manifests/"), Reply(307, headers={"Location": location}), times=9))
        with pytest.raises(RegistryError, match="read manifest"):
            make_client().get_manifest(Reference.parse(f"{fake.host}/a:1"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_push_to_a_registry_of_strange_headers_ends_in_words(data: st.DataObject, fake: FakeRegistry) -> None:
    strange = data.draw(st.sampled_from(_NAMES))
    value = data.draw((HEADER | NUMBERS).map(str.strip))
    part = data.draw(st.sampled_from(["/manifests/", "/uploads/", "/blobs/sha256", "/v2/"]))
    handled = fake.respond

    def respond(seen: Seen) -> Reply:
        reply = handled(seen)
        return Reply(reply.status, reply.body, {**reply.headers, strange: value}) if part in seen.target else reply

    assert fake.server is not None
    fake.server.respond = respond
    image = random_image(1, count=1)
    with contextlib.suppress(KobuildError):
        make_client().push(gather([image]), [Reference.parse(f"{fake.host}/a:1")])
        assert make_client().get_manifest(Reference.parse(f"{fake.host}/a:1")).raw == image.manifest.raw
    fake.server.respond = handled
    fake.manifests.clear()
    fake.blobs.clear()
    fake.uploads.clear()


_NAMES = [
    "Location",
    "Range",
    "Content-Range",
    "Docker-Content-Digest",
    "OCI-Chunk-Min-Length",
    "WWW-Authenticate",
    "Retry-After",
    "Content-Type",
    "Link",
]


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with run_fake() as running:
        yield running
