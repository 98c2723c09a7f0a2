from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kobuild.errors import IntegrityError, NotFound, PushRefused, UsageError
from kobuild.image.blobs import Blob, BytesSource, Layer
from kobuild.image.image import Image, ImageSet
from kobuild.image.mutate import gather
from kobuild.oci import mediatypes
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Family
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient, RegistrySource, RegistryStore
from kobuild.streams import Readable, VerifyingReader
from tests.support.images import AMD64, ARM64, make_image, make_layer, make_tar, random_image
from tests.support.recorders import RecordingReporter
from tests.support.registry import DockerRegistry, run_registry, skopeo
from tests.unit.registry.conftest import make_client


def reference(registry: DockerRegistry, name: str, tag: str = "1") -> Reference:
    return Reference.parse(f"{registry.host}/{name}:{tag}")


def read_back(where: Reference) -> bytes:
    return skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{where}").encode()


def based_on(client: RegistryClient, base: Reference, image: Image, *added: Layer) -> Image:
    """`image`, whose layers are in the registry under `base`, with layers added."""
    layers = [
        Layer(layer.descriptor, RegistrySource(client, base.repository, layer.descriptor), layer.diff_id)
        for layer in image.layers
    ]
    return make_image([*layers, *added])


def own_layer(name: str) -> Layer:
    return make_layer(make_tar({f"{name}/": b"", f"{name}/file": name.encode()}))


def test_a_push_is_read_back_byte_for_byte(registry: DockerRegistry, name: str, client: RegistryClient) -> None:
    image = random_image(1)
    target = reference(registry, name)
    result = client.push(gather([image]), [target])
    assert (result.uploaded, result.mounted, result.existing) == (3, 0, 0)
    assert result.bytes_sent == sum(blob.descriptor.size for blob in image.blobs)
    assert result.descriptor.digest == image.manifest.digest
    assert read_back(target) == image.manifest.raw
    assert registry.uploads(name) == []


@pytest.mark.parametrize("family", list(Family))
def test_skopeo_copies_what_was_pushed(
    family: Family, registry: DockerRegistry, name: str, client: RegistryClient, tmp_path: Path
) -> None:
    image = random_image(2, family=family)
    target = reference(registry, name)
    client.push(gather([image]), [target])
    skopeo("copy", "--src-tls-verify=false", "--preserve-digests", f"docker://{target}", f"dir:{tmp_path}/copy")
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == image.manifest.raw
    for blob in image.blobs:
        assert (tmp_path / "copy" / blob.descriptor.digest.hex).stat().st_size == blob.descriptor.size


def test_an_index_comes_after_its_children_and_tags_last(
    registry: DockerRegistry, name: str, client: RegistryClient
) -> None:
    images = gather([random_image(3), random_image(4, platform=ARM64)])
    targets = [reference(registry, name, tag) for tag in ("1", "latest")]
    result = client.push(images, targets)
    puts = [target for method, target, _ in registry.requests() if method == "PUT" and "/manifests/" in target]
    children = {f"/v2/{name}/manifests/{image.manifest.digest}" for image in images.images}
    assert set(puts[:2]) == children
    assert set(puts[2:]) == {f"/v2/{name}/manifests/1", f"/v2/{name}/manifests/latest"}
    assert result.descriptor.media_type == mediatypes.OCI_INDEX
    for target in targets:
        assert read_back(target) == images.root.raw


def test_nothing_is_sent_when_nothing_changed(registry: DockerRegistry, name: str) -> None:
    images = gather([random_image(5, count=20)])
    target = reference(registry, name)
    make_client().push(images, [target])
    registry.forget()
    started = time.monotonic()
    result = make_client().push(images, [target])
    assert time.monotonic() - started < 0.5
    assert (result.uploaded, result.bytes_sent, result.unchanged) == (0, 0, (target,))
    assert registry.requests() == [("GET", "/v2/", 200), ("HEAD", f"/v2/{name}/manifests/1", 200)]


def test_a_new_tag_on_a_known_image_sends_its_manifest_alone(
    registry: DockerRegistry, name: str, client: RegistryClient
) -> None:
    images = gather([random_image(6)])
    client.push(images, [reference(registry, name)])
    registry.forget()
    result = client.push(images, [reference(registry, name), reference(registry, name, "2")])
    assert (result.uploaded, result.existing, len(result.unchanged)) == (0, 0, 1)
    assert [line[:2] for line in registry.requests()] == [
        ("HEAD", f"/v2/{name}/manifests/1"),
        ("HEAD", f"/v2/{name}/manifests/2"),
        ("PUT", f"/v2/{name}/manifests/2"),
    ]


