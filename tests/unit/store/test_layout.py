"""Layouts: what is written is read back, by us, by the schemas and by other programs; nothing else is ever replaced."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kobuild.errors import DigestMismatch, IntegrityError, LayoutError, MalformedDocument
from kobuild.image.blobs import BlobSource, BytesSource
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.image.validate import validate
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import OCI_INDEX, Compression, Family
from kobuild.store.layout import Layout
from kobuild.store.layoutwriter import write_layout
from kobuild.streams import Readable, VerifyingReader
from tests.support.images import AMD64, ARM64, layout_of, make_image, make_layer, make_tar, random_image
from tests.support.programs import require_program
from tests.support.schemas import check_schema


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in files
    }


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    image = random_image(1)
    layout = Layout.folder(layout_of(tmp_path / "out", image))
    assert layout.root() == image.manifest
    for blob in image.blobs:
        with layout.open(blob.descriptor) as stored, blob.source.open() as original:
            assert stored.read() == original.read()


def test_several_platforms_are_one_nested_index(tmp_path: Path) -> None:
    images = [random_image(1), random_image(2, platform=ARM64)]
    layout = Layout.folder(layout_of(tmp_path / "out", *images))
    assert len(layout.index().manifests) == 1
    root = layout.root()
    assert isinstance(root, Index)
    assert root.platforms == (AMD64, ARM64)
    assert [layout.child(item) for item in root.manifests] == [image.manifest for image in images]


@pytest.mark.parametrize("family", Family)
def test_every_document_passes_the_schemas(tmp_path: Path, family: Family) -> None:
    images = [random_image(1, family=family), random_image(2, platform=ARM64, family=family)]
    folder = layout_of(tmp_path / "out", *images)
    check_schema((folder / "oci-layout").read_bytes(), "image-layout-schema.json")
    check_schema((folder / "index.json").read_bytes(), "image-index-schema.json")
    root = Layout.folder(folder).root()
    check_schema(root.raw, "image-index-schema.json")
    for image in images:
        check_schema(image.manifest.raw, "image-manifest-schema.json")
        check_schema(image.config.raw, "config-schema.json")


def test_writing_again_touches_nothing(tmp_path: Path) -> None:
    images = gather([random_image(1)])
    first = write_layout(tmp_path / "out", images)
    before = snapshot(tmp_path / "out")
    second = write_layout(tmp_path / "out", images)
    assert snapshot(tmp_path / "out") == before
    assert (first.written, first.kept) == (4, 0)
    assert (second.written, second.kept, second.removed, second.written_bytes) == (0, 4, 0, 0)


def test_another_image_replaces_the_first_whole(tmp_path: Path) -> None:
    old, new = random_image(1), random_image(2)
    layout_of(tmp_path / "out", old)
    (tmp_path / "out" / "notes.txt").write_text("the user's own")
    left = tmp_path / "out" / "blobs" / "sha256" / f".{old.manifest.digest.hex}.x1y2.tmp"
    left.write_text("left by a killed build")
    result = write_layout(tmp_path / "out", gather([new]))
    names = {path.name for path in (tmp_path / "out" / "blobs" / "sha256").iterdir()}
    assert names == {blob.descriptor.digest.hex for blob in new.blobs} | {new.manifest.digest.hex}
    assert result.removed == 5
    assert (tmp_path / "out" / "notes.txt").exists()


def blobs_of(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("blobs/sha256/*")}


def test_images_under_other_names_stay(tmp_path: Path) -> None:
    first, second, third = (random_image(number) for number in range(3))
    folder = layout_of(tmp_path / "out", first, random_image(9, platform=ARM64), names=["v1"])
    layout_of(folder, second, names=["v2"])
    result = write_layout(folder, gather([third]), names=["v2"])
    assert result.removed == 4
    assert isinstance(Layout.folder(folder, tag="v1").root(), Index)
    assert Layout.folder(folder, tag="v2").root() == third.manifest
    assert second.manifest.digest.hex not in blobs_of(folder)
    for name in ("v1", "v2"):
        assert validate(Layout.folder(folder, tag=name)).findings == ()
    assert write_layout(folder, gather([third]), names=["v2"]).written == 0


def test_an_image_without_a_name_is_replaced(tmp_path: Path) -> None:
    folder = layout_of(tmp_path / "out", random_image(1), names=[])
    image = random_image(2)
    layout_of(folder, image)
    assert Layout.folder(folder).root() == image.manifest
    for number in (3, 4):
        layout_of(folder, random_image(number), names=[])
        assert len(Layout.folder(folder).index().manifests) == 2


def test_nothing_is_removed_where_another_image_cannot_be_understood(tmp_path: Path) -> None:
    first = random_image(1)
    folder = layout_of(tmp_path / "out", first, names=["v1"])
    (folder / "blobs" / "sha256" / first.manifest.digest.hex).write_text("{}")
    layout_of(folder, random_image(2), names=["v2"])
    result = write_layout(folder, gather([random_image(3)]), names=["v2"])
    assert result.removed == 0
    assert first.layers[0].descriptor.digest.hex in blobs_of(folder)


def test_nothing_is_removed_behind_a_link(tmp_path: Path) -> None:
    folder = layout_of(tmp_path / "out", random_image(1))
    (folder / "blobs" / "sha256").rename(tmp_path / "shared")
    (folder / "blobs" / "sha256").symlink_to(tmp_path / "shared")
    (tmp_path / "shared" / "other").write_text("not a blob")
    result = write_layout(folder, gather([random_image(2)]))
    assert (result.written, result.removed) == (4, 0)
    assert validate(Layout.folder(folder)).findings == ()


def test_a_broken_index_is_written_anew(tmp_path: Path) -> None:
    folder = layout_of(tmp_path / "out", random_image(1))
    (folder / "index.json").write_text("{")
    layout_of(folder, random_image(1))
    assert Layout.folder(folder).root() == random_image(1).manifest


def test_a_damaged_blob_is_written_anew(tmp_path: Path) -> None:
    image = random_image(1)
    layout_of(tmp_path / "out", image)
    path = tmp_path / "out" / "blobs" / "sha256" / image.layers[0].descriptor.digest.hex
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert write_layout(tmp_path / "out", gather([image])).written == 1
    assert Digest.of(path.read_bytes()) == image.layers[0].descriptor.digest


@pytest.mark.parametrize("name", ["notes.txt", ".git"])
def test_a_folder_that_is_no_layout_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(LayoutError, match="not empty") as caught:
        write_layout(tmp_path, gather([random_image(1)]))
    assert caught.value.hint is not None
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(LayoutError, match="a file, not a folder"):
        write_layout(tmp_path / "out", gather([random_image(1)]))


class LyingSource:
    """A source whose bytes are not the blob's; it verifies, as every BlobSource does."""

    repository = None

    def __init__(self, honest: BlobSource, descriptor: Descriptor) -> None:
        self.honest = honest
        self.descriptor = descriptor

    @contextmanager
    def open(self) -> Iterator[Readable]:
        with self.honest.open() as file:
            data = bytearray(file.read())
        data[-1] ^= 1
        with BytesSource(bytes(data)).open() as file:
            yield VerifyingReader(file, digest=self.descriptor.digest, size=self.descriptor.size, place="afar")


