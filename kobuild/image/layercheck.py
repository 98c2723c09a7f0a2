"""One blob, read once to its end: size, digest, and for a layer its compression and diff ID."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

from kobuild.decompress import Decompressed, detect
from kobuild.errors import (
    ArchiveError,
    DigestMismatch,
    Finding,
    IntegrityError,
    KobuildError,
    LayoutError,
    NotFound,
    SizeMismatch,
)
from kobuild.frozen import frozen
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Compression
from kobuild.progress import Reporter
from kobuild.streams import CHUNK_BYTES, HashingWriter, Readable

DAMAGED: Final = "the bytes are damaged or were changed: build or pull the image again"
_INCONSISTENT: Final = "build the image again with the tool that made it"
_BY_SUFFIX: Final = {
    "tar": Compression.NONE,
    "+gzip": Compression.GZIP,
    ".gzip": Compression.GZIP,
    "+zstd": Compression.ZSTD,
    ".zstd": Compression.ZSTD,
}

OpenBlob = Callable[[Descriptor], AbstractContextManager[Readable]]
"""ImageStore's `open`: the reader raises IntegrityError at its end."""

Observer = Callable[[Iterator[bytes]], None]
"""Takes a layer's uncompressed tar in chunks; it may stop early, and what it raises as ArchiveError is a finding."""


@frozen
class BlobCheck:
    """What reading one blob showed."""

    findings: tuple[Finding, ...]
    size: int
    """Stored bytes read."""
    uncompressed_size: int = 0
    """Bytes of the tar inside; 0 for what is no layer."""


def check_blob(opener: OpenBlob, descriptor: Descriptor, place: str, reporter: Reporter) -> BlobCheck:
    """Check a blob's size and digest."""
    tap = _Tap(reporter, descriptor)
    try:
        with opener(descriptor) as file:
            tap.drain(file)
    except (IntegrityError, LayoutError, NotFound) as error:
        return BlobCheck((describe(error, place),), tap.count)
    finally:
        tap.done()
    return BlobCheck((), tap.count)


def check_layer(
    opener: OpenBlob,
    descriptor: Descriptor,
    diff_id: Digest,
    *,
    place: str,
    reporter: Reporter,
    observer: Observer | None = None,
) -> BlobCheck:
    """Check a layer's size, digest, diff ID, and that its media type says how it is compressed.

    `diff_id` is what the config says; where the compressed bytes are wrong nothing is said of the rest.
    """
    tap = _Tap(reporter, descriptor)
    hasher = HashingWriter(None)
    try:
        with opener(descriptor) as file:
            findings = _read_layer(tap.over(file), descriptor, place, hasher, observer)
    except (IntegrityError, LayoutError, NotFound) as error:
        return BlobCheck((describe(error, place),), tap.count, hasher.size)
    finally:
        tap.done()
    if not findings and hasher.digest != diff_id:
        findings = (
            Finding(f"{place}: diff ID", f"{diff_id} (by the config)", f"{hasher.digest} in the blob", _INCONSISTENT),
        )
    return BlobCheck(findings, tap.count, hasher.size)


def describe(error: KobuildError, place: str) -> Finding:
    """An error of reading as a finding."""
    if isinstance(error, DigestMismatch):
        return Finding(place, error.expected, error.actual, DAMAGED)
    if isinstance(error, SizeMismatch):
        at_least = "at least " if error.actual > error.expected else ""
        return Finding(place, f"{error.expected} bytes", f"{at_least}{error.actual} bytes", DAMAGED)
    if isinstance(error, (LayoutError, NotFound)):
        return Finding(place, "to be there", str(error), "build or push the image again: it is not whole")
    return Finding(place, "to be well-formed", str(error), error.hint or DAMAGED)


def _read_layer(
    file: Readable, descriptor: Descriptor, place: str, hasher: HashingWriter, observer: Observer | None
) -> tuple[Finding, ...]:
    """Read a layer to its end, compressed and uncompressed."""
    try:
        reader = Decompressed(file, place)
        chunks = _hashed(reader, hasher)
        first = next(chunks, b"")
        if observer is not None:
            observer(_chain(first, chunks))
        for _ in chunks:
            pass
    except ArchiveError as error:
        # Wrong compressed bytes are the better answer, which only the blob's end gives.
        while file.read(CHUNK_BYTES):
            pass
        return (Finding(place, "a readable layer", str(error), _INCONSISTENT),)
    return tuple(_compare_compression(descriptor, reader.compression, first, place))


def _compare_compression(descriptor: Descriptor, found: Compression, first: bytes, place: str) -> Iterator[Finding]:
    said = next((kind for suffix, kind in _BY_SUFFIX.items() if descriptor.media_type.endswith(suffix)), None)
    if said is not None and said is not found:
        yield Finding(f"{place}: compression", f"{said.value} (by {descriptor.media_type})", found.value, _INCONSISTENT)
    inner = detect(first[:4])
    if found is not Compression.NONE and inner is not Compression.NONE:
        yield Finding(f"{place}: content", "a tar archive", f"{inner.value} inside {found.value}", _INCONSISTENT)


def _hashed(reader: Readable, hasher: HashingWriter) -> Iterator[bytes]:
    while data := reader.read(CHUNK_BYTES):
        hasher.write(data)
        yield data


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


class _Tap:
    """Counts stored bytes on their way, for the progress bar and the sum."""

    def __init__(self, reporter: Reporter, descriptor: Descriptor) -> None:
        self._transfer = reporter.transfer(f"verify {descriptor.digest.short}", descriptor.size)
        self._source: Readable | None = None
        self.count = 0

    def over(self, source: Readable) -> Readable:
        self._source = source
        return self

    def drain(self, source: Readable) -> None:
        self._source = source
        while self.read(CHUNK_BYTES):
            pass

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size) if self._source is not None else b""
        self.count += len(data)
        self._transfer.advance(len(data))
        return data

    def done(self) -> None:
        self._transfer.done()
