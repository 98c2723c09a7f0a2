"""The one validator of images: everything that must hold of any image, whoever made it and wherever it lies.

    every blob      its size and digest; a layer's compression and diff ID too
    each document   its media type is the one it was listed under
    each image      as many diff IDs as layers, one family of media types; and history that fits, else a note
    an index        each entry's platform is the one of its image's config, no platform twice, one family

What it finds is collected, never raised; only failures that say nothing of the image (no such place, a refused login, a
broken network) are raised.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Final

from kobuild.errors import (
    BaseError,
    DigestMismatch,
    Finding,
    IntegrityError,
    LayoutError,
    LayoutMissing,
    MalformedDocument,
    NotFound,
    SizeMismatch,
)
from kobuild.frozen import frozen
from kobuild.image.choose import is_about_another, is_image, read_config
from kobuild.image.layercheck import BlobCheck, Observer, check_blob, check_layer, describe
from kobuild.image.store import ImageStore
from kobuild.oci import mediatypes
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.progress import NullReporter, Reporter
from kobuild.streams import Readable, stoppable

_JOBS: Final = 4
_MAX_DEPTH: Final = 4
_MAKER: Final = "build the image again with the tool that made it"
_WRONG: Final = (IntegrityError, MalformedDocument, LayoutError, BaseError)


@frozen
class FoundImage:
    """One platform's image that could be read."""

    manifest: Manifest
    config: ImageConfig
    entry: Descriptor | None
    """The index's entry for it; None where there is no index."""

    @property
    def platform(self) -> Platform:
        """What the index says it is for, else what its config says."""
        named = self.entry.platform if self.entry is not None else None
        return named or self.config.platform


@frozen
class Validation:
    """What was read, and what was found to be wrong."""

    root: Manifest | Index | None
    """None where even that could not be read."""
    images: tuple[FoundImage, ...]
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    """What is odd and harms nobody: history that does not fit the layers, which many bases have."""
    blobs: int
    """Different blobs and documents that were read."""
    size: int
    """Their stored bytes."""
    uncompressed_size: int
    """Bytes of the layers' tars."""


Observe = Callable[[FoundImage, int], "Observer | None"]
"""Asked once for each layer that is read: who wants to see the tar of this image's layer (counted from 0)?"""


def validate(store: ImageStore, *, observe: Observe | None = None, reporter: Reporter | None = None) -> Validation:
    """Read all of an image, or of an index and its images, and check what must hold.

    Blobs are read once each, several at once, in constant memory. Raises RegistryError, FetchError and LayoutMissing
    where nothing can be said of the image.
    """
    documents = _Documents(store)
    documents.read_root()
    work = _Work(store, observe, reporter or NullReporter())
    checks = work.run(documents)
    findings = [*documents.findings, *(finding for check in checks for finding in check.findings)]
    return Validation(
        root=documents.root,
        images=tuple(documents.images),
        findings=tuple(dict.fromkeys(findings)),
        notes=tuple(note for image in documents.images for note in check_history(image)),
        blobs=len(documents.sizes) + len(checks),
        size=sum(documents.sizes.values()) + sum(check.size for check in checks),
        uncompressed_size=sum(check.uncompressed_size for check in checks),
    )