def test_a_lying_source_leaves_the_old_image_as_it_was(tmp_path: Path) -> None:
    old, new = random_image(1), random_image(2)
    layout_of(tmp_path / "out", old)
    layer = new.layers[1]
    bad = replace(layer, source=LyingSource(layer.source, layer.descriptor))
    with pytest.raises(DigestMismatch):
        write_layout(tmp_path / "out", gather([replace(new, layers=(new.layers[0], bad))]))
    assert Layout.folder(tmp_path / "out").root() == old.manifest
    assert not (tmp_path / "out" / "blobs" / "sha256" / layer.descriptor.digest.hex).exists()
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_two_builds_into_one_folder_end_as_one_of_them(tmp_path: Path) -> None:
    images = [random_image(number, count=4) for number in range(4)]
    threads = [threading.Thread(target=layout_of, args=(tmp_path / "out", image)) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    layout = Layout.folder(tmp_path / "out")
    [image] = [image for image in images if image.manifest == layout.root()]
    for blob in image.blobs:
        with layout.open(blob.descriptor) as file:
            file.read()


def test_a_layout_shares_no_file_with_its_source(tmp_path: Path) -> None:
    layout_of(tmp_path / "first", random_image(1))
    first = Layout.folder(tmp_path / "first")
    image = random_image(1)
    layers = tuple(replace(layer, source=first.source(layer.descriptor)) for layer in image.layers)
    layout_of(tmp_path / "second", replace(image, layers=layers))
    name = f"blobs/sha256/{image.layers[0].descriptor.digest.hex}"
    assert not (tmp_path / "first" / name).samefile(tmp_path / "second" / name)
    assert (tmp_path / "second" / name).stat().st_nlink == 1


def test_names_choose_an_image(tmp_path: Path) -> None:
    image = random_image(1)
    folder = layout_of(tmp_path / "out", image, names=["v1", "latest", "v1"])
    assert len(Layout.folder(folder).index().manifests) == 2
    assert Layout.folder(folder).root() == image.manifest
    assert Layout.folder(folder, tag="v1").root() == image.manifest
    assert Layout.folder(folder, digest=image.manifest.digest).root() == image.manifest
    with pytest.raises(LayoutError, match="no image is named 'v2'; it has latest, v1"):
        Layout.folder(folder, tag="v2").root()
    with pytest.raises(LayoutError, match="there is no manifest sha256"):
        Layout.folder(folder, digest=Digest.of(b"")).root()


def add_entries(folder: Path, *images: Image, platforms: bool) -> None:
    """Other tools' layouts: several images side by side in index.json."""
    descriptors = [image.descriptor if platforms else image.manifest.descriptor for image in images]
    for image in images:
        for blob in image.blobs:
            with blob.source.open() as file:
                (folder / "blobs" / "sha256" / blob.descriptor.digest.hex).write_bytes(file.read())
        (folder / "blobs" / "sha256" / image.manifest.digest.hex).write_bytes(image.manifest.raw)
    document = {"schemaVersion": 2, "manifests": [descriptor.to_json() for descriptor in descriptors]}
    (folder / "index.json").write_text(json.dumps(document))


def test_several_unnamed_images_must_be_chosen_from(tmp_path: Path) -> None:
    images = random_image(1), random_image(2)
    folder = layout_of(tmp_path / "out", images[0])
    add_entries(folder, *images, platforms=False)
    with pytest.raises(LayoutError, match="2 images to choose from") as caught:
        Layout.folder(folder).root()
    assert "oci:DIR@sha256" in str(caught.value.hint)


def test_index_json_with_an_entry_a_platform_is_one_image(tmp_path: Path) -> None:
    images = random_image(1), random_image(2, platform=ARM64)
    folder = layout_of(tmp_path / "out", images[0])
    add_entries(folder, *images, platforms=True)
    root = Layout.folder(folder).root()
    assert isinstance(root, Index)
    assert root.media_type == OCI_INDEX
    assert root.platforms == (AMD64, ARM64)


@pytest.mark.parametrize("missing", ["oci-layout", "index.json"])
def test_a_folder_without_its_documents_is_named(tmp_path: Path, missing: str) -> None:
    folder = layout_of(tmp_path / "out", random_image(1))
    (folder / missing).unlink()
    with pytest.raises(LayoutError, match=str(folder)):
        Layout.folder(folder).root()


def test_another_version_is_refused(tmp_path: Path) -> None:
    folder = layout_of(tmp_path / "out", random_image(1))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(LayoutError, match=r"version '2\.0\.0' is not known"):
        Layout.folder(folder).root()


def test_a_blob_that_is_missing_or_other_is_an_error(tmp_path: Path) -> None:
    image = random_image(1)
    folder = layout_of(tmp_path / "out", image)
    layout = Layout.folder(folder)
    path = folder / "blobs" / "sha256" / image.manifest.digest.hex
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))
    with pytest.raises(IntegrityError):
        layout.root()
    path.unlink()
    with pytest.raises(LayoutError, match="No such file"):
        layout.root()


