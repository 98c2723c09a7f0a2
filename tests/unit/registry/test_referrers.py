from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kobuild.errors import MalformedDocument, PushRefused, RegistryError
from kobuild.image.blobs import Blob, BytesSource
from kobuild.image.image import ImageSet
from kobuild.image.mutate import gather
from kobuild.oci import mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference, Repository
from kobuild.registry import Artifact, RegistryClient
from kobuild.registry.referrers import fallback_tag
from tests.support.fakeregistry import Behaviour, FakeRegistry, Fault, is_request, run_fake
from tests.support.images import random_image
from tests.support.registry import DockerRegistry, skopeo
from tests.support.schemas import check_schema
from tests.support.scripted import Reply, Seen
from tests.unit.registry.conftest import make_client

SBOM = "application/spdx+json"
SIGNATURE = "application/vnd.example.signature"


def blob(data: bytes, media_type: str = SBOM) -> Blob:
    return Blob(Descriptor(media_type, Digest.of(data), len(data)), BytesSource(data))


def artifact(subject: Descriptor, kind: str = SBOM, content: bytes = b"content") -> Artifact:
    return Artifact.make(subject, kind, [blob(content)], {"org.example.note": content.decode()})


@pytest.fixture
def images() -> ImageSet:
    return gather([random_image(1)])


def place(registry: DockerRegistry | FakeRegistry, name: str) -> Repository:
    return Reference.parse(f"{registry.host}/{name}").repository