def test_only_new_blobs_are_sent(registry: DockerRegistry, name: str, client: RegistryClient) -> None:
    old = random_image(7)
    client.push(gather([old]), [reference(registry, name)])
    added = own_layer("added")
    result = client.push(gather([make_image([*old.layers, added])]), [reference(registry, name)])
    assert (result.uploaded, result.existing) == (2, 2)


def test_children_that_are_there_are_not_looked_into(
    registry: DockerRegistry, name: str, client: RegistryClient
) -> None:
    amd64 = random_image(8)
    client.push(gather([amd64, random_image(9, platform=ARM64)]), [reference(registry, name)])
    registry.forget()
    result = client.push(gather([amd64, random_image(10, platform=ARM64)]), [reference(registry, name)])
    assert (result.uploaded, result.existing) == (3, 0)
    touched = " ".join(target for _, target, _ in registry.requests())
    assert str(amd64.layers[0].descriptor.digest) not in touched


def test_base_layers_of_the_same_registry_are_mounted_and_never_read(
    registry: DockerRegistry, name: str, client: RegistryClient
) -> None:
    base = random_image(11, count=3)
    place = reference(registry, "library/base")
    client.push(gather([base]), [place])
    registry.forget()
    image = based_on(client, place, base, own_layer("tool"))
    result = client.push(gather([image]), [reference(registry, name)])
    assert (result.uploaded, result.mounted, result.existing) == (2, 3, 0)
    requests = registry.requests()
    assert not [target for method, target, _ in requests if method == "GET" and "/blobs/" in target]
    mounts = [(target, status) for method, target, status in requests if "mount=" in target and method == "POST"]
    assert len(mounts) == 3
    assert {status for _, status in mounts} == {201}
    assert read_back(reference(registry, name)) == image.manifest.raw


def test_base_layers_of_another_registry_are_streamed_across(
    registry: DockerRegistry, name: str, client: RegistryClient, tmp_path: Path
) -> None:
    base = random_image(12, count=3)
    with run_registry(tmp_path / "other") as other:
        place = reference(other, "library/base")
        client.push(gather([base]), [place])
        other.forget()
        before = {path for path in tmp_path.rglob("*") if "other" not in path.parts}
        image = based_on(client, place, base, own_layer("tool"))
        result = client.push(gather([image]), [reference(registry, name)])
        reads = [target for method, target, _ in other.requests() if method == "GET" and "/blobs/" in target]
        again = client.push(gather([image]), [reference(registry, name, "2")])
        assert {path for path in tmp_path.rglob("*") if "other" not in path.parts} == before
    assert (result.uploaded, result.mounted) == (5, 0)
    assert len(reads) == 3
    assert (again.uploaded, again.existing) == (0, 5)
    assert read_back(reference(registry, name)) == image.manifest.raw


def test_a_base_in_the_target_repository_itself_is_neither_mounted_nor_sent(
    registry: DockerRegistry, name: str, client: RegistryClient
) -> None:
    base = random_image(13)
    place = reference(registry, name, "base")
    client.push(gather([base]), [place])
    registry.forget()
    result = client.push(gather([based_on(client, place, base, own_layer("x"))]), [reference(registry, name)])
    assert (result.uploaded, result.mounted, result.existing) == (2, 0, 2)
    assert not [target for _, target, _ in registry.requests() if "mount=" in target]


def test_a_second_repository_of_the_registry_is_filled_by_mounts(
    registry: DockerRegistry, name: str, client: RegistryClient
) -> None:
    images = gather([random_image(14)])
    targets = [reference(registry, name), reference(registry, f"{name}-mirror"), reference(registry, name, "2")]
    result = client.push(images, targets)
    assert (result.uploaded, result.mounted) == (3, 3)
    assert {read_back(target) for target in targets} == {images.root.raw}


def test_a_mount_that_is_not_possible_becomes_an_upload(
    registry: DockerRegistry, name: str, client: RegistryClient
) -> None:
    layer = own_layer("elsewhere")
    nowhere = Reference.parse(f"{registry.host}/library/nowhere:1").repository
    source = BytesSource(layer.source.data, nowhere)  # type: ignore[attr-defined]
    image = make_image([Layer(layer.descriptor, source, layer.diff_id)])
    result = client.push(gather([image]), [reference(registry, name)])
    assert (result.uploaded, result.mounted) == (2, 0)
    assert read_back(reference(registry, name)) == image.manifest.raw
    assert registry.uploads(name) == []


