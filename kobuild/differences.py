"""What differs between an image and what settings and lock make of it, part by part, as findings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kobuild.errors import Finding
from kobuild.image.image import Carried, Image
from kobuild.image.mutate import carry_into
from kobuild.image.store import ImageStore, NamingStore
from kobuild.image.validate import FoundImage, Validation
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.annotations import REF_NAME
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.store.dockerarchive import MANIFEST_FILE, DockerArchive
from kobuild.store.layout import INDEX_FILE, Layout

_INDEX_MEMBERS: Final = frozenset({"schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations"})
_PLATFORM_MEMBERS: Final = frozenset({"architecture", "os", "os.version", "os.features", "variant", "features"})
_MADE_BY_LAYERS: Final = frozenset({"config", "rootfs", "history", "created"})
"""Members of a config document that are compared elsewhere, or that depend on the layers."""


def compare_platforms(
    name: str, wanted: Sequence[Platform], validation: Validation, carried: Sequence[Carried] = ()
) -> Iterator[Finding]:
    """Platforms that are missing, and such as nobody asked for; what is carried of the base was asked for."""
    found = [image.platform for image in validation.images]
    if not found and validation.findings:
        return  # what could not be read was named already
    listed = validation.root.platforms if isinstance(validation.root, Index) else tuple(found)
    for platform in wanted:
        if platform not in found and platform not in listed:
            there = ", ".join(map(str, found)) or "none"
            yield Finding(f"{name}: platforms", str(platform), there, "build all the settings' platforms")
    of_base = {item.descriptor.digest for item in _listed_as(validation.root, carried)}
    for image in validation.images:
        platform = image.platform
        if platform not in wanted and image.manifest.digest not in of_base:
            asked = ", ".join(map(str, wanted))
            remedy = "build again, or name the platform in image.platforms"
            yield Finding(f"{name}: platforms", f"{asked} alone", str(platform), remedy)


def compare_inherited(
    store: ImageStore, root: Manifest | Index, annotations: Mapping[str, str], carried: Sequence[Carried]
) -> Iterator[Finding]:
    """An index's annotations, and what it should list of the base; a docker-archive has no room for either."""
    if isinstance(store, DockerArchive):
        return
    listed = {item.digest for item in root.manifests} if isinstance(root, Index) else set[Digest]()
    for item in _listed_as(root, carried):
        if item.descriptor.digest not in listed:
            what = item.descriptor.platform or "an attestation"
            expected = f"{what}, {item.descriptor.digest}"
            yield Finding(f"{store.name}: platforms kept of the base", expected, "nothing", "build the image again")
    if isinstance(root, Index) and root.media_type == mediatypes.OCI_INDEX:
        for key, value in annotations.items():
            if root.annotations.get(key) != value:
                place = f"index {root.digest}: annotation {key}"
                yield Finding(place, show(value), show(root.annotations.get(key)), "build the image again")


def _listed_as(root: Manifest | Index | None, carried: Sequence[Carried]) -> tuple[Carried, ...]:
    """What is carried, as an index of the root's family lists it."""
    return carry_into(Family.of(root.media_type), carried) if root is not None else ()


def compare_index(store: ImageStore, validation: Validation, names: Sequence[str] | None) -> Iterator[Finding]:
    """A layout's `index.json`, the one document that no digest covers: nothing in it may say what is not so.

    Other tools' spellings pass: they leave out the platform or the media type. A member that the specification does not
    know is most likely a known one that was changed.
    """
    if not isinstance(store, Layout) or validation.root is None:
        return
    place, remedy = f"{store.name}: {INDEX_FILE}", "build again: the file was edited or damaged"
    index = store.index()
    platform = validation.images[0].config.platform if len(validation.images) == 1 else None
    for entry in index.manifests:
        if entry.digest == validation.root.digest and entry.raw_platform and platform is not None:
            yield from _compare_spelling(f"{place}: platform", platform, entry, remedy)
    for member in unknown_members(index):
        yield Finding(place, "members of an image index", json.dumps(member), remedy)
    called = [item.annotations.get(REF_NAME) for item in index.manifests if item.digest == validation.root.digest]
    for name in names or ():
        if name not in called:
            found = ", ".join(sorted(filter(None, called))) or "none"
            yield Finding(f"{place}: names of {validation.root.digest}", name, found, remedy)