@pytest.fixture(params=[True, False], ids=["with the API", "by tag"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeRegistry]:
    with run_fake(Behaviour(referrers=request.param)) as running:
        yield running


def test_artifacts_are_found_by_what_they_refer_to(
    fake: FakeRegistry, client: RegistryClient, images: ImageSet
) -> None:
    client.push(images, [Reference(place(fake, "a"), "1")])
    referrers = client.referrers(place(fake, "a"))
    subject = images.descriptor.digest
    assert referrers.find(subject) == ()
    sbom, signature = artifact(images.descriptor), artifact(images.descriptor, SIGNATURE, b"signed")
    assert referrers.push(sbom) == sbom.descriptor
    referrers.push(signature)
    referrers.push(sbom)
    found = {item.digest: item for item in referrers.find(subject)}
    assert set(found) == {sbom.manifest.digest, signature.manifest.digest}
    assert found[sbom.manifest.digest].artifact_type == SBOM
    assert found[sbom.manifest.digest].annotations == {"org.example.note": "content"}
    assert [item.digest for item in referrers.find(subject, SIGNATURE)] == [signature.manifest.digest]
    assert (("a", fallback_tag(subject)) in fake.manifests) is not fake.behaviour.referrers


def test_referrers_are_copied_with_what_refers_to_them(
    fake: FakeRegistry, registry: DockerRegistry, name: str, client: RegistryClient, images: ImageSet
) -> None:
    client.push(images, [Reference(place(fake, "a"), "1"), Reference(place(registry, name), "1")])
    source, target = client.referrers(place(fake, "a")), client.referrers(place(registry, name))
    sbom = artifact(images.descriptor)
    source.push(sbom)
    signature = artifact(sbom.manifest.descriptor, SIGNATURE, b"of the sbom")
    source.push(signature)
    copied = source.copy_to(target, images.descriptor.digest)
    assert [item.digest for item in copied] == [sbom.manifest.digest, signature.manifest.digest]
    assert [item.digest for item in target.find(images.descriptor.digest)] == [sbom.manifest.digest]
    assert [item.digest for item in target.find(sbom.manifest.digest)] == [signature.manifest.digest]
    layer = sbom.manifest.layers[0]
    with client.open_blob(place(registry, name), layer) as reader:
        assert reader.read() == b"content"


def test_docker_registry_keeps_the_list_under_a_tag(
    registry: DockerRegistry, name: str, client: RegistryClient, images: ImageSet
) -> None:
    where = place(registry, name)
    client.push(images, [Reference(where, "1")])
    sbom = artifact(images.descriptor)
    client.referrers(where).push(sbom)
    tag = fallback_tag(images.descriptor.digest)
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{where}:{tag}")
    assert json.loads(raw)["manifests"] == [sbom.descriptor.to_json()]


def test_a_list_that_leaves_the_type_to_the_artifact(client: RegistryClient, images: ImageSet) -> None:
    """go-containerregistry lists what it attaches so; here without a type at all, and what is gone, too."""
    with run_fake() as fake:
        made = [artifact(images.descriptor, kind, kind.encode()) for kind in (SBOM, SIGNATURE)]
        plain = [Descriptor(item.descriptor.media_type, item.descriptor.digest, item.descriptor.size) for item in made]
        listed = [replace(plain[0], artifact_type=mediatypes.OCI_EMPTY), plain[1], random_image(9).descriptor]
        theirs = Index.build(media_type=mediatypes.OCI_INDEX, manifests=tuple(listed))
        fake.add_manifest("a", fallback_tag(images.descriptor.digest), theirs.raw, mediatypes.OCI_INDEX)
        for item in made:
            fake.add_manifest("a", str(item.descriptor.digest), item.manifest.raw, mediatypes.OCI_MANIFEST)
        referrers = client.referrers(place(fake, "a"))
        assert referrers.find(images.descriptor.digest) == tuple(item.descriptor for item in made)
        assert referrers.find(images.descriptor.digest, SBOM) == (made[0].descriptor,)
        assert referrers.find(images.descriptor.digest, "application/vnd.oci.empty.v1+json") == ()


def test_what_is_listed_and_cannot_be_read_is_listed(client: RegistryClient, images: ImageSet) -> None:
    with run_fake() as fake:
        broken = b'{"schemaVersion": 2}'
        listed = Descriptor(mediatypes.OCI_MANIFEST, Digest.of(broken), len(broken))
        theirs = Index.build(media_type=mediatypes.OCI_INDEX, manifests=(listed,))
        fake.add_manifest("a", fallback_tag(images.descriptor.digest), theirs.raw, mediatypes.OCI_INDEX)
        fake.add_manifest("a", str(listed.digest), broken, mediatypes.OCI_MANIFEST)
        assert client.referrers(place(fake, "a")).find(images.descriptor.digest) == (listed,)


def test_what_is_written_fits_the_schema(images: ImageSet) -> None:
    made = artifact(images.descriptor)
    check_schema(made.manifest.raw, "image-manifest-schema.json")
    assert made.manifest.subject is not None
    assert made.manifest.subject.digest == images.descriptor.digest
    assert made.manifest.config.media_type == mediatypes.OCI_EMPTY


def test_a_list_that_another_writer_overwrote_is_written_again(client: RegistryClient, images: ImageSet) -> None:
    theirs = Index.build(media_type=mediatypes.OCI_INDEX, manifests=(random_image(9).descriptor,))
    with run_fake() as fake:
        tag = fallback_tag(images.descriptor.digest)
        fake.add_manifest("a", "theirs", random_image(9).manifest.raw, mediatypes.OCI_MANIFEST)
        handled, rounds = fake.respond, iter(range(100))

        def respond(seen: Seen) -> Reply:
            reply = handled(seen)
            if seen.method == "PUT" and seen.path.endswith(tag) and next(rounds) < 2:
                fake.add_manifest("a", tag, theirs.raw, theirs.media_type)
            return reply

        assert fake.server is not None
        fake.server.respond = respond
        sbom = artifact(images.descriptor)
        client.referrers(place(fake, "a")).push(sbom)
        found = client.referrers(place(fake, "a")).find(images.descriptor.digest)
        assert [item.digest for item in found] == [random_image(9).descriptor.digest, sbom.manifest.digest]
        fake.server.respond = lambda seen: _always_theirs(seen, handled(seen), fake, theirs, tag)
        with pytest.raises(RegistryError, match="others overwrite it"):
            client.referrers(place(fake, "a")).push(artifact(images.descriptor, content=b"other"))


def _always_theirs(seen: Seen, reply: Reply, fake: FakeRegistry, theirs: Index, tag: str) -> Reply:
    if seen.method == "PUT" and seen.path.endswith(tag):
        fake.add_manifest("a", tag, theirs.raw, theirs.media_type)
    return reply


# Lists that are out of date


def gone_from(fake: FakeRegistry, repository: str, artifact: Artifact) -> None:
    del fake.manifests[repository, str(artifact.manifest.digest)]


def test_what_is_listed_and_gone_is_neither_found_nor_copied(client: RegistryClient, images: ImageSet) -> None:
    with run_fake() as fake:
        source, target = client.referrers(place(fake, "a")), client.referrers(place(fake, "b"))
        stale, fresh = artifact(images.descriptor, content=b"stale"), artifact(images.descriptor, content=b"fresh")
        source.push(stale)
        source.push(fresh)
        gone_from(fake, "a", stale)
        assert [item.digest for item in source.find(images.descriptor.digest)] == [fresh.manifest.digest]
        copied = source.copy_to(target, images.descriptor.digest)
        assert [item.digest for item in copied] == [fresh.manifest.digest]


def test_an_api_that_lists_what_is_gone_stops_no_copy(client: RegistryClient, images: ImageSet) -> None:
    with run_fake(Behaviour(referrers=True)) as fake:
        source, target = client.referrers(place(fake, "a")), client.referrers(place(fake, "b"))
        stale, fresh = artifact(images.descriptor, content=b"stale"), artifact(images.descriptor, content=b"fresh")
        source.push(stale)
        source.push(fresh)
        path = f"/v2/a/manifests/{stale.manifest.digest}"
        fake.faults.append(Fault(is_request("GET", path), Reply(404), times=9))
        copied = source.copy_to(target, images.descriptor.digest)
        assert [item.digest for item in copied] == [fresh.manifest.digest]


def test_docker_registry_takes_a_new_artifact_where_a_listed_one_is_gone(
    registry: DockerRegistry, name: str, client: RegistryClient, images: ImageSet
) -> None:
    """It refuses an index of which a manifest is missing."""
    where = place(registry, name)
    referrers = client.referrers(where)
    stale, fresh = artifact(images.descriptor, content=b"stale"), artifact(images.descriptor, content=b"fresh")
    client.push(images, [Reference(where, "1")])
    referrers.push(stale)
    skopeo("delete", "--tls-verify=false", f"docker://{where}@{stale.manifest.digest}")
    assert referrers.find(images.descriptor.digest) == ()
    referrers.push(fresh)
    assert [item.digest for item in referrers.find(images.descriptor.digest)] == [fresh.manifest.digest]
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{where}:{fallback_tag(images.descriptor.digest)}")
    assert [item["digest"] for item in json.loads(raw)["manifests"]] == [str(fresh.manifest.digest)]


def test_a_tag_that_is_an_image_is_not_overwritten(client: RegistryClient, images: ImageSet) -> None:
    with run_fake() as fake:
        other = random_image(9)
        tag = fallback_tag(images.descriptor.digest)
        fake.add_manifest("a", tag, other.manifest.raw, other.manifest.media_type)
        referrers = client.referrers(place(fake, "a"))
        assert referrers.find(images.descriptor.digest) == ()
        with pytest.raises(RegistryError, match="the tag is an image and no list of referrers"):
            referrers.push(artifact(images.descriptor))
        assert fake.manifests["a", tag][1] == other.manifest.raw


def test_a_list_keeps_its_annotations_and_lists_nothing_twice(client: RegistryClient, images: ImageSet) -> None:
    with run_fake() as fake:
        tag = fallback_tag(images.descriptor.digest)
        first = artifact(images.descriptor, content=b"first")
        referrers = client.referrers(place(fake, "a"))
        referrers.push(first)
        twice = Index.build(
            media_type=mediatypes.OCI_INDEX, manifests=(first.descriptor, first.descriptor), annotations={"by": "hand"}
        )
        fake.add_manifest("a", tag, twice.raw, twice.media_type)
        assert len(referrers.find(images.descriptor.digest)) == 1
        referrers.push(artifact(images.descriptor, content=b"second"))
        written = Index.from_bytes(fake.manifests["a", tag][1])
        assert (len(written.manifests), written.annotations) == (2, {"by": "hand"})


def test_two_writers_at_once_are_both_listed_in_the_end(client: RegistryClient, images: ImageSet) -> None:
    """The other one reads before our write, and writes after it: what we added is gone, and is added again."""
    tag = fallback_tag(images.descriptor.digest)
    with run_fake() as fake:
        ours, theirs = (artifact(images.descriptor, content=word) for word in (b"ours", b"theirs"))
        other = make_client().referrers(place(fake, "a"))
        handled = fake.respond
        late = Index.build(media_type=mediatypes.OCI_INDEX, manifests=(theirs.descriptor,))
        rounds = iter(range(9))

        def respond(seen: Seen) -> Reply:
            reply = handled(seen)
            if seen.method == "PUT" and seen.path.endswith(tag) and next(rounds) == 0:
                fake.add_manifest("a", str(theirs.manifest.digest), theirs.manifest.raw, theirs.manifest.media_type)
                fake.add_manifest("a", tag, late.raw, late.media_type)
            return reply

        assert fake.server is not None
        fake.server.respond = respond
        client.referrers(place(fake, "a")).push(ours)
        found = {item.digest for item in other.find(images.descriptor.digest)}
        assert found == {ours.manifest.digest, theirs.manifest.digest}


def test_pages_of_a_long_list_are_followed(client: RegistryClient, images: ImageSet) -> None:
    pages = {
        number: Index.build(media_type=mediatypes.OCI_INDEX, manifests=(random_image(number).descriptor,))
        for number in (1, 2, 3)
    }
    subject = images.descriptor.digest

    def respond(seen: Seen) -> Reply:
        if "/referrers/" not in seen.path:
            return Reply(200, b"{}")
        number = int(seen.query.get("page", "1"))
        following = {"Link": f'</v2/a/referrers/{subject}?page={number + 1}>; rel="next"'} if number < 3 else {}
        return Reply(200, pages[number].raw, {"Content-Type": mediatypes.OCI_INDEX, **following})

    with run_fake() as fake:
        assert fake.server is not None
        fake.server.respond = respond
        found = client.referrers(place(fake, "a")).find(subject)
    assert [item.digest for item in found] == [random_image(number).descriptor.digest for number in (1, 2, 3)]


@pytest.mark.parametrize(
    "answer", [Reply(404), Reply(405), Reply(400), Reply(501), Reply(200, b"<html>hello"), Reply(200, b"{}")]
)
def test_a_registry_without_the_api_is_known_by_any_answer(
    answer: Reply, client: RegistryClient, images: ImageSet
) -> None:
    with run_fake() as fake:
        fake.faults.append(Fault(is_request("GET", "/referrers/"), answer, times=10))
        assert client.referrers(place(fake, "a")).find(images.descriptor.digest) == ()


def test_a_refusal_is_no_empty_list(client: RegistryClient, images: ImageSet) -> None:
    with run_fake() as fake:
        fake.faults.append(Fault(is_request("GET", "/referrers/"), Reply(403), times=10))
        with pytest.raises(RegistryError, match="list referrers in"):
            client.referrers(place(fake, "a")).find(images.descriptor.digest)


def test_only_what_has_a_subject_is_an_artifact(client: RegistryClient) -> None:
    with run_fake() as fake, pytest.raises(PushRefused, match="it has no subject"):
        client.referrers(place(fake, "a")).push(Artifact(random_image(1).manifest, ()))


def test_an_index_among_the_referrers_is_named(client: RegistryClient, images: ImageSet) -> None:
    with run_fake() as fake:
        index = Index.build(media_type=mediatypes.OCI_INDEX, manifests=(), annotations={"a": "b"})
        fake.add_manifest("a", "x", index.raw, index.media_type)
        listed = Index.build(media_type=mediatypes.OCI_INDEX, manifests=(replace(index.descriptor),))
        tag = fallback_tag(images.descriptor.digest)
        fake.add_manifest("a", tag, listed.raw, listed.media_type)
        source, target = client.referrers(place(fake, "a")), client.referrers(place(fake, "b"))
        with pytest.raises(MalformedDocument, match="an index cannot be copied"):
            source.copy_to(target, images.descriptor.digest)


def test_long_digests_make_tags_that_are_allowed() -> None:
    assert len(fallback_tag(Digest("sha512", "a" * 128))) == len("sha512-") + 64


def test_manifests_keep_their_artifact_type() -> None:
    made = artifact(random_image(1).descriptor)
    assert Manifest.from_bytes(made.manifest.raw).artifact_type == SBOM
