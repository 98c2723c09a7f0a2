"""The verify flow: is an image what its settings and its lock say?

First everything that must hold of any image (`image.validate`), then what makes it ours: the platforms that were asked
for, the base's layers as locked, each tool's layer in its place with its files under its root, and the config that the
settings make of the base's. With a way to rebuild, the image is made again from the lock and image IDs are compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kobuild.errors import Finding, VerificationError
from kobuild.image.image import Image
from kobuild.image.layercheck import Observer
from kobuild.image.mutate import ConfigEdits, with_config
from kobuild.image.store import ImageStore
from kobuild.image.validate import FoundImage, Validation, layer_place, validate
from kobuild.oci import jsonio
from kobuild.oci.annotations import REF_NAME, TOOL_NAME
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.progress import Reporter
from kobuild.store.dockerarchive import DockerArchive
from kobuild.store.layout import INDEX_FILE, Layout
from kobuild.toollayers import Listing, ToolExpectation

_AGAIN: Final = "build the image again from settings and lock"
_INDEX_MEMBERS: Final = frozenset({"schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations"})
_PLATFORM_MEMBERS: Final = frozenset({"architecture", "os", "os.version", "os.features", "variant", "features"})
_MADE_BY_LAYERS: Final = frozenset({"config", "rootfs", "history", "created"})
"""Members of a config document that are compared elsewhere, or that depend on the layers."""


@dataclass(frozen=True, slots=True)
class ImageExpectation:
    """What settings and lock say of one platform's image."""

    platform: Platform
    base: Image
    """As locked; its layers are not read."""
    edits: ConfigEdits
    tools: tuple[ToolExpectation, ...]
    """In the settings' order, which is layer order."""


@dataclass(frozen=True, slots=True)
class ToolReport:
    """One tool's layer, as it was found."""

    name: str
    digest: Digest
    size: int
    """Of the compressed layer, in bytes."""
    members: int
    """Entries under the tool's root."""


@dataclass(frozen=True, slots=True)
class PlatformReport:
    """One platform's image, as it was found."""

    platform: Platform
    digest: Digest
    """Of the manifest."""
    image_id: Digest
    base_layers: int
    tools: tuple[ToolReport, ...]
    rebuilt: bool
    """Whether it was made again from the lock for comparison."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verify looked at and what it found."""

    subject: str
    """The place, in containers/image's spelling."""
    digest: Digest | None
    """Of what the place's name points at; None where that could not be read."""
    platforms: tuple[PlatformReport, ...]
    findings: tuple[Finding, ...]
    blobs: int
    """Blobs and documents that were read and hashed."""
    size: int
    """Their bytes."""
    uncompressed_size: int
    """Bytes of the layers' tars, all hashed too."""

    def raise_for_findings(self) -> None:
        """Raise VerificationError with all findings, if there are any."""
        if self.findings:
            raise VerificationError(self.subject, self.findings)


Rebuild = Callable[[Platform], Image]
"""Makes one platform's image again from the lock."""


