"""Image archives: whole or not there, the same bytes for the same image, read by us and by other programs."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from kobuild.errors import DigestMismatch, IntegrityError, KobuildError, LayoutError, SizeMismatch, UsageError
from kobuild.image.blobs import BytesSource
from kobuild.image.image import Image, ImageSet
from kobuild.image.mutate import gather
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import DOCKER_LAYER, Compression, Family
from kobuild.oci.reference import Reference
from kobuild.store.dockerarchive import DockerArchive, write_docker_archive
from kobuild.store.files import FolderFiles, TarFiles
from kobuild.store.layout import Layout
from kobuild.store.ociarchive import write_oci_archive
from kobuild.store.tarwriter import TarWriter
from tests.support.images import AMD64, ARM64, make_image, random_image
from tests.support.programs import require_program

NAME = Reference.parse("example.com/team/tool:v1")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read_all(store: Layout | DockerArchive, manifest: Manifest) -> list[bytes]:
    contents = []
    for descriptor in (manifest.config, *manifest.layers):
        with store.open(descriptor) as file:
            contents.append(file.read())
    return contents


def originals(image: Image) -> list[bytes]:
    contents = [image.config.raw]
    for layer in image.layers:
        with layer.source.open() as file:
            contents.append(file.read())
    return contents


# OCI archives.


def test_an_oci_archive_is_read_back(tmp_path: Path) -> None:
    image = random_image(1)
    path = tmp_path / "deep" / "image.tar"
    result = write_oci_archive(path, gather([image]))
    assert result.written == 4
    layout = Layout.archive(path)
    assert layout.root() == image.manifest
    assert read_all(layout, image.manifest) == originals(image)


def test_an_oci_archive_holds_several_platforms(tmp_path: Path) -> None:
    images = [random_image(1), random_image(2, platform=ARM64)]
    write_oci_archive(tmp_path / "image.tar", gather(images))
    root = Layout.archive(tmp_path / "image.tar").root()
    assert isinstance(root, Index)
    assert root.platforms == (AMD64, ARM64)


def test_the_same_image_is_the_same_archive(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_oci_archive(tmp_path / f"oci-{name}.tar", gather([random_image(1)]))
        write_docker_archive(tmp_path / f"docker-{name}.tar", gather([random_image(1)]), references=[NAME])
    assert (tmp_path / "oci-a.tar").read_bytes() == (tmp_path / "oci-b.tar").read_bytes()
    assert (tmp_path / "docker-a.tar").read_bytes() == (tmp_path / "docker-b.tar").read_bytes()


def with_bad_layer(image: Image) -> ImageSet:
    bad = replace(image.layers[1], source=BytesSource(b"not the layer"))
    return gather([replace(image, layers=(image.layers[0], bad))])


def test_a_failed_write_leaves_nothing_new(tmp_path: Path) -> None:
    for name, write in (("oci.tar", write_oci_archive), ("docker.tar", write_docker_archive)):
        (tmp_path / name).write_text("the earlier one")
        with pytest.raises(IntegrityError):
            write(tmp_path / name, with_bad_layer(random_image(1)))
        assert (tmp_path / name).read_text() == "the earlier one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docker.tar", "oci.tar"]


@pytest.mark.parametrize("family", Family)
def test_skopeo_reads_an_oci_archive(tmp_path: Path, family: Family) -> None:
    skopeo = require_program("skopeo")
    image = random_image(1, family=family)
    write_oci_archive(tmp_path / "image.tar", gather([image]), names=["v1"])
    assert json.loads(run(skopeo, "inspect", f"oci-archive:{tmp_path}/image.tar"))["Digest"] == str(
        image.manifest.digest
    )
    # By its name skopeo finds only manifests of OCI's own type.
    name = ":v1" if family is Family.OCI else ""
    run(skopeo, "--insecure-policy", "copy", f"oci-archive:{tmp_path}/image.tar{name}", f"dir:{tmp_path}/copy")


def test_an_archive_of_skopeo_is_read(tmp_path: Path) -> None:
    skopeo = require_program("skopeo")
    image = random_image(1)
    write_oci_archive(tmp_path / "ours.tar", gather([image]))
    run(skopeo, "--insecure-policy", "copy", f"oci-archive:{tmp_path}/ours.tar", f"oci-archive:{tmp_path}/theirs.tar:x")
    layout = Layout.archive(tmp_path / "theirs.tar", tag="x")
    assert layout.root() == image.manifest
    run(skopeo, "--insecure-policy", "copy", f"oci-archive:{tmp_path}/ours.tar", f"docker-archive:{tmp_path}/saved:a:b")
    saved = DockerArchive(tmp_path / "saved")
    root = saved.root()
    assert isinstance(root, Manifest)
    assert root.config.digest == image.image_id
    assert [layer.digest for layer in root.layers] == [layer.diff_id for layer in image.layers]
    read_all(saved, root)


# docker save archives.


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.NONE, Compression.ZSTD])
def test_a_docker_archive_is_read_back_uncompressed(tmp_path: Path, compression: Compression) -> None:
    image = random_image(1, compression=compression)
    write_docker_archive(tmp_path / "image.tar", gather([image]), references=[NAME])
    archive = DockerArchive(tmp_path / "image.tar")
    root = archive.root()
    assert isinstance(root, Manifest)
    assert root.config.digest == image.image_id
    assert [(layer.media_type, layer.digest) for layer in root.layers] == [
        (DOCKER_LAYER, layer.diff_id) for layer in image.layers
    ]
    assert archive.child(root.descriptor) == root
    read_all(archive, root)


def test_skopeo_and_podman_load_a_docker_archive(tmp_path: Path) -> None:
    skopeo = require_program("skopeo")
    image = random_image(1)
    write_docker_archive(tmp_path / "image.tar", gather([image]), references=[NAME])
    place = f"docker-archive:{tmp_path}/image.tar"
    shown = json.loads(run(skopeo, "inspect", place))
    assert shown["Layers"] == [str(layer.diff_id) for layer in image.layers]
    assert run(skopeo, "list-tags", place).count("example.com/team/tool:v1") == 1
    run(skopeo, "--insecure-policy", "copy", f"{place}:{NAME}", f"oci:{tmp_path}/layout:v1")
    root = Layout.folder(tmp_path / "layout").root()
    assert isinstance(root, Manifest)
    assert len(root.layers) == 2


def test_two_layers_that_are_one_are_written_once(tmp_path: Path) -> None:
    layer = random_image(1).layers[0]
    image = make_image([layer, layer])
    write_docker_archive(tmp_path / "image.tar", gather([image]))
    with tarfile.open(tmp_path / "image.tar") as archive:
        assert len(archive.getnames()) == 3
    root = DockerArchive(tmp_path / "image.tar").root()
    assert isinstance(root, Manifest)
    assert len(root.layers) == 2


def test_several_platforms_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one platform"):
        write_docker_archive(tmp_path / "image.tar", gather([random_image(1), random_image(2, platform=ARM64)]))


def test_a_layer_that_is_not_its_diff_id_is_found(tmp_path: Path) -> None:
    image = random_image(1)
    wrong = replace(image.layers[0], diff_id=Digest.of(b"other"))
    with pytest.raises(DigestMismatch, match="uncompressed"):
        write_docker_archive(tmp_path / "image.tar", gather([replace(image, layers=(wrong,))]))


def save(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> DockerArchive:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.SYMTYPE
            info.linkname = target
            archive.addfile(info)
    return DockerArchive(path)


def old_style(image: Image, **changes: object) -> bytes:
    """As `docker save` wrote it for years: a folder a layer."""
    layers = [f"{number}/layer.tar" for number, _ in enumerate(image.layers)]
    entry = {"Config": f"{image.image_id.hex}.json", "RepoTags": None, "Layers": layers, **changes}
    return json.dumps([entry]).encode()


def test_compressed_and_linked_layers_are_read(tmp_path: Path) -> None:
    image = random_image(1)
    config, first, second = originals(image)
    archive = save(
        tmp_path / "image.tar",
        {"manifest.json": old_style(image), f"./{image.image_id.hex}.json": config, "x/layer.tar": first, "2": second},
        {"0/layer.tar": "../x/layer.tar", "1/layer.tar": "../2"},
    )
    root = archive.root()
    assert isinstance(root, Manifest)
    assert [layer.digest for layer in root.layers] == [layer.descriptor.digest for layer in image.layers]
    assert read_all(archive, root) == [config, first, second]


def test_an_image_is_chosen_by_its_name(tmp_path: Path) -> None:
    entries = []
    members: dict[str, bytes] = {}
    images = {f"example.com/{number}:v1": random_image(number) for number in range(2)}
    for name, image in images.items():
        config, *layers = originals(image)
        members |= {f"{image.image_id.hex}.json": config}
        members |= {f"{Digest.of(data).hex}.tar": data for data in layers}
        names = [f"{Digest.of(data).hex}.tar" for data in layers]
        entries.append({"Config": f"{image.image_id.hex}.json", "RepoTags": ["<none>:<none>", name], "Layers": names})
    path = tmp_path / "image.tar"
    archive = save(path, {"manifest.json": json.dumps(entries).encode(), **members})
    with pytest.raises(LayoutError, match="2 images to choose from"):
        archive.root()
    for name, image in images.items():
        root = DockerArchive(path, name).root()
        assert isinstance(root, Manifest)
        assert root.config.digest == image.image_id


@pytest.mark.parametrize(
    "change",
    [
        {"Layers": ["0/layer.tar"]},
        {"Layers": ["0/layer.tar", "none"]},
        {"Layers": "x"},
        {"Config": "none.json"},
        {"Config": 3},
    ],
)
def test_a_broken_listing_is_an_error(tmp_path: Path, change: dict[str, object]) -> None:
    image = random_image(1)
    config, first, second = originals(image)
    members = {f"{image.image_id.hex}.json": config, "0/layer.tar": first, "1/layer.tar": second}
    archive = save(tmp_path / "image.tar", {"manifest.json": old_style(image, **change), **members})
    with pytest.raises(KobuildError, match=r"image\.tar"):
        archive.root()


def test_a_changed_config_is_found(tmp_path: Path) -> None:
    image = random_image(1)
    write_docker_archive(tmp_path / "image.tar", gather([image]))
    data = (tmp_path / "image.tar").read_bytes().replace(b"LANG=C.UTF-8", b"LANG=D.UTF-8")
    (tmp_path / "image.tar").write_bytes(data)
    archive = DockerArchive(tmp_path / "image.tar")
    with pytest.raises(DigestMismatch, match=rf"{image.image_id.hex}\.json: expected {image.image_id}"):
        archive.root()


# Tars as such.


def test_a_missing_or_broken_archive_is_named(tmp_path: Path) -> None:
    for store in (Layout.archive(tmp_path / "none"), DockerArchive(tmp_path / "none")):
        with pytest.raises(LayoutError, match="none: No such file"):
            store.root()
    (tmp_path / "text").write_text("not a tar" * 100)
    with pytest.raises(LayoutError, match="not a tar archive"):
        DockerArchive(tmp_path / "text").root()
    with pytest.raises(LayoutError, match="Is a directory"):
        DockerArchive(tmp_path).root()


def test_a_truncated_archive_is_an_error(tmp_path: Path) -> None:
    image = random_image(1)
    write_oci_archive(tmp_path / "image.tar", gather([image]))
    data = (tmp_path / "image.tar").read_bytes()
    for cut in (3000, len(data) - 2000):
        (tmp_path / "image.tar").write_bytes(data[:cut])
        with pytest.raises((LayoutError, IntegrityError)):
            read_all(Layout.archive(tmp_path / "image.tar"), image.manifest)


def test_a_name_that_climbs_is_only_not_found(tmp_path: Path) -> None:
    save(tmp_path / "image.tar", {"../../etc/passwd": b"x"}, {"link": "../../../etc/passwd", "loop": "loop"})
    files = TarFiles(tmp_path / "image.tar")
    assert files.size("etc/passwd") == 1
    assert files.size("loop") is None
    assert files.size("/etc/shadow") is None
    with pytest.raises(LayoutError, match="no member"):
        files.open("nothing").__enter__()


def test_of_two_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        for data in (b"one", b"three"):
            info = tarfile.TarInfo("name")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert TarFiles(tmp_path / "image.tar").size("name") == 5


def test_a_folders_files_are_regular_ones(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    files = FolderFiles(tmp_path)
    assert files.size("sub") is None
    assert files.size("none") is None
    with pytest.raises(LayoutError, match="No such file"):
        files.open("none").__enter__()


def test_a_size_that_is_known_late_is_written_over_its_place() -> None:
    file = io.BytesIO()
    writer = TarWriter(file)
    with writer.add_stream("late") as sink:
        sink.write(b"hello")
    writer.add_bytes("after", b"x")
    writer.finish()
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        assert [(member.name, member.size, member.mtime, member.mode) for member in archive] == [
            ("late", 5, 0, 0o644),
            ("after", 1, 0, 0o644),
        ]


def test_a_stream_of_another_size_is_an_error() -> None:
    with pytest.raises(SizeMismatch), TarWriter(io.BytesIO()).add_stream("name", 3) as sink:
        sink.write(b"four")
