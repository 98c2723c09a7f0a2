"""The validator: whole images pass, and whatever is wrong is found and named."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kobuild.errors import Finding, LayoutMissing, StorageError
from kobuild.image.blobs import BytesSource
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.image.validate import FoundImage, Validation, validate
from kobuild.oci import mediatypes
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import OCI_INDEX, OCI_MANIFEST, Compression, Family
from kobuild.oci.platforms import Platform
from kobuild.store.dockerarchive import DockerArchive, write_docker_archive
from kobuild.store.layout import Layout
from kobuild.store.ociarchive import write_oci_archive
from kobuild.streams import Readable
from tests.support.images import AMD64, ARM64, layout_of, make_image, make_layer, make_tar, random_image


def check(folder: Path) -> Validation:
    return validate(Layout.folder(folder))


def only(validation: Validation) -> Finding:
    assert len(validation.findings) == 1, [str(finding) for finding in validation.findings]
    return validation.findings[0]


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.NONE, Compression.ZSTD])
def test_a_whole_image_passes(tmp_path: Path, compression: Compression) -> None:
    image = random_image(1, compression=compression)
    result = check(layout_of(tmp_path / "out", image))
    assert result.findings == ()
    assert result.root == image.manifest
    assert result.blobs == 4
    assert result.size == sum(blob.descriptor.size for blob in image.blobs) + len(image.manifest.raw)
    assert result.uncompressed_size == 2 * 10240


@pytest.mark.parametrize("family", Family)
def test_every_platform_is_looked_at(tmp_path: Path, family: Family) -> None:
    images = [random_image(1, family=family), random_image(2, platform=ARM64, family=family)]
    result = check(layout_of(tmp_path / "out", *images))
    assert result.findings == ()
    assert [image.platform for image in result.images] == [AMD64, ARM64]
    assert result.blobs == 9


def test_archives_pass(tmp_path: Path) -> None:
    images = gather([random_image(1)])
    write_oci_archive(tmp_path / "oci.tar", images)
    write_docker_archive(tmp_path / "docker.tar", images)
    assert validate(Layout.archive(tmp_path / "oci.tar")).findings == ()
    assert validate(DockerArchive(tmp_path / "docker.tar")).findings == ()


def test_scratch_alone_passes(tmp_path: Path) -> None:
    assert check(layout_of(tmp_path / "out", Image.empty(AMD64))).findings == ()


def test_a_layer_that_two_platforms_share_is_read_once(tmp_path: Path) -> None:
    layer = make_layer(make_tar({"a": b"b"}))
    seen = []

    def observe(image: FoundImage, number: int) -> None:
        seen.append((image.platform, number))

    folder = layout_of(tmp_path / "out", make_image([layer]), make_image([layer], platform=ARM64))
    result = validate(Layout.folder(folder), observe=observe)
    assert result.findings == ()
    assert seen == [(AMD64, 0)]


def test_no_layout_at_all_is_raised(tmp_path: Path) -> None:
    with pytest.raises(LayoutMissing):
        check(tmp_path)


# Any byte of any blob.


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [random_image(1, count=1), random_image(2, count=1, platform=ARM64)]
    return layout_of(tmp_path_factory.mktemp("pristine") / "out", *images)


def blob_names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("blobs/sha256/*"))


def test_a_changed_byte_of_any_blob_is_found_and_named(pristine: Path, tmp_path: Path) -> None:
    source = random.Random(7)  # noqa: S311 - test data
    for name in blob_names(pristine):
        data = (pristine / name).read_bytes()
        for place in {0, len(data) - 1, *source.sample(range(len(data)), 12)}:
            folder = tmp_path / "out"
            shutil.copytree(pristine, folder)
            changed = bytearray(data)
            changed[place] ^= 1 << source.randrange(8)
            (folder / name).write_bytes(changed)
            findings = check(folder).findings
            assert any(name.rpartition("/")[2] in str(finding) for finding in findings), (name, place, findings)
            shutil.rmtree(folder)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:0]])
def test_a_blob_of_another_length_is_found(pristine: Path, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    for number, name in enumerate(blob_names(pristine)):
        folder = tmp_path / str(number)
        shutil.copytree(pristine, folder)
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        findings = check(folder).findings
        assert any(name.rpartition("/")[2] in str(finding) for finding in findings), (name, findings)


def test_a_missing_blob_is_found(pristine: Path, tmp_path: Path) -> None:
    for number, name in enumerate(blob_names(pristine)):
        folder = tmp_path / str(number)
        shutil.copytree(pristine, folder)
        (folder / name).unlink()
        finding = only(check(folder))
        assert "to be there" in str(finding)
        assert name.rpartition("/")[2] in str(finding)


def test_several_faults_are_found_at_once(pristine: Path, tmp_path: Path) -> None:
    shutil.copytree(pristine, tmp_path / "out")
    layout = Layout.folder(tmp_path / "out")
    for image in check(tmp_path / "out").images:
        (tmp_path / "out" / "blobs" / "sha256" / image.manifest.layers[0].digest.hex).write_bytes(b"x")
    findings = validate(layout).findings
    assert len(findings) == 2
    assert {finding.place.rpartition(" ")[2] for finding in findings} == {"linux/amd64", "linux/arm64"}


# Documents that do not fit each other.


def store(folder: Path, image: Image, **changes: Any) -> Path:
    """An image as it stands, with members of its manifest changed."""
    value = {**json.loads(image.manifest.raw), **changes}
    manifest = Manifest.from_bytes(json.dumps(value).encode())
    return layout_of(folder, Image(manifest, image.config, image.layers))


def with_config_changed(image: Image, change: Callable[[dict[str, Any]], object]) -> Image:
    value = image.config.value()
    change(value)
    config = ImageConfig.from_value(value)
    descriptor = Descriptor(image.manifest.config.media_type, config.digest, len(config.raw))
    manifest = Manifest.build(
        media_type=image.manifest.media_type, config=descriptor, layers=image.manifest.layers, annotations={}
    )
    return Image(manifest, config, image.layers)


def test_a_diff_id_that_is_not_the_layers(tmp_path: Path) -> None:
    wrong = str(Digest.of(b"other"))
    image = with_config_changed(random_image(1), lambda value: value["rootfs"]["diff_ids"].__setitem__(1, wrong))
    finding = only(check(layout_of(tmp_path / "out", image)))
    assert finding.place.startswith("layer 2 (sha256:")
    assert wrong in finding.expected
    assert str(random_image(1).layers[1].diff_id) in finding.actual


def test_fewer_diff_ids_than_layers(tmp_path: Path) -> None:
    image = with_config_changed(random_image(1), lambda value: value["rootfs"]["diff_ids"].pop())
    folder = layout_of(tmp_path / "out", image)
    assert "diff IDs in the config: expected 2, one a layer, found 1" in str(only(check(folder)))
    path = folder / "blobs" / "sha256" / image.layers[1].descriptor.digest.hex
    path.write_bytes(b"damaged too")
    assert len(check(folder).findings) == 2


def test_history_that_does_not_fit_is_noted(tmp_path: Path) -> None:
    image = with_config_changed(random_image(1), lambda value: value["history"].append({"created_by": "x"}))
    result = check(layout_of(tmp_path / "out", image))
    assert result.findings == ()
    [note] = result.notes
    assert "history of layers: expected 2 lines, one a layer, found 3" in str(note)


@pytest.mark.parametrize("history", [[], None, [{"empty_layer": True}, {}, {"empty_layer": True}, {}]])
def test_history_that_fits(tmp_path: Path, history: object) -> None:
    image = with_config_changed(random_image(1), lambda value: value.update(history=history))
    result = check(layout_of(tmp_path / "out", image))
    assert (result.findings, result.notes) == ((), ())


def test_families_that_are_mixed(tmp_path: Path) -> None:
    image = random_image(1)
    layers = [descriptor.to_json() for descriptor in image.manifest.layers]
    layers[1]["mediaType"] = mediatypes.DOCKER_LAYER_GZIP
    finding = only(check(store(tmp_path / "out", image, layers=layers)))
    assert (finding.expected, finding.actual) == ("oci's alone", mediatypes.DOCKER_LAYER_GZIP)


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
def test_bytes_that_are_not_what_the_media_type_says(tmp_path: Path, compression: Compression) -> None:
    layer = make_layer(make_tar({"a": b"b"}), compression=compression)
    mislabelled = replace(layer, descriptor=replace(layer.descriptor, media_type=mediatypes.OCI_LAYER_GZIP))
    finding = only(check(layout_of(tmp_path / "out", make_image([mislabelled]))))
    assert finding.place.endswith("compression")
    assert finding.actual == compression.value


def test_gzip_inside_gzip(tmp_path: Path) -> None:
    inner = gzip.compress(make_tar({"a": b"b"}), mtime=0)
    finding = only(check(layout_of(tmp_path / "out", make_image([make_layer(inner)]))))
    assert finding.actual == "gzip inside gzip"


def test_a_stream_that_is_broken_although_its_digest_is_right(tmp_path: Path) -> None:
    data = gzip.compress(make_tar({"a": b"b"}), mtime=0)[:-4]
    layer = make_layer(make_tar({"a": b"b"}))
    descriptor = Descriptor(layer.descriptor.media_type, Digest.of(data), len(data))
    broken = replace(layer, descriptor=descriptor, source=BytesSource(data))
    finding = only(check(layout_of(tmp_path / "out", make_image([broken]))))
    assert "stream ends early" in finding.actual


def test_a_media_type_that_unknown_tools_made_is_let_pass(tmp_path: Path) -> None:
    layer = make_layer(make_tar({"a": b"b"}))
    odd = replace(layer, descriptor=replace(layer.descriptor, media_type="application/vnd.example.layer+squashed"))
    assert check(layout_of(tmp_path / "out", make_image([odd]))).findings == ()


def index_of(folder: Path, images: list[Image], entries: list[Descriptor]) -> Path:
    """A layout whose nested index lists `entries`."""
    layout_of(folder, *images)
    index = Index.build(media_type=OCI_INDEX, manifests=tuple(entries))
    (folder / "blobs" / "sha256" / index.digest.hex).write_bytes(index.raw)
    top = Index.build(media_type=OCI_INDEX, manifests=(index.descriptor,))
    (folder / "index.json").write_bytes(top.raw)
    return folder


def test_an_entry_for_another_platform_than_its_config(tmp_path: Path) -> None:
    images = [random_image(1), random_image(2, platform=ARM64)]
    entries = [images[0].descriptor, replace(images[1].descriptor, platform=Platform("linux", "s390x"))]
    finding = only(check(index_of(tmp_path / "out", images, entries)))
    assert (finding.expected, finding.actual) == ("linux/s390x (by the index)", "linux/arm64 (by the config)")


def test_a_variant_that_the_config_leaves_out_is_no_contradiction(tmp_path: Path) -> None:
    image = with_config_changed(
        random_image(1, platform=Platform("linux", "arm", "v6")), lambda value: value.pop("variant")
    )
    entries = [replace(image.descriptor, platform=Platform("linux", "arm", "v6"))]
    assert check(index_of(tmp_path / "out", [image], entries)).findings == ()


def test_a_platform_that_is_listed_twice(tmp_path: Path) -> None:
    images = [random_image(1), random_image(2)]
    finding = only(check(index_of(tmp_path / "out", images, [image.descriptor for image in images])))
    assert finding.place.endswith("entries for linux/amd64")


def test_windows_images_may_differ_in_version_alone(tmp_path: Path) -> None:
    platform = Platform("windows", "amd64")
    images = [random_image(1, platform=platform), random_image(2, platform=platform)]
    raws = [{"os": "windows", "architecture": "amd64", "os.version": version} for version in ("1", "2")]
    entries = [replace(image.descriptor, raw_platform=raw) for image, raw in zip(images, raws, strict=True)]
    assert check(index_of(tmp_path / "out", images, entries)).findings == ()


def test_an_entry_with_another_media_type_than_its_document(tmp_path: Path) -> None:
    images = [random_image(1), random_image(2, platform=ARM64)]
    entries = [images[0].descriptor, replace(images[1].descriptor, media_type=OCI_INDEX)]
    finding = only(check(index_of(tmp_path / "out", images, entries)))
    assert finding.place.endswith("media type")
    assert finding.actual == OCI_MANIFEST


def test_an_attestations_blobs_are_checked_and_no_more(tmp_path: Path) -> None:
    image, attestation = random_image(1), random_image(2, count=1)
    unknown = replace(attestation.descriptor, platform=Platform("unknown", "unknown"))
    folder = index_of(tmp_path / "out", [image, attestation], [image.descriptor, unknown])
    result = check(folder)
    assert result.findings == ()
    assert [found.platform for found in result.images] == [AMD64]
    (folder / "blobs" / "sha256" / attestation.layers[0].descriptor.digest.hex).write_bytes(b"x")
    assert len(check(folder).findings) == 1


def test_a_foreign_layer_need_not_be_there(tmp_path: Path) -> None:
    image = random_image(1)
    foreign = replace(
        image.layers[0].descriptor,
        media_type=f"{mediatypes.NONDISTRIBUTABLE_PREFIX}+gzip",
        urls=("https://example.com/layer",),
    )
    layers = (replace(image.layers[0], descriptor=foreign), image.layers[1])
    assert check(layout_of(tmp_path / "out", make_image(layers))).findings == ()


def test_an_observer_sees_the_tar(tmp_path: Path) -> None:
    image = random_image(1, compression=Compression.ZSTD)
    seen: dict[int, bytes] = {}

    def observe(_: FoundImage, number: int) -> Callable[[Iterator[bytes]], None] | None:
        def collect(chunks: Iterator[bytes]) -> None:
            seen[number] = b"".join(chunks)

        return collect if number == 1 else None

    validate(Layout.folder(layout_of(tmp_path / "out", image)), observe=observe)
    assert {number: Digest.of(data) for number, data in seen.items()} == {1: image.layers[1].diff_id}


def test_an_observer_may_stop_early(tmp_path: Path) -> None:
    folder = layout_of(tmp_path / "out", random_image(1))
    result = validate(Layout.folder(folder), observe=lambda _image, _number: lambda _chunks: None)
    assert result.findings == ()
    assert result.uncompressed_size == 2 * 10240


class Broken(Layout):
    """A layout on a disk that fails, which says nothing of the image."""

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        if descriptor.media_type == mediatypes.OCI_LAYER_GZIP:
            raise StorageError("read: Input/output error")
        return super().open(descriptor)


def test_a_failing_disk_is_no_finding(tmp_path: Path) -> None:
    folder = layout_of(tmp_path / "out", random_image(1))
    with pytest.raises(StorageError):
        validate(Broken("oci:x", Layout.folder(folder).files))
