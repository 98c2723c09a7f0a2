"""Bases: the right image of the right platform, exactly as locked, or a word on why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kobuild.base import load_base, open_store, pinned_name, resolve_base
from kobuild.errors import BaseError, InvalidReference, LayoutError, LockError, MalformedDocument, UsageError
from kobuild.image.blobs import Blob
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.image.store import ImageStore
from kobuild.lock import LockedBase
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import OCI_INDEX, OCI_MANIFEST, Family
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.store.cache import Cache
from kobuild.store.ociarchive import write_oci_archive
from tests.support.images import AMD64, ARM64, layout_of, random_image
from tests.support.shelf import Shelf, ShelfStore, shelf_of

ARM_V5, ARM_V6, ARM_V7 = (Platform("linux", "arm", variant) for variant in ("v5", "v6", "v7"))


def locked(shelf: Shelf, *platforms: Platform) -> LockedBase:
    base = resolve_base("example.com/base", platforms, shelf.open)
    assert base is not None
    return base


def test_scratch_is_nothing() -> None:
    shelf = Shelf()
    assert resolve_base("scratch", [AMD64], shelf.open) is None
    image = load_base(None, ARM64, shelf.open)
    assert image.platform == ARM64
    assert image.layers == ()
    assert shelf.asked == []


def test_an_index_gives_each_platform_its_manifest() -> None:
    amd64, arm64 = random_image(1), random_image(2, platform=ARM64)
    shelf = shelf_of(amd64, arm64)
    base = locked(shelf, AMD64, ARM64)
    assert base.digest == str(shelf.tags["latest"])
    assert base.platforms == {AMD64: str(amd64.manifest.digest), ARM64: str(arm64.manifest.digest)}
    image = load_base(base, ARM64, shelf.open)
    assert image.manifest == arm64.manifest
    assert image.config == arm64.config
    assert [layer.diff_id for layer in image.layers] == [layer.diff_id for layer in arm64.layers]


def test_no_layer_is_read() -> None:
    image = random_image(1)
    shelf = shelf_of(image)
    load_base(locked(shelf, AMD64), AMD64, shelf.open)
    blobs = {text for text in shelf.asked if text.startswith("blob")}
    assert blobs == {f"blob {image.config.digest}"}


def test_the_lock_decides_when_the_tag_has_moved() -> None:
    old, new = random_image(1), random_image(2)
    shelf = shelf_of(old)
    base = locked(shelf, AMD64)
    shelf.add(new)
    shelf.tag(new.manifest)
    assert load_base(base, AMD64, shelf.open).manifest == old.manifest


def test_a_platform_that_is_missing_names_those_that_exist() -> None:
    shelf = shelf_of(random_image(1), random_image(2, platform=ARM_V7))
    with pytest.raises(BaseError, match="no image for linux/arm64; it has linux/amd64, linux/arm/v7") as caught:
        locked(shelf, ARM64)
    assert caught.value.hint is not None


def test_a_platform_that_the_lock_lacks_is_the_locks_fault() -> None:
    shelf = shelf_of(random_image(1))
    with pytest.raises(LockError, match="for linux/arm64"):
        load_base(locked(shelf, AMD64), ARM64, shelf.open)


def test_a_single_manifest_is_checked_by_its_config() -> None:
    image = random_image(1)
    shelf = Shelf(image)
    shelf.tag(image.manifest)
    assert locked(shelf, AMD64).platforms == {AMD64: str(image.manifest.digest)}
    with pytest.raises(BaseError, match="is for linux/amd64, not for linux/arm64"):
        locked(shelf, ARM64)


@pytest.mark.parametrize("others", [(), (ARM64,)], ids=["a manifest", "an index"])
def test_what_was_read_to_resolve_is_not_asked_for_again(others: tuple[Platform, ...], tmp_path: Path) -> None:
    images = [random_image(number, platform=platform) for number, platform in enumerate((AMD64, *others))]
    shelf, cache = shelf_of(*images), Cache(tmp_path)
    if not others:
        shelf.tag(images[0].manifest)
    base = resolve_base("example.com/base", [AMD64], shelf.open, cache)
    loaded = load_base(base, AMD64, shelf.open, cache)
    assert loaded.config == images[0].config
    assert len(shelf.asked) == len(set(shelf.asked))
    shelf.asked.clear()
    assert resolve_base("example.com/base", [AMD64], shelf.open, cache) == base
    assert shelf.asked == [f"manifest {shelf.tags['latest']}"], "a tag may move"


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        (ARM_V7, [ARM_V5, ARM_V6, ARM_V7], ARM_V7),
        (ARM_V7, [ARM_V5, ARM_V6], ARM_V6),
        (ARM_V6, [ARM_V5, ARM_V7], ARM_V5),
        (ARM_V6, [ARM_V7], None),
        (Platform("linux", "amd64", "v3"), [AMD64], AMD64),
        (AMD64, [Platform("linux", "amd64", "v3")], None),
        (ARM64, [Platform("linux", "arm64", "v8")], ARM64),
    ],
)
def test_the_nearest_variant_that_runs_is_chosen(
    wanted: Platform, offered: list[Platform], chosen: Platform | None
) -> None:
    images = [random_image(number, platform=platform) for number, platform in enumerate(offered)]
    shelf = shelf_of(*images)
    if chosen is None:
        with pytest.raises(BaseError, match="has no image for"):
            locked(shelf, wanted)
        return
    assert load_base(locked(shelf, wanted), wanted, shelf.open).platform == chosen.normalized()


def test_attestations_are_never_platforms() -> None:
    image, attestation = random_image(1), random_image(2)
    shelf = Shelf(image, attestation)
    unknown = Descriptor(
        OCI_MANIFEST,
        attestation.manifest.digest,
        len(attestation.manifest.raw),
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
        platform=Platform("unknown", "unknown"),
    )
    nameless = replace(unknown, platform=None)
    shelf.tag(Index.build(media_type=OCI_INDEX, manifests=(unknown, nameless, image.descriptor)))
    assert locked(shelf, AMD64).platforms == {AMD64: str(image.manifest.digest)}
    with pytest.raises(BaseError, match=r"it has linux/amd64$"):
        locked(shelf, ARM64)


def test_an_index_within_an_index_is_looked_into() -> None:
    image = random_image(1, platform=ARM64)
    shelf = shelf_of(image)
    inner = shelf.documents[shelf.tags["latest"]]
    shelf.tag(Index.build(media_type=OCI_INDEX, manifests=(random_image(2).descriptor, inner.descriptor)))
    assert locked(shelf, ARM64).platforms == {ARM64: str(image.manifest.digest)}


def test_indexes_without_end_are_refused() -> None:
    shelf = shelf_of(random_image(1))
    for _ in range(5):
        inner = shelf.documents[shelf.tags["latest"]]
        shelf.tag(Index.build(media_type=OCI_INDEX, manifests=(inner.descriptor,)))
    with pytest.raises(BaseError, match="more than 4 deep"):
        locked(shelf, AMD64)


def test_entries_without_a_platform_are_told_by_their_config() -> None:
    amd64, arm64 = random_image(1), random_image(2, platform=ARM64)
    shelf = shelf_of(amd64, arm64, entries=lambda image: image.manifest.descriptor)
    assert locked(shelf, ARM64).platforms == {ARM64: str(arm64.manifest.digest)}


def test_an_index_that_lies_about_a_platform_is_found_out() -> None:
    shelf = shelf_of(random_image(1), entries=lambda image: replace(image.descriptor, platform=ARM64))
    with pytest.raises(BaseError, match="is for linux/amd64, not for linux/arm64"):
        load_base(locked(shelf, ARM64), ARM64, shelf.open)


def test_an_artifact_is_no_base() -> None:
    image = random_image(1)
    config = Descriptor("application/vnd.cncf.helm.config.v1+json", image.config.digest, len(image.config.raw))
    manifest = Manifest.build(media_type=OCI_MANIFEST, config=config, layers=(), annotations={})
    shelf = Shelf(image)
    shelf.tag(manifest)
    with pytest.raises(BaseError, match="not an image"):
        locked(shelf, AMD64)


def test_a_base_whose_config_lists_other_layers_is_refused() -> None:
    image = random_image(1)
    value = image.config.value()
    value["rootfs"]["diff_ids"].pop()
    config = ImageConfig.from_value(value)
    manifest = Manifest.build(
        media_type=OCI_MANIFEST,
        config=Descriptor(image.manifest.config.media_type, config.digest, len(config.raw)),
        layers=image.manifest.layers,
        annotations={},
    )
    shelf = Shelf(Image(manifest, config, image.layers))
    shelf.tag(manifest)
    with pytest.raises(BaseError, match="lists 1 layers and its manifest 2"):
        load_base(locked(shelf, AMD64), AMD64, shelf.open)


def test_a_base_that_is_gone_says_what_to_do() -> None:
    image = random_image(1)
    shelf = shelf_of(image)
    base = locked(shelf, AMD64)
    del shelf.documents[image.manifest.digest]
    with pytest.raises(BaseError, match="as locked: no manifest") as caught:
        load_base(base, AMD64, shelf.open)
    assert "resolve --upgrade" in str(caught.value.hint)


def test_an_index_is_not_one_platforms_manifest() -> None:
    shelf = shelf_of(random_image(1))
    wrong = LockedBase("example.com/base", "", {AMD64: str(shelf.tags["latest"])})
    with pytest.raises(BaseError, match="not one platform's manifest"):
        load_base(wrong, AMD64, shelf.open)


# With a cache the second build asks nothing.


def read_all(blobs: tuple[Blob, ...]) -> list[bytes]:
    contents = []
    for blob in blobs:
        with blob.source.open() as file:
            contents.append(file.read())
    return contents


def test_documents_are_kept_in_the_cache(tmp_path: Path) -> None:
    shelf = shelf_of(random_image(1))
    base = locked(shelf, AMD64)
    cache = Cache(tmp_path)
    first = load_base(base, AMD64, shelf.open, cache)
    shelf.asked.clear()
    second = load_base(base, AMD64, shelf.open, cache)
    assert shelf.asked == []
    assert (second.manifest, second.config) == (first.manifest, first.config)


@pytest.mark.parametrize("family", Family)
def test_a_cached_manifest_keeps_its_media_type(tmp_path: Path, family: Family) -> None:
    shelf = shelf_of(random_image(1, family=family))
    base = locked(shelf, AMD64)
    for _ in range(2):
        assert load_base(base, AMD64, shelf.open, Cache(tmp_path)).manifest.family is family


def test_a_damaged_cache_is_not_believed(tmp_path: Path) -> None:
    image = random_image(1)
    shelf = shelf_of(image)
    base = locked(shelf, AMD64)
    cache = Cache(tmp_path)
    load_base(base, AMD64, shelf.open, cache)
    for digest in (image.manifest.digest, image.config.digest):
        path = cache.blob_path(digest)
        path.write_bytes(path.read_bytes().replace(b"2", b"3"))
    assert load_base(base, AMD64, shelf.open, cache).manifest == image.manifest


def test_layers_are_kept_where_that_is_wanted(tmp_path: Path) -> None:
    shelf = shelf_of(random_image(1))
    base, cache = locked(shelf, AMD64), Cache(tmp_path)
    passing = load_base(base, AMD64, shelf.open, cache)
    read_all(passing.layers)
    assert cache.find_blob(passing.layers[0].descriptor.digest) is None
    contents = read_all(load_base(base, AMD64, shelf.open, cache, keep_layers=True).layers)
    shelf.asked.clear()
    assert read_all(passing.layers) == contents
    assert shelf.asked == []


def test_a_layer_that_was_read_in_part_is_not_kept(tmp_path: Path) -> None:
    shelf = shelf_of(random_image(1))
    cache = Cache(tmp_path)
    layer = load_base(locked(shelf, AMD64), AMD64, shelf.open, cache, keep_layers=True).layers[0]
    with layer.source.open() as file:
        file.read(10)
    assert cache.find_blob(layer.descriptor.digest) is None
    assert list((tmp_path / "partial").iterdir()) == []


# Local bases, and names.


def no_registry(reference: Reference) -> ImageStore:
    raise AssertionError(reference)


@pytest.mark.parametrize("name", ["oci:base", "oci:base:latest", "oci-archive:base.tar", "oci-archive:base.tar:latest"])
def test_a_local_place_is_a_base(tmp_path: Path, name: str) -> None:
    images = [random_image(1), random_image(2, platform=ARM64)]
    layout_of(tmp_path / "base", *images)
    write_oci_archive(tmp_path / "base.tar", gather(images))

    def opener(text: str) -> ImageStore:
        return open_store(text, folder=tmp_path, open_registry=no_registry)

    base = resolve_base(name, [ARM64], opener)
    assert base is not None
    assert base.digest == str(gather(images).descriptor.digest)
    image = load_base(base, ARM64, opener, Cache(tmp_path / "cache"))
    assert image.manifest == images[1].manifest
    assert read_all(image.layers) == read_all(images[1].layers)
    assert not (tmp_path / "cache").exists()


def test_a_layout_that_is_missing_is_named(tmp_path: Path) -> None:
    store = open_store("oci:nowhere", folder=tmp_path, open_registry=no_registry)
    with pytest.raises(LayoutError, match="nowhere"):
        store.root()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("debian:12", "docker.io/library/debian@{}"),
        ("ghcr.io/a/b:v1", "ghcr.io/a/b@{}"),
        ("oci:dist/image:v1", "oci:dist/image@{}"),
        ("oci-archive:x.tar", "oci-archive:x.tar@{}"),
    ],
)
def test_a_name_is_pinned_in_its_own_spelling(name: str, expected: str) -> None:
    digest = Digest.of(b"x")
    assert pinned_name(name, digest) == expected.format(digest)
    assert pinned_name(pinned_name(name, digest), digest) == expected.format(digest)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("docker-daemon:x", UsageError),
        ("containers-storage:x", UsageError),
        ("oci:", UsageError),
        ("UPPER/x y", InvalidReference),
        ("oci:x@sha256:00", MalformedDocument),
    ],
)
def test_a_name_that_cannot_be_opened_says_so(tmp_path: Path, text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        open_store(text, folder=tmp_path, open_registry=no_registry)


def test_the_registry_is_asked_for_everything_else(tmp_path: Path) -> None:
    asked: list[Reference] = []

    def registry(reference: Reference) -> ImageStore:
        asked.append(reference)
        return ShelfStore(Shelf(), reference)

    open_store("ghcr.io/a/b:v1", folder=tmp_path, open_registry=registry)
    assert asked == [Reference.parse("ghcr.io/a/b:v1")]