class _Documents:
    """Walks from the root to every config, and notes what is wrong on the way."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self.root: Manifest | Index | None = None
        self.images: list[FoundImage] = []
        self.blobs: list[Descriptor] = []
        """Of attestations and artifacts, of which no more is known than size and digest."""
        self.findings: list[Finding] = []
        self.sizes: dict[Digest, int] = {}

    def read_root(self) -> None:
        try:
            self.root = self._store.root()
        except LayoutMissing:
            raise
        except _WRONG as error:
            place = error.place if isinstance(error, (DigestMismatch, SizeMismatch)) else self._store.name
            self.findings.append(describe(error, place))
            return
        self._visit(self.root, None, 1)

    def _visit(self, document: Manifest | Index, entry: Descriptor | None, depth: int) -> None:
        self.sizes[document.digest] = len(document.raw)
        if isinstance(document, Index):
            self._visit_index(document, depth)
        elif is_image(document) and not (entry is not None and is_about_another(entry)):
            self._visit_image(document, entry)
        else:
            self.blobs += (document.config, *document.layers)

    def _visit_index(self, index: Index, depth: int) -> None:
        place = f"index {index.digest}"
        if depth > _MAX_DEPTH:
            self.findings.append(Finding(place, f"at most {_MAX_DEPTH} indexes in each other", "more", _MAKER))
            return
        self.findings += _check_index(index, place)
        for entry in index.manifests:
            try:
                child = self._store.child(entry)
            except (*_WRONG, NotFound) as error:
                self.findings.append(describe(error, f"manifest {entry.digest}{_of(entry.platform)}"))
                continue
            if child.media_type != entry.media_type:
                self.findings.append(
                    _differ(f"manifest {entry.digest}: media type", entry.media_type, child.media_type)
                )
            self._visit(child, entry, depth + 1)

    def _visit_image(self, manifest: Manifest, entry: Descriptor | None) -> None:
        platform = entry.platform if entry is not None else None
        try:
            config = read_config(self._store, manifest)
        except (*_WRONG, NotFound) as error:
            self.findings.append(describe(error, f"config {manifest.config.digest}{_of(platform)}"))
            # Of layers whose diff IDs are not known the digests can still be checked.
            self.blobs += manifest.layers
            return
        self.sizes[manifest.config.digest] = len(config.raw)
        image = FoundImage(manifest, config, entry)
        self.images.append(image)
        self.findings += check_image(image)


_Jobs = dict[tuple[Descriptor, "Digest | None"], Callable[[], BlobCheck]]


class _Work:
    """The blobs of all images, each read once."""

    def __init__(self, store: ImageStore, observe: Observe | None, reporter: Reporter) -> None:
        self._store = store
        self._observe = observe
        self._reporter = reporter
        self._stopped = threading.Event()
        """Set after an error or an interrupt: what is being read then ends at its next chunk."""

    def _open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return stoppable(self._store.open(descriptor), self._stopped)

    def run(self, documents: _Documents) -> list[BlobCheck]:
        """Check every blob that was not read as a document, the largest first; results in the manifests' order."""
        jobs = {**self._other_jobs(documents), **self._layer_jobs(documents)}
        pool = ThreadPoolExecutor(max_workers=_JOBS, thread_name_prefix="kobuild-verify")
        futures: dict[object, Future[BlobCheck]] = {}
        try:
            for key in sorted(jobs, key=lambda key: -key[0].size):
                futures[key] = pool.submit(jobs[key])
            return [futures[key].result() for key in jobs]
        except BaseException:
            self._stopped.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _other_jobs(self, documents: _Documents) -> _Jobs:
        jobs: _Jobs = {}
        for descriptor in documents.blobs:
            if descriptor.digest not in documents.sizes and not _stays_away(descriptor):
                jobs[descriptor, None] = self._blob_job(descriptor, f"blob {descriptor.digest}")
        return jobs

    def _layer_jobs(self, documents: _Documents) -> _Jobs:
        jobs: _Jobs = {}
        for image in documents.images:
            diff_ids = image.config.diff_ids
            for number, descriptor in enumerate(image.manifest.layers):
                diff_id = diff_ids[number] if number < len(diff_ids) else None
                if (descriptor, diff_id) not in jobs and not _stays_away(descriptor):
                    jobs[descriptor, diff_id] = self._layer_job(image, number, diff_id)
        return jobs

    def _blob_job(self, descriptor: Descriptor, place: str) -> Callable[[], BlobCheck]:
        return lambda: check_blob(self._open, descriptor, place, self._reporter)

    def _layer_job(self, image: FoundImage, number: int, diff_id: Digest | None) -> Callable[[], BlobCheck]:
        descriptor, place = image.manifest.layers[number], layer_place(image, number)
        if diff_id is None:
            return self._blob_job(descriptor, place)
        observer = self._observe(image, number) if self._observe is not None else None
        return lambda: check_layer(
            self._open, descriptor, diff_id, place=place, reporter=self._reporter, observer=observer
        )


def layer_place(image: FoundImage, number: int) -> str:
    """A layer's place for findings, `number` counted from 0: `layer 3 (sha256:…) of linux/amd64`."""
    return f"layer {number + 1} ({image.manifest.layers[number].digest}){_of(image.platform)}"


def check_image(image: FoundImage) -> Iterator[Finding]:
    """What must hold between an image's manifest, config and index entry."""
    manifest, config = image.manifest, image.config
    place = f"image {manifest.digest}{_of(image.platform)}"
    if len(config.diff_ids) != len(manifest.layers):
        yield _differ(f"{place}: diff IDs in the config", f"{len(manifest.layers)}, one a layer", len(config.diff_ids))
    types = [manifest.config.media_type, *(layer.media_type for layer in manifest.layers)]
    yield from _check_family(place, manifest.family, types)
    if image.entry is not None and image.entry.platform is not None:
        yield from _check_platform(place, image.entry.platform, config)


def check_history(image: FoundImage) -> Iterator[Finding]:
    """History with more or fewer lines than there are layers; config.md asks for one a layer, or for none at all."""
    lines = [line for line in image.config.history if not line.get("empty_layer")]
    count = len(image.manifest.layers)
    if image.config.history and len(lines) != count:
        place = f"image {image.manifest.digest}{_of(image.platform)}: history of layers"
        yield _differ(place, f"{count} lines, one a layer", len(lines))


def _check_platform(place: str, named: Platform, config: ImageConfig) -> Iterator[Finding]:
    found = config.platform
    # Configs for `arm/v6` often say only `arm`; a variant that is not said does not contradict.
    is_variant_said = bool(config.value().get("variant"))
    if (found.os, found.architecture) != (named.os, named.architecture) or (is_variant_said and found != named):
        yield _differ(f"{place}: platform", f"{named} (by the index)", f"{found} (by the config)")


def _check_index(index: Index, place: str) -> Iterator[Finding]:
    # Compared with all that was written of them: Windows' images differ in `os.version` alone.
    counts = Counter(
        (entry.platform, str(sorted((entry.raw_platform or {}).items())))
        for entry in index.manifests
        if entry.platform and entry.platform.is_known
    )
    for (platform, _), count in counts.items():
        if count > 1:
            yield _differ(f"{place}: entries for {platform}", "one", count)
    types = [entry.media_type for entry in index.manifests]
    known = [media_type for media_type in types if media_type in mediatypes.MANIFESTS | mediatypes.INDEXES]
    yield from _check_family(place, Family.of(index.media_type), known)


def _check_family(place: str, family: Family, media_types: Iterable[str]) -> Iterator[Finding]:
    for media_type in dict.fromkeys(media_types):
        if Family.of(media_type) is not family:
            yield _differ(f"{place}: media types", f"{family.value}'s alone", media_type)


def _stays_away(descriptor: Descriptor) -> bool:
    return mediatypes.is_foreign(descriptor.media_type) and bool(descriptor.urls)


def _of(platform: Platform | None) -> str:
    return f" of {platform}" if platform is not None else ""


def _differ(place: str, expected: object, actual: object) -> Finding:
    return Finding(place, str(expected), str(actual), _MAKER)
