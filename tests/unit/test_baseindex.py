"""What of a base's index goes into ours: other platforms as they are, and annotations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from kobuild.base import open_store, resolve_base
from kobuild.baseindex import Inherited, inherit
from kobuild.errors import BaseError
from kobuild.image.image import Image
from kobuild.image.mutate import ConfigEdits, gather, with_config
from kobuild.lock import LockedBase
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import OCI_INDEX, OCI_MANIFEST, Family
from kobuild.oci.platforms import Platform
from kobuild.settings.model import ImageSettings
from kobuild.store.cache import Cache
from tests.support.images import AMD64, ARM64, random_image
from tests.support.shelf import Shelf, shelf_of

NAME = "example.com/base"
S390X = Platform("linux", "s390x")
KEEP = ImageSettings(NAME, keeps_other_platforms=True, keeps_base_annotations=True)


def kept(shelf: Shelf, settings: ImageSettings = KEEP, cache: Cache | None = None) -> Inherited:
    return inherit(resolve_base(NAME, settings.platforms, shelf.open), settings, shelf.open, cache)


def attestation(shelf: Shelf, about: Image, seed: int) -> Descriptor:
    """BuildKit's word about an image."""
    notes = {"vnd.docker.reference.type": "attestation-manifest"}
    notes["vnd.docker.reference.digest"] = str(about.manifest.digest)
    unknown = Platform("unknown", "unknown")
    return dataclasses.replace(shelf.add(random_image(seed)), annotations=notes, platform=unknown)


def put(shelf: Shelf, *entries: Descriptor, annotations: Mapping[str, str] | None = None) -> Index:
    index = Index.build(media_type=OCI_INDEX, manifests=entries, annotations=annotations)
    shelf.tag(index)
    return index


def test_by_default_nothing_is_kept_and_nothing_asked() -> None:
    shelf = shelf_of(random_image(1), random_image(2, platform=ARM64))
    base = resolve_base(NAME, [AMD64], shelf.open)
    shelf.asked.clear()
    assert inherit(base, ImageSettings(NAME), shelf.open) == Inherited()
    assert inherit(None, KEEP, shelf.open) == Inherited()
    assert shelf.asked == []


def test_other_platforms_are_kept_as_they_are_listed() -> None:
    amd64, arm64, s390x = (random_image(n, platform=p) for n, p in enumerate((AMD64, ARM64, S390X)))
    shelf = Shelf(amd64, arm64, s390x)
    named = dataclasses.replace(s390x.descriptor, annotations={"a": "b"}, extra={"x": 1})
    put(shelf, named, amd64.descriptor, arm64.descriptor, annotations={"org.example": "base"})
    found = kept(shelf)
    assert [item.descriptor.to_json() for item in found.carried] == [named.to_json(), arm64.descriptor.to_json()]
    assert [item.manifest for item in found.carried] == [s390x.manifest, arm64.manifest]
    wanted = {blob.descriptor.digest for blob in s390x.blobs}
    assert {blob.descriptor.digest for blob in found.carried[0].blobs} == wanted
    assert found.annotations == {"org.example": "base"}
    assert not any(text.startswith("blob") for text in shelf.asked if str(amd64.config.digest) not in text)


def test_platforms_of_the_settings_are_never_the_bases_whatever_one_run_makes() -> None:
    shelf = shelf_of(random_image(1), random_image(2, platform=ARM64), random_image(3, platform=S390X))
    settings = dataclasses.replace(KEEP, platforms=(AMD64, ARM64))
    assert [item.descriptor.platform for item in kept(shelf, settings).carried] == [S390X]


def test_attestations_follow_what_they_are_about() -> None:
    amd64, arm64 = random_image(1), random_image(2, platform=ARM64)
    shelf = Shelf(amd64, arm64)
    of_amd64, of_arm64 = attestation(shelf, amd64, 3), attestation(shelf, arm64, 4)
    put(shelf, amd64.descriptor, of_amd64, of_arm64, arm64.descriptor)
    assert [item.descriptor for item in kept(shelf).carried] == [arm64.descriptor, of_arm64]


def test_nested_and_nameless_entries_are_kept_and_artifacts_are_not() -> None:
    amd64, arm64, s390x = (random_image(n, platform=p) for n, p in enumerate((AMD64, ARM64, S390X)))
    shelf = Shelf(amd64, arm64, s390x)
    artifact = dataclasses.replace(random_image(7).manifest.descriptor, artifact_type="application/x", platform=None)
    inner = put(shelf, arm64.descriptor, s390x.manifest.descriptor, amd64.manifest.descriptor)
    put(shelf, amd64.descriptor, arm64.descriptor, inner.descriptor, artifact)
    assert [(item.descriptor.digest, item.descriptor.platform) for item in kept(shelf).carried] == [
        (arm64.manifest.digest, ARM64),
        (s390x.manifest.digest, S390X),
    ]