def test_a_huge_index_is_not_read(tmp_path: Path) -> None:
    folder = layout_of(tmp_path / "out", random_image(1))
    (folder / "index.json").write_bytes(b" " * (4 * 1024 * 1024 + 1))
    with pytest.raises((IntegrityError, MalformedDocument)):
        Layout.folder(folder).root()


def test_an_embedded_blob_needs_no_file(tmp_path: Path) -> None:
    folder = layout_of(tmp_path / "out", random_image(1))
    data = b"{}"
    embedded = Descriptor("application/json", Digest.of(data), 2, data=data)
    with Layout.folder(folder).open(embedded) as file:
        assert file.read() == data


def test_a_foreign_layer_stays_away(tmp_path: Path) -> None:
    image = random_image(1)
    foreign = replace(
        image.layers[0].descriptor,
        media_type="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        urls=("https://example.com/layer",),
    )
    layers = (replace(image.layers[0], descriptor=foreign), image.layers[1])
    manifest = Manifest.build(
        media_type=image.manifest.media_type,
        config=image.manifest.config,
        layers=tuple(layer.descriptor for layer in layers),
        annotations={},
    )
    folder = layout_of(tmp_path / "out", Image(manifest, image.config, layers))
    assert not (folder / "blobs" / "sha256" / foreign.digest.hex).exists()