def test_tags_may_be_kept_from_moving(registry: DockerRegistry, name: str, client: RegistryClient) -> None:
    target = reference(registry, name)
    old = gather([random_image(15)])
    client.push(old, [target], move_tags=False)
    client.push(old, [target], move_tags=False)
    registry.forget()
    with pytest.raises(PushRefused, match=f"the tag points at {old.descriptor.digest} and is not to be moved"):
        client.push(gather([random_image(16)]), [target], move_tags=False)
    assert [method for method, _, _ in registry.requests()] == ["HEAD"]


def test_a_digest_may_be_a_target_if_it_is_the_images(
    registry: DockerRegistry, name: str, client: RegistryClient
) -> None:
    images = gather([random_image(17)])
    target = reference(registry, name).with_digest(images.descriptor.digest)
    client.push(images, [target])
    assert read_back(target) == images.root.raw
    with pytest.raises(UsageError, match="the image's digest is"):
        client.push(gather([random_image(18)]), [target])


def test_foreign_layers_stay_where_they_are(registry: DockerRegistry, name: str, client: RegistryClient) -> None:
    layer = own_layer("windows")
    foreign = replace(
        layer.descriptor, media_type=mediatypes.DOCKER_FOREIGN_LAYER, urls=("https://vendor.example/layer",)
    )
    image = make_image([Layer(foreign, BytesSource(b"not to be read"), layer.diff_id)], family=Family.DOCKER)
    result = client.push(gather([image]), [reference(registry, name)])
    assert result.uploaded == 1
    assert read_back(reference(registry, name)) == image.manifest.raw


def test_progress_is_told_blob_by_blob(registry: DockerRegistry, name: str, client: RegistryClient) -> None:
    image = random_image(19)
    reporter = RecordingReporter()
    client.push(gather([image]), [reference(registry, name)], reporter)
    assert {key: transfer.count for key, transfer in reporter.transfers.items()} == {
        f"push {blob.descriptor.digest.short}": blob.descriptor.size for blob in image.blobs
    }


def test_an_empty_image_and_a_single_platform_index_are_pushed(
    registry: DockerRegistry, name: str, client: RegistryClient
) -> None:
    image = Image.empty(AMD64)
    index = Index.build(media_type=mediatypes.OCI_INDEX, manifests=(image.descriptor,))
    client.push(ImageSet((image,), index), [reference(registry, name)])
    assert json.loads(read_back(reference(registry, name)))["manifests"][0]["digest"] == str(image.manifest.digest)


def test_the_store_reads_what_was_pushed(registry: DockerRegistry, name: str, client: RegistryClient) -> None:
    images = gather([random_image(20), random_image(21, platform=ARM64)])
    client.push(images, [reference(registry, name)])
    store = RegistryStore(client, reference(registry, name))
    assert store.name == f"docker://{registry.host}/{name}:1"
    root = store.root()
    assert isinstance(root, Index)
    for descriptor, image in zip(root.manifests, images.images, strict=True):
        manifest = store.child(descriptor)
        assert isinstance(manifest, Manifest)
        assert manifest.raw == image.manifest.raw
        for layer in manifest.layers:
            with store.open(layer) as reader:
                assert len(reader.read()) == layer.size
            assert store.source(layer).repository == reference(registry, name).repository
    with pytest.raises(NotFound):
        RegistryStore(client, reference(registry, name, "none")).root()


def test_a_blob_that_changed_on_disk_is_never_completed(
    registry: DockerRegistry, name: str, client: RegistryClient
) -> None:
    layer = own_layer("damaged")
    damaged = bytes(layer.descriptor.size)
    image = make_image([Layer(layer.descriptor, _Verified(layer, damaged), layer.diff_id)])
    with pytest.raises(IntegrityError):
        client.push(gather([image]), [reference(registry, name)])
    assert client.head_manifest(reference(registry, name)) is None
    assert not client.has_blob(reference(registry, name).repository, layer.descriptor)


class _Verified:
    """A source whose bytes are not the blob's."""

    repository = None

    def __init__(self, blob: Blob, data: bytes) -> None:
        self._blob = blob
        self._data = data

    @contextlib.contextmanager
    def open(self) -> Iterator[Readable]:
        descriptor = self._blob.descriptor
        reader = io.BytesIO(self._data)
        yield VerifyingReader(reader, digest=descriptor.digest, size=descriptor.size, place="disk")