def compare_named(store: ImageStore, root: Manifest | Index) -> Iterator[Finding]:
    """What a place says that its name points at, where that is not what it hands out.

    Nothing else tells of a change in a tagged document: a digest covers all but that.
    """
    named = store.named_digest() if isinstance(store, NamingStore) else None
    if named is not None and not named.covers(root.raw):
        remedy = "the registry's storage is damaged or was changed: push again; or verify REF@DIGEST, if a proxy errs"
        yield Finding(f"manifest {named} of {store.name}", str(named), str(root.digest), remedy)
    if isinstance(store, DockerArchive):
        for member in store.unknown_members():
            remedy = "build again: the file was edited or damaged"
            yield Finding(f"{store.name}: {MANIFEST_FILE}", "members that docker writes", json.dumps(member), remedy)


def _compare_spelling(place: str, platform: Platform, entry: Descriptor, remedy: str) -> Iterator[Finding]:
    """An entry's platform as it is written: normalising would let `liNux` pass."""
    written = entry.raw_platform or {}
    if entry.platform != platform or (written.get("os"), written.get("architecture")) != (
        platform.os,
        platform.architecture,
    ):
        yield Finding(place, str(platform), json.dumps(dict(written)), remedy)


def unknown_members(index: Index) -> Iterator[str]:
    """Names of members, of an index and of its entries, that image-spec does not know."""
    yield from (key for key in jsonio.parse_object(index.raw, "index") if key not in _INDEX_MEMBERS)
    for entry in index.manifests:
        yield from entry.extra
        yield from (key for key in entry.raw_platform or {} if key not in _PLATFORM_MEMBERS)


def compare_config(place: str, expected: ImageConfig, found: ImageConfig) -> Iterator[Finding]:
    """Members of two configs that differ, but for those that follow from the layers."""
    remedy = "build again, or change the settings to what is meant"
    ours, theirs = expected.value(), found.value()
    pairs: list[tuple[str, Any, Any]] = [
        (key, ours.get(key), theirs.get(key)) for key in {**ours, **theirs} if key not in _MADE_BY_LAYERS
    ]
    runtimes = expected.runtime, found.runtime
    pairs += [
        (f"config.{key}", runtimes[0].get(key), runtimes[1].get(key))
        for key in {**runtimes[0], **runtimes[1]}
        if key != "Env"
    ]
    pairs += _environment_pairs(expected.env, found.env)
    for key, want, got in pairs:
        if want != got:
            yield Finding(f"{place}: {key}", show(want), show(got), remedy)


def _environment_pairs(expected: Sequence[str], found: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """Variable by variable, and as a whole where only the order differs."""
    ours, theirs = (dict(item.partition("=")[::2] for item in env) for env in (expected, found))
    for name in {**ours, **theirs}:
        yield f"variable {name}", ours.get(name), theirs.get(name)
    if ours == theirs:
        yield "config.Env", list(expected), list(found)


def compare_rebuilt(image: FoundImage, rebuilt: Image) -> Iterator[Finding]:
    """Image IDs that differ, and in which members of the config and in which layers that lies."""
    if rebuilt.image_id == image.config.digest:
        return
    ours, theirs = rebuilt.config.value(), image.config.value()
    differing = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    pairs = zip(rebuilt.config.diff_ids, image.config.diff_ids, strict=False)
    layers = [f"layer {number}" for number, (mine, its) in enumerate(pairs, 1) if mine != its]
    what = ", ".join([*layers, *differing]) or "its spelling alone"
    remedy = f"they differ in {what}: the image was not made from this lock, or its inputs have changed"
    yield Finding(f"image ID of {image.platform}, rebuilt", str(rebuilt.image_id), str(image.config.digest), remedy)


def show(value: object) -> str:
    """A JSON value for a finding; a missing one is `nothing`."""
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