# Other programs read what we write.


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


KINDS = [
    (Family.OCI, Compression.GZIP),
    (Family.OCI, Compression.NONE),
    (Family.OCI, Compression.ZSTD),
    (Family.DOCKER, Compression.GZIP),
    (Family.DOCKER, Compression.NONE),
]


@pytest.mark.parametrize(("family", "compression"), KINDS)
def test_skopeo_copies_an_image(tmp_path: Path, family: Family, compression: Compression) -> None:
    skopeo = require_program("skopeo")
    image = random_image(1, family=family, compression=compression)
    folder = layout_of(tmp_path / "out", image)
    shown = json.loads(run(skopeo, "inspect", f"oci:{folder}"))
    assert shown["Digest"] == str(image.manifest.digest)
    assert shown["Layers"] == [str(layer.descriptor.digest) for layer in image.layers]
    run(skopeo, "--insecure-policy", "copy", f"oci:{folder}", f"dir:{tmp_path}/copy")
    assert Digest.of((tmp_path / "copy" / "manifest.json").read_bytes()) == image.manifest.digest


@pytest.mark.parametrize("family", Family)
def test_skopeo_picks_a_platform(tmp_path: Path, family: Family) -> None:
    skopeo = require_program("skopeo")
    images = [random_image(1, family=family), random_image(2, platform=ARM64, family=family)]
    folder = layout_of(tmp_path / "out", *images)
    shown = run(skopeo, "--override-arch", "arm64", "inspect", "--config", "--raw", f"oci:{folder}")
    assert Digest.of(shown.encode()) == images[1].config.digest
    run(skopeo, "--insecure-policy", "copy", "--all", f"oci:{folder}", f"dir:{tmp_path}/copy")


def test_umoci_unpacks_an_image(tmp_path: Path) -> None:
    umoci = require_program("umoci")
    image = make_image([make_layer(make_tar({"etc/": b"", "etc/hello": b"hi"}))])
    folder = layout_of(tmp_path / "out", image)
    assert run(umoci, "ls", "--layout", str(folder)).split() == ["latest"]
    run(umoci, "unpack", "--rootless", "--image", str(folder), str(tmp_path / "bundle"))
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "hello").read_bytes() == b"hi"
