"""The verify flow: is an image what its settings and its lock say?

First everything that must hold of any image (`image.validate`), then what makes it ours: the platforms that were asked
for, the base's layers as locked, each tool's layer in its place with its files under its root, and the config that the
settings make of the base's. With a way to rebuild, the image is made again from the lock and image IDs are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Final

from kobuild.differences import (
    compare_config,
    compare_index,
    compare_inherited,
    compare_named,
    compare_platforms,
    compare_rebuilt,
    show,
)
from kobuild.errors import Finding, VerificationError
from kobuild.frozen import frozen
from kobuild.image.image import Carried, Image
from kobuild.image.layercheck import Observer
from kobuild.image.mutate import ConfigEdits, with_config
from kobuild.image.store import ImageStore
from kobuild.image.validate import FoundImage, layer_place, validate
from kobuild.oci.annotations import TOOL_NAME
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.progress import Reporter
from kobuild.store.dockerarchive import DockerArchive
from kobuild.toollayers import Listing, ToolExpectation

_AGAIN: Final = "build the image again from settings and lock"


@frozen
class ImageExpectation:
    """What settings and lock say of one platform's image."""

    platform: Platform
    base: Image
    """As locked; its layers are not read."""
    edits: ConfigEdits
    tools: tuple[ToolExpectation, ...]
    """In the settings' order, which is layer order."""


@frozen
class IndexExpectation:
    """What settings and lock say of the index, where there is one."""

    annotations: Mapping[str, str] = field(default_factory=dict)
    carried: tuple[Carried, ...] = ()
    """What it lists beside the images, as the base has it."""


@frozen
class ToolReport:
    """One tool's layer, as it was found."""

    name: str
    digest: Digest
    size: int
    """Of the compressed layer, in bytes."""
    members: int
    """Entries under the tool's root."""


@frozen
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


@frozen
class VerifyReport:
    """What verify looked at and what it found."""

    subject: str
    """The place, in containers/image's spelling."""
    digest: Digest | None
    """Of what the place's name points at; None where that could not be read."""
    platforms: tuple[PlatformReport, ...]
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    """What is odd in the base and harms nobody."""
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
    index: IndexExpectation | None = None,
    rebuild: Rebuild | None = None,
    names: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> VerifyReport:
    """Check all of the image at `store` against `expectations`, one a platform, and against `index`.

    `names` are names that a layout's `index.json` should give the image; None does not look. Findings are
    collected; raised is only what says nothing of the image: LayoutMissing, RegistryError, FetchError, and whatever
    `rebuild` raises.
    """
    wanted = {expectation.platform: expectation for expectation in expectations}
    listings = _Listings(wanted)
    validation = validate(store, observe=listings.observe, reporter=reporter)
    found = {image.platform: image for image in validation.images}
    findings = list(validation.findings)
    if validation.root is not None:
        inherited = index or IndexExpectation()
        findings += compare_platforms(store.name, tuple(wanted), validation, inherited.carried)
        findings += compare_inherited(store, validation.root, inherited.annotations, inherited.carried)
        findings += compare_index(store, validation, names)
        findings += compare_named(store, validation.root)
    reports = []
    for platform, image in found.items():
        if platform in wanted:
            check = _ImageCheck(wanted[platform], image, listings, has_manifest=not isinstance(store, DockerArchive))
            findings += check.findings()
            if rebuild is not None:
                findings += compare_rebuilt(image, rebuild(platform))
            reports.append(check.report(rebuilt=rebuild is not None))
    return VerifyReport(
        subject=store.name,
        digest=validation.root.digest if validation.root is not None else None,
        platforms=tuple(reports),
        findings=tuple(dict.fromkeys(findings)),
        notes=validation.notes,
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
        yield from compare_config(self._place, with_config(expectation.base, expectation.edits).config, image.config)
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
        else:
            for tool, line in zip(self._expectation.tools, ours[len(base) :], strict=True):
                said = line.get("created_by")
                if tool.history is not None and said != tool.history:
                    remedy = "the image has another version than the lock: build again, or restore the lock"
                    yield Finding(f"{self._place}: history of tool {tool.name}", tool.history, show(said), remedy)

    def _compare_annotations(self) -> Iterator[Finding]:
        if self._image.manifest.family is Family.DOCKER:
            return  # Docker's manifests cannot hold any
        found = self._image.manifest.annotations
        for key, value in self._expectation.edits.annotations_on(self._expectation.base).items():
            if found.get(key) != value:
                yield Finding(f"{self._place}: annotation {key}", show(value), show(found.get(key)), _AGAIN)
