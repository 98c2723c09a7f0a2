from __future__ import annotations

from collections.abc import Iterator

import pytest

from kobuild.errors import InvalidReference, NotFound
from kobuild.image.mutate import gather
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Reference
from kobuild.registry import AnonymousKeychain, MirrorRule, Mirrors, RegistryClient
from kobuild.transport import Transport
from tests.support.fakeregistry import FakeRegistry, run_fake
from tests.support.images import random_image
from tests.support.recorders import HeldClock

DATA = b"a blob" * 1000
BLOB = Descriptor("x/y", Digest.of(DATA), len(DATA))
IMAGE = random_image(1)


@pytest.fixture
def original() -> Iterator[FakeRegistry]:
    with run_fake() as running:
        running.add_manifest("team/a", "1", IMAGE.manifest.raw, IMAGE.manifest.media_type)
        running.add_blob("team/a", DATA)
        yield running


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    with run_fake() as running:
        running.add_manifest("proxy/team/a", "1", IMAGE.manifest.raw, IMAGE.manifest.media_type)
        running.add_blob("proxy/team/a", DATA)
        yield running


def client(original: FakeRegistry, mirror: FakeRegistry, *, only: bool = False) -> RegistryClient:
    mirrors = Mirrors.of({original.host: [f"{mirror.host}/proxy"]}, only=only)
    transport = Transport(clock=HeldClock(), certs=(), max_attempts=1)
    return RegistryClient(transport, AnonymousKeychain(), mirrors=mirrors)


def read(reader: RegistryClient, original: FakeRegistry) -> tuple[Digest, bytes, bool]:
    where = Reference.parse(f"{original.host}/team/a:1")
    head = reader.head_manifest(where)
    assert head is not None
    assert reader.get_manifest(where).digest == head.digest
    assert reader.read_range(where.repository, BLOB, 5, 7) == DATA[5:12]
    with reader.open_blob(where.repository, BLOB) as blob:
        return head.digest, blob.read(), reader.has_blob(where.repository, BLOB)


def test_a_mirror_is_read_and_the_original_left_alone(original: FakeRegistry, mirror: FakeRegistry) -> None:
    assert read(client(original, mirror), original) == (IMAGE.manifest.digest, DATA, True)
    assert original.log == []


def test_what_a_mirror_lacks_comes_from_the_original(original: FakeRegistry, mirror: FakeRegistry) -> None:
    mirror.manifests.clear()
    mirror.blobs.clear()
    assert read(client(original, mirror), original) == (IMAGE.manifest.digest, DATA, True)
    assert len(original.log) == 5


def test_a_mirror_that_is_down_or_wrong_is_passed_by(original: FakeRegistry, mirror: FakeRegistry) -> None:
    reader = client(original, mirror)
    mirror.manifests["proxy/team/a", "1"] = ("text/html", b"<html>log in to the hotel's network")
    assert reader.get_manifest(Reference.parse(f"{original.host}/team/a:1")).raw == IMAGE.manifest.raw
    assert mirror.server is not None
    mirror.server.close()
    assert read(client(original, mirror), original) == (IMAGE.manifest.digest, DATA, True)


def test_an_original_may_be_out_of_bounds(original: FakeRegistry, mirror: FakeRegistry) -> None:
    reader = client(original, mirror, only=True)
    assert read(reader, original) == (IMAGE.manifest.digest, DATA, True)
    with pytest.raises(NotFound, match=f"read manifest {mirror.host}/proxy/team/b:1"):
        reader.get_manifest(Reference.parse(f"{original.host}/team/b:1"))
    assert original.log == []


def test_a_push_goes_where_it_is_sent(original: FakeRegistry, mirror: FakeRegistry) -> None:
    client(original, mirror).push(gather([IMAGE]), [Reference.parse(f"{original.host}/team/new:1")])
    assert ("team/new", "1") in original.manifests
    assert mirror.log == []


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("debian", ["hub.lan/library/debian", "docker.io/library/debian"]),
        ("docker.io/team/a", ["hub.lan/team/a", "docker.io/team/a"]),
        ("quay.io/special/a/b", ["special.lan/x/a/b"]),
        ("quay.io/special", ["special.lan/x"]),
        ("quay.io/specialist/a", ["quay.lan/specialist/a", "quay2.lan:5000/specialist/a", "quay.io/specialist/a"]),
        ("ghcr.io/a/b", ["ghcr.io/a/b"]),
    ],
)
def test_the_longest_rule_counts(name: str, places: list[str]) -> None:
    mirrors = Mirrors(
        (
            MirrorRule("docker.io", ("hub.lan",)),
            MirrorRule("quay.io", ("quay.lan/", "quay2.lan:5000")),
            MirrorRule("quay.io/special", ("special.lan/x",), only=True),
        )
    )
    assert [str(place) for place in mirrors.places(Reference.parse(name).repository)] == places


def test_a_place_that_makes_no_name_is_refused() -> None:
    with pytest.raises(InvalidReference):
        Mirrors.of({"docker.io": ["https://hub.lan"]}).places(Reference.parse("debian").repository)