def test_the_next_run_asks_nothing(tmp_path: Path) -> None:
    arm64, s390x = random_image(2, platform=ARM64), random_image(3, platform=S390X)
    shelf = shelf_of(random_image(1), arm64)
    inner = put(shelf, shelf.add(s390x), arm64.manifest.descriptor)
    put(shelf, shelf.add(random_image(1)), inner.descriptor)
    base, cache = resolve_base(NAME, [AMD64], shelf.open), Cache(tmp_path)
    first = inherit(base, KEEP, shelf.open, cache)
    shelf.asked.clear()
    again = inherit(base, KEEP, shelf.open, cache)
    assert shelf.asked == []
    assert [item.manifest for item in again.carried] == [item.manifest for item in first.carried]


def test_a_base_of_one_manifest_has_nothing_to_keep() -> None:
    image = random_image(1)
    shelf = Shelf(image)
    shelf.tag(image.manifest)
    assert kept(shelf) == Inherited()


def test_an_index_that_is_gone_says_what_to_do() -> None:
    shelf = shelf_of(random_image(1), random_image(2, platform=ARM64))
    base = resolve_base(NAME, [AMD64], shelf.open)
    del shelf.documents[shelf.tags["latest"]]
    with pytest.raises(BaseError, match="as locked: no manifest") as caught:
        inherit(base, KEEP, shelf.open)
    assert "resolve --upgrade" in str(caught.value.hint)


def test_a_layout_whose_own_index_lists_the_platforms_is_read(tmp_path: Path) -> None:
    amd64, arm64 = random_image(1), random_image(2, platform=ARM64)
    index = Index.build(media_type=OCI_INDEX, manifests=(amd64.descriptor, arm64.descriptor))
    (tmp_path / "index.json").write_bytes(index.raw)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for image in (amd64, arm64):
        (blobs / image.manifest.digest.hex).write_bytes(image.manifest.raw)
        (blobs / image.config.digest.hex).write_bytes(image.config.raw)
    name = f"oci:{tmp_path}"

    def opener(text: str) -> object:
        return open_store(text, folder=tmp_path, open_registry=lambda _: pytest.fail("no registry is named"))

    base = resolve_base(name, [AMD64], opener)  # type: ignore[arg-type]
    found = inherit(base, KEEP, opener)  # type: ignore[arg-type]
    assert [item.manifest for item in found.carried] == [arm64.manifest]
    wrong = LockedBase(name, "sha256:" + "0" * 64, base.platforms if base else {})
    with pytest.raises(BaseError, match="its index is not"):
        inherit(wrong, KEEP, opener)  # type: ignore[arg-type]


# How it is listed


def test_a_single_image_gets_an_index_where_others_go_along() -> None:
    amd64, arm64 = random_image(1), random_image(2, platform=ARM64)
    images = gather([amd64], carried=kept(shelf_of(amd64, arm64)).carried, annotations={"a": "b"})
    assert isinstance(images.root, Index)
    assert images.root.manifests == (amd64.descriptor, arm64.descriptor)
    assert images.root.annotations == {"a": "b"}


def test_dockers_manifests_stay_in_a_list_of_dockers() -> None:
    amd64, arm64 = (random_image(n, platform=p, family=Family.DOCKER) for n, p in enumerate((AMD64, ARM64)))
    images = gather([amd64], carried=kept(shelf_of(amd64, arm64)).carried)
    assert images.root.media_type == mediatypes.DOCKER_MANIFEST_LIST
    assert images.root.manifests[1].digest == arm64.manifest.digest  # type: ignore[union-attr]


def test_in_an_index_of_ocis_dockers_manifests_are_written_anew_with_the_same_image_ids() -> None:
    amd64, arm64 = random_image(1), random_image(2, platform=ARM64, family=Family.DOCKER)
    shelf = Shelf(amd64, arm64)
    about = attestation(shelf, arm64, 5)
    put(shelf, amd64.descriptor, arm64.descriptor, about)
    (item,) = gather([amd64], carried=kept(shelf).carried).carried
    assert item.manifest.media_type == OCI_MANIFEST
    assert item.manifest.config.digest == arm64.config.digest
    assert [layer.digest for layer in item.manifest.layers] == [layer.descriptor.digest for layer in arm64.layers]
    types = {mediatypes.Family.of(part.media_type) for part in (item.manifest.config, *item.manifest.layers)}
    assert types == {Family.OCI}
    assert (item.descriptor.digest, item.descriptor.platform) == (item.manifest.digest, ARM64)
    assert {blob.descriptor.digest for blob in item.blobs} == {blob.descriptor.digest for blob in arm64.blobs}


def test_annotations_of_the_manifest_stay_under_ours_where_that_is_asked() -> None:
    image = random_image(1)
    value = jsonio.parse_object(image.manifest.raw, "test")
    raw = jsonio.canonical({**value, "annotations": {"a": "base", "b": "base"}})
    noted = dataclasses.replace(image, manifest=Manifest.from_bytes(raw))
    assert with_config(noted, ConfigEdits(annotations={"a": "ours"})).manifest.annotations == {"a": "ours"}
    edits = ConfigEdits(annotations={"a": "ours"}, keeps_annotations=True)
    assert with_config(noted, edits).manifest.annotations == {"a": "ours", "b": "base"}