def verify(
    store: ImageStore,
    expectations: Sequence[ImageExpectation],
    *,
    rebuild: Rebuild | None = None,
    names: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> VerifyReport:
    """Check all of the image at `store` against `expectations`, one a platform.

    `names` are all the names that a layout's `index.json` should give the image; None does not look. Findings are
    collected; raised is only what says nothing of the image: LayoutMissing, RegistryError, FetchError, and whatever
    `rebuild` raises.
    """
    wanted = {expectation.platform: expectation for expectation in expectations}
    listings = _Listings(wanted)
    validation = validate(store, observe=listings.observe, reporter=reporter)
    found = {image.platform: image for image in validation.images}
    findings = list(validation.findings)
    if validation.root is not None:
        findings += _compare_platforms(store.name, tuple(wanted), validation)
        findings += _compare_index(store, validation, names)
    reports = []
    for platform, image in found.items():
        if platform in wanted:
            check = _ImageCheck(wanted[platform], image, listings, has_manifest=not isinstance(store, DockerArchive))
            findings += check.findings()
            if rebuild is not None:
                findings += _compare_rebuilt(image, rebuild(platform))
            reports.append(check.report(rebuilt=rebuild is not None))
    return VerifyReport(
        subject=store.name,
        digest=validation.root.digest if validation.root is not None else None,
        platforms=tuple(reports),
        findings=tuple(dict.fromkeys(findings)),
        blobs=validation.blobs,
        size=validation.size,
        uncompressed_size=validation.uncompressed_size,
    )


class _Listings:
    """One listing for each tool layer that is read; two platforms may share a layer, which is read once."""

    def __init__(self, wanted: Mapping[Platform, ImageExpectation]) -> None:
        self._wanted = wanted
        self._listings: dict[tuple[Digest, str], Listing] = {}

    def observe(self, image: FoundImage, number: int) -> Observer | None:
        expectation = self._wanted.get(image.platform)
        if expectation is None:
            return None
        position = number - len(expectation.base.layers)
        if not 0 <= position < len(expectation.tools):
            return None
        tool = expectation.tools[position]
        listing = Listing(tool, f"{layer_place(image, number)}, tool {tool.name}")
        self._listings[image.manifest.layers[number].digest, tool.name] = listing
        return listing

    def find(self, digest: Digest, tool: str) -> Listing | None:
        return self._listings.get((digest, tool))


class _ImageCheck:
    """One platform's image against what is expected of it."""

    def __init__(
        self, expectation: ImageExpectation, image: FoundImage, listings: _Listings, *, has_manifest: bool
    ) -> None:
        self._expectation = expectation
        self._image = image
        self._listings = listings
        self._has_manifest = has_manifest
        """Whether there is a manifest of the image's own; `docker save` keeps none, nor the layers' digests."""
        self._place = f"image {image.manifest.digest} of {image.platform}"

    def findings(self) -> Iterator[Finding]:
        expectation, image = self._expectation, self._image
        expected = len(expectation.base.layers) + len(expectation.tools)
        if len(image.manifest.layers) != expected:
            text = f"{expected}: {len(expectation.base.layers)} of the base, {len(expectation.tools)} of tools"
            yield Finding(f"{self._place}: layers", text, str(len(image.manifest.layers)), _AGAIN)
        yield from self._compare_base()
        for number, tool in self._tools():
            yield from self._compare_tool(number, tool)
        yield from _compare_config(self._place, with_config(expectation.base, expectation.edits).config, image.config)
        yield from self._compare_history()
        yield from self._compare_annotations()

    def report(self, *, rebuilt: bool) -> PlatformReport:
        layers = self._image.manifest.layers
        tools = []
        for number, tool in self._tools():
            listing = self._listings.find(layers[number].digest, tool.name)
            members = listing.members if listing is not None else 0
            tools.append(ToolReport(tool.name, layers[number].digest, layers[number].size, members))
        return PlatformReport(
            platform=self._image.platform,
            digest=self._image.manifest.digest,
            image_id=self._image.config.digest,
            base_layers=min(len(self._expectation.base.layers), len(layers)),
            tools=tuple(tools),
            rebuilt=rebuilt,
        )

    def _tools(self) -> Iterator[tuple[int, ToolExpectation]]:
        """Each tool that has a layer in its place, and the layer's number."""
        first = len(self._expectation.base.layers)
        count = min(len(self._image.manifest.layers), len(self._image.config.diff_ids))
        return ((first + i, tool) for i, tool in enumerate(self._expectation.tools) if first + i < count)

    def _compare_base(self) -> Iterator[Finding]:
        remedy = "build again from the lock; `kobuild resolve --upgrade` follows a base that has moved"
        found = list(zip(self._image.manifest.layers, self._image.config.diff_ids, strict=False))
        for number, (expected, (descriptor, diff_id)) in enumerate(
            zip(self._expectation.base.layers, found, strict=False)
        ):
            place = f"layer {number + 1} of {self._image.platform}, of the base"
            if diff_id != expected.diff_id:
                yield Finding(f"{place}: diff ID", str(expected.diff_id), str(diff_id), remedy)
            elif self._has_manifest and descriptor.digest != expected.descriptor.digest:
                yield Finding(f"{place}: digest", str(expected.descriptor.digest), str(descriptor.digest), remedy)

    def _compare_tool(self, number: int, tool: ToolExpectation) -> Iterator[Finding]:
        descriptor, diff_id = self._image.manifest.layers[number], self._image.config.diff_ids[number]
        place = f"{layer_place(self._image, number)}, tool {tool.name}"
        said = descriptor.annotations.get(TOOL_NAME, tool.name)
        if said != tool.name:
            yield Finding(place, f"the layer of tool {tool.name}", f"that of tool {said}", _AGAIN)
        if tool.diff_id is not None and diff_id != tool.diff_id:
            yield Finding(f"{place}: diff ID", f"{tool.diff_id} (from the locked archive)", str(diff_id), _AGAIN)
        listing = self._listings.find(descriptor.digest, tool.name)
        if listing is not None:
            yield from listing.findings()

    def _compare_history(self) -> Iterator[Finding]:
        ours = self._image.config.history
        base = self._expectation.base.config.history
        expected = len(base) + len(self._expectation.tools)
        if len(ours) != expected:
            yield Finding(f"{self._place}: history", f"{expected} lines", f"{len(ours)} lines", _AGAIN)
        elif ours[: len(base)] != base:
            yield Finding(f"{self._place}: history", "the base's lines first", "others", _AGAIN)

    def _compare_annotations(self) -> Iterator[Finding]:
        if self._image.manifest.family is Family.DOCKER:
            return  # Docker's manifests cannot hold any
        found = self._image.manifest.annotations
        for key, value in self._expectation.edits.annotations.items():
            if found.get(key) != value:
                yield Finding(f"{self._place}: annotation {key}", _show(value), _show(found.get(key)), _AGAIN)


def _compare_platforms(name: str, wanted: Sequence[Platform], validation: Validation) -> Iterator[Finding]:
    found = [image.platform for image in validation.images]
    if not found and validation.findings:
        return  # what could not be read was named already
    listed = validation.root.platforms if isinstance(validation.root, Index) else tuple(found)
    for platform in wanted:
        if platform not in found and platform not in listed:
            there = ", ".join(map(str, found)) or "none"
            yield Finding(f"{name}: platforms", str(platform), there, "build all the settings' platforms")
    for platform in found:
        if platform not in wanted:
            asked = ", ".join(map(str, wanted))
            remedy = "build again, or name the platform in image.platforms"
            yield Finding(f"{name}: platforms", f"{asked} alone", str(platform), remedy)


def _compare_index(store: ImageStore, validation: Validation, names: Sequence[str] | None) -> Iterator[Finding]:
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
    called = sorted(item.annotations[REF_NAME] for item in index.manifests if REF_NAME in item.annotations)
    if names is not None and called != sorted(set(names)):
        yield Finding(f"{place}: names", ", ".join(sorted(set(names))), ", ".join(called) or "none", remedy)


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


def _compare_config(place: str, expected: ImageConfig, found: ImageConfig) -> Iterator[Finding]:
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
            yield Finding(f"{place}: {key}", _show(want), _show(got), remedy)


def _environment_pairs(expected: Sequence[str], found: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """Variable by variable, and as a whole where only the order differs."""
    ours, theirs = (dict(item.partition("=")[::2] for item in env) for env in (expected, found))
    for name in {**ours, **theirs}:
        yield f"variable {name}", ours.get(name), theirs.get(name)
    if ours == theirs:
        yield "config.Env", list(expected), list(found)


def _compare_rebuilt(image: FoundImage, rebuilt: Image) -> Iterator[Finding]:
    if rebuilt.image_id == image.config.digest:
        return
    ours, theirs = rebuilt.config.value(), image.config.value()
    differing = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    pairs = zip(rebuilt.config.diff_ids, image.config.diff_ids, strict=False)
    layers = [f"layer {number}" for number, (mine, its) in enumerate(pairs, 1) if mine != its]
    what = ", ".join([*layers, *differing]) or "its spelling alone"
    remedy = f"they differ in {what}: the image was not made from this lock, or its inputs have changed"
    yield Finding(f"image ID of {image.platform}, rebuilt", str(rebuilt.image_id), str(image.config.digest), remedy)


def _show(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
