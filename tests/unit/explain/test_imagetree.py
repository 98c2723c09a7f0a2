"""An image as a tree: what made each layer, the config, the largest files; and how little is read for it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from kobuild.errors import BaseError, UsageError
from kobuild.explain.imagetree import inspect_image, stays_away
from kobuild.explain.treeview import tree_json, tree_text
from kobuild.image.blobs import BytesSource, Layer
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.mediatypes import DOCKER_FOREIGN_LAYER, Compression, Family
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient, RegistryStore
from kobuild.store.dockerarchive import DockerArchive
from kobuild.store.layout import Layout
from kobuild.store.locations import Location
from tests.support.archives import Entry
from tests.support.images import AMD64, ARM64, layout_of, make_image, make_layer, make_tar, random_image
from tests.support.programs import require_program
from tests.support.registry import DockerRegistry
from tests.support.toolimages import BASE_DIGEST, BASE_NAME, base_image, tool, tool_image


def built(compression: Compression = Compression.GZIP, family: Family = Family.OCI) -> Image:
    """A base with go and ko on it."""
    go = tool("go", "1.27.3", [Entry("go/bin/go", b"g" * 5000)], compression=compression, family=family)
    ko = tool("ko", "0.18.0", [Entry("ko", b"k" * 900)], root="/usr/local/bin", compression=compression, family=family)
    return tool_image(base_image(family=family), [go, ko], workdir="/workspace", path=("/usr/local/go/bin",))


def test_a_person_reads_what_made_each_layer(tmp_path: Path) -> None:
    image = built()
    store = Layout.folder(layout_of(tmp_path / "image", image))
    text = tree_text(inspect_image(store), 0)
    lines = [line.strip("│├└─ ") for line in text.splitlines()]
    assert lines[0] == f"oci:{tmp_path}/image"
    assert lines[1] == f"image {image.manifest.digest}"
    assert lines[2].startswith(f"linux/amd64  {image.manifest.digest}")
    assert lines[2].endswith("in 3 layers")
    assert lines[3] == f"base {BASE_NAME}@{BASE_DIGEST}"
    sizes = [layer.descriptor.size for layer in image.layers]
    assert lines[4:7] == [
        f"1  {sizes[0]} B  {image.layers[0].descriptor.digest.short}  layer 0",
        f"2  {sizes[1]} B  {image.layers[1].descriptor.digest.short}  go 1.27.3 under /usr/local",
        f"3  {sizes[2]} B  {image.layers[2].descriptor.digest.short}  ko 0.18.0 under /usr/local/bin",
    ]
    assert {"created  2026-01-02T03:04:05Z", "PATH=/usr/local/go/bin:/usr/bin:/bin", "WorkingDir  /workspace"} <= {
        *lines
    }
    assert "largest files" not in text


def test_docker_s_family_has_its_tools_from_the_history(tmp_path: Path) -> None:
    store = Layout.folder(layout_of(tmp_path / "image", built(family=Family.DOCKER)))
    (image,) = inspect_image(store).images
    assert [(layer.origin.tool, layer.origin.version, layer.origin.root) for layer in image.layers] == [
        ("", "", ""),
        ("go", "1.27.3", "/usr/local"),
        ("ko", "0.18.0", "/usr/local/bin"),
    ]
    assert [layer.origin.of_base for layer in image.layers] == [True, False, False]


def test_the_largest_files_come_first(tmp_path: Path) -> None:
    store = Layout.folder(layout_of(tmp_path / "image", built()))
    tree = inspect_image(store, files=True)
    files = tree_json(tree, 2)["images"][0]["files"]
    assert [(item["path"], item["size"], item["layer"]) for item in files] == [
        ("/usr/local/go/bin/go", 5000, 2),
        ("/usr/local/bin/ko", 900, 3),
    ]
    assert "5.0 kB  /usr/local/go/bin/go  (layer 2)" in tree_text(tree, 2)
    assert "(2 entries, 100 B unpacked)" not in tree_text(tree, 2)
    only = inspect_image(store, files=True, layers=[3])
    assert [layer.listing is not None for layer in only.images[0].layers] == [False, False, True]
    with pytest.raises(UsageError, match="there is no layer 4: it has 3"):
        inspect_image(store, files=True, layers=[4])


def test_a_remote_image_is_not_downloaded(registry: DockerRegistry, client: RegistryClient) -> None:
    reference = Reference.parse(f"{registry.host}/inspect/plain:1")
    image = built()
    client.push(gather([image]), [reference])
    registry.forget()
    store = RegistryStore(client, reference)
    assert inspect_image(store).images[0].config == image.config
    fetched = [target for _, target, _ in registry.requests() if "/blobs/" in target]
    assert fetched == [f"/v2/inspect/plain/blobs/{image.config.digest}"]
    registry.forget()
    inspect_image(store, files=True, layers=[3])
    fetched = [target for _, target, _ in registry.requests() if "/blobs/" in target]
    assert f"/v2/inspect/plain/blobs/{image.layers[2].descriptor.digest}" in fetched
    assert len(fetched) == 2


@pytest.mark.parametrize("compression", [Compression.ESTARGZ, Compression.ZSTD_CHUNKED])
def test_a_remote_table_of_contents_is_enough_for_files(
    compression: Compression, registry: DockerRegistry, client: RegistryClient
) -> None:
    reference = Reference.parse(f"{registry.host}/inspect/{compression.name.lower()}:1")
    image = built(compression)
    client.push(gather([image]), [reference])
    registry.forget()
    tree = inspect_image(RegistryStore(client, reference), files=True, layers=[2, 3])
    assert [entry.path for _, entry in tree.images[0].largest(1)] == ["usr/local/go/bin/go"]
    blobs = [(target.rpartition("/")[2], status) for _, target, status in registry.requests() if "/blobs/" in target]
    whole = [digest for digest, status in blobs if status == 200]
    assert whole == [str(image.config.digest)]
    assert f"({compression.value}; 1 entry, 5.0 kB unpacked)" in tree_text(tree, 5)


def test_platforms_of_an_index(tmp_path: Path) -> None:
    path = layout_of(tmp_path / "image", random_image(1, platform=AMD64), random_image(2, platform=ARM64))
    store = Layout.folder(path)
    tree = inspect_image(store)
    assert [str(image.platform) for image in tree.images] == ["linux/amd64", "linux/arm64"]
    assert tree_text(tree, 0).splitlines()[1].startswith("index sha256:")
    (only,) = inspect_image(store, platforms=[ARM64]).images
    assert only.platform == ARM64
    with pytest.raises(BaseError, match="has no image for linux/s390x"):
        inspect_image(store, platforms=[Platform("linux", "s390x")])


def test_json_says_it_all(tmp_path: Path) -> None:
    image = built(Compression.ESTARGZ)
    store = Layout.folder(layout_of(tmp_path / "image", image))
    value = tree_json(inspect_image(store, files=True), 3)
    assert json.loads(json.dumps(value)) == value
    (found,) = value["images"]
    assert found["image_id"] == str(image.config.digest)
    assert found["base"] == {"name": BASE_NAME, "digest": str(BASE_DIGEST)}
    assert found["size"] == sum(layer.descriptor.size for layer in image.layers) + len(image.config.raw) + len(
        image.manifest.raw
    )
    assert [layer["tool"] for layer in found["layers"]] == [None, "go", "ko"]
    assert [layer["table_of_contents"] for layer in found["layers"]] == [None, "estargz", "estargz"]
    assert found["layers"][1]["contents"]["size"] == 5000
    assert found["config"]["WorkingDir"] == "/workspace"


def test_docker_archives_and_oci_archives_are_read(tmp_path: Path) -> None:
    for text in (f"docker-archive:{tmp_path}/d.tar", f"oci-archive:{tmp_path}/o.tar"):
        location = Location.parse(text)
        assert location is not None
        location.write(gather([built()]))
        (image,) = inspect_image(location.open(), files=True).images
        assert image.largest(1)[0][1].path == "usr/local/go/bin/go"
        assert image.layers[1].origin.tool == "go"
    assert DockerArchive(tmp_path / "d.tar").name.startswith("docker-archive:")


def test_foreign_layers_are_listed_without_their_files() -> None:
    near = make_layer(make_tar({"a": b"1"}), family=Family.DOCKER)
    descriptor = Descriptor(DOCKER_FOREIGN_LAYER, near.descriptor.digest, 10, urls=("https://example.test/x",))
    image = make_image([Layer(descriptor, BytesSource(b""), near.diff_id)], family=Family.DOCKER)
    assert stays_away(image.manifest.layers[0])


def test_an_image_of_buildah_s(tmp_path: Path) -> None:
    buildah = require_program("buildah")
    (tmp_path / "file").write_text("content\n")
    (tmp_path / "Containerfile").write_text('FROM scratch\nCOPY file /opt/file\nENV A=b\nCMD ["/opt/file"]\n')
    options = ["--root", str(tmp_path / "store"), "--runroot", str(tmp_path / "run"), "--storage-driver", "vfs"]
    build = [
        buildah,
        *options,
        "bud",
        "-q",
        "--layers=false",
        "--isolation",
        "chroot",
        "-t",
        f"oci:{tmp_path}/out",
        str(tmp_path),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (image,) = inspect_image(Layout.folder(tmp_path / "out"), files=True).images
    assert [entry.path for _, entry in image.largest(3)] == ["opt/file"]
    assert image.base is None or image.base.name == ""
    assert (
        image.config.env == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=b")
        or image.config.env
    )
