"""`docker save` archives: what `docker load` and `podman load` take (moby, image/tarexport).

    manifest.json     [{"Config": …, "RepoTags": […], "Layers": […]}]
    HEX.json          the config, under the image ID
    HEX.tar           each layer's uncompressed tar, under its diff ID

The form has no manifests: image ID and diff IDs say what the image is; the layers' compressed digests are not in it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from kobuild.decompress import Decompressed, detect
from kobuild.errors import DigestMismatch, InvalidReference, LayoutError, MalformedDocument, UsageError
from kobuild.image.blobs import BlobSource, Layer
from kobuild.image.image import ImageSet
from kobuild.oci import jsonio
from kobuild.oci.config import ImageConfig
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Compression, Family
from kobuild.oci.reference import Reference
from kobuild.progress import NullReporter, Reporter
from kobuild.store.files import MemberSource, TarFiles
from kobuild.store.layoutwriter import WriteResult
from kobuild.store.tarwriter import TarWriter
from kobuild.streams import CHUNK_BYTES, HashingWriter, Readable, atomic_file, copy, read_bounded

MANIFEST_FILE: Final = "manifest.json"
_MEMBERS: Final = frozenset({"Config", "RepoTags", "Layers", "LayerSources", "Parent"})
"""Of an entry of `manifest.json`, in moby's words (image/tarexport)."""


def write_docker_archive(
    path: Path,
    images: ImageSet,
    *,
    references: Sequence[Reference] = (),
    reporter: Reporter | None = None,
) -> WriteResult:
    """Write the only image of `images` as one tar, which appears at `path` when it is whole; nothing that is carried.

    Raises UsageError for several platforms, which the form cannot hold; IntegrityError where a layer's bytes are not
    what its digest and its diff ID say.
    """
    if len(images.images) != 1:
        raise UsageError(
            f"write docker-archive:{path}: the form holds one platform, and this build has {len(images.images)}",
            hint="name one in image.platforms, or write an oci-archive:",
        )
    image = images.images[0]
    layers = {layer.diff_id: layer for layer in image.layers}
    config_name = f"{image.config.digest.hex}.json"
    listing = {
        "Config": config_name,
        "RepoTags": [str(reference) for reference in references],
        "Layers": [f"{layer.diff_id.hex}.tar" for layer in image.layers],
    }
    with atomic_file(path) as file:
        writer = TarWriter(file)
        writer.add_bytes(MANIFEST_FILE, json.dumps([listing], separators=(",", ":")).encode())
        writer.add_bytes(config_name, image.config.raw)
        written = sum(_write_layer(writer, layer, reporter or NullReporter()) for layer in layers.values())
        writer.finish()
    return WriteResult(images.descriptor, len(layers) + 1, 0, 0, written + len(image.config.raw))


def _write_layer(writer: TarWriter, layer: Layer, reporter: Reporter) -> int:
    place = f"layer {layer.descriptor.digest}"
    transfer = reporter.transfer(f"write {layer.diff_id.short}", None)
    with layer.source.open() as source, writer.add_stream(f"{layer.diff_id.hex}.tar") as sink:
        hasher = HashingWriter(sink)
        reader = Decompressed(source, place)
        while data := reader.read(CHUNK_BYTES):
            hasher.write(data)
            transfer.advance(len(data))
    transfer.done()
    if hasher.digest != layer.diff_id:
        raise DigestMismatch(f"{place}, uncompressed", expected=str(layer.diff_id), actual=str(hasher.digest))
    return hasher.size


class DockerArchive:
    """One image of a `docker save` archive, as an ImageStore with a manifest made up for it.

    Uncompressed layers stand in that manifest under their diff ID, as which they are verified when they are read;
    compressed ones, which some tools write, under the digest of what is there.
    """

    def __init__(self, path: Path, reference: str | None = None) -> None:
        self.name = f"docker-archive:{path}" + (f":{reference}" if reference else "")
        self._files = TarFiles(path)
        self._reference = reference

    def root(self) -> Manifest | Index:
        """The made-up manifest; raises LayoutError or MalformedDocument."""
        return self._image[0]

    def child(self, descriptor: Descriptor) -> Manifest | Index:
        """There are no other manifests than the one."""
        manifest = self._image[0]
        if descriptor.digest != manifest.digest:
            raise LayoutError(f"read {self.name}: there is no manifest {descriptor.digest}")
        return manifest

    def source(self, descriptor: Descriptor) -> BlobSource:
        """A way to the config's or a layer's bytes."""
        name = self._image[1].get(descriptor.digest)
        if name is None:
            raise LayoutError(f"read {self.name}: there is no blob {descriptor.digest}")
        return MemberSource(self._files, name, descriptor, self.name)

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """Open a blob, verified as it is read."""
        return self.source(descriptor).open()

    def unknown_members(self) -> tuple[str, ...]:
        """Names in the archive's `manifest.json` that docker does not write: perhaps known ones that were changed."""
        return tuple(key for key in self._entry() if key not in _MEMBERS)

    @cached_property
    def _image(self) -> tuple[Manifest, dict[Digest, str]]:
        """The manifest, and which member holds which blob."""
        place = f"{self.name}: {MANIFEST_FILE}"
        entry = self._entry()
        config_name = jsonio.get_str(entry, "Config", place)
        layer_names = jsonio.get_strings(entry, "Layers", place)
        raw = self._read(config_name, by=MANIFEST_FILE)
        named = _named_digest(config_name)
        if named is not None and not named.covers(raw):
            # Before anything in it is believed: the name is the image ID.
            place = f"{self.name}: {config_name}"
            raise DigestMismatch(place, expected=str(named), actual=str(Digest.of(raw)))
        config = ImageConfig.from_bytes(raw, f"{self.name}: {config_name}")
        if len(config.diff_ids) != len(layer_names):
            raise LayoutError(
                f"read {self.name}: its config {config_name} lists {len(config.diff_ids)} layers and {MANIFEST_FILE} "
                f"{len(layer_names)}"
            )
        pairs = zip(layer_names, config.diff_ids, strict=True)
        layers = tuple(self._describe(name, diff_id) for name, diff_id in pairs)
        manifest = Manifest.build(
            media_type=Family.DOCKER.manifest,
            config=Descriptor(Family.DOCKER.config, config.digest, len(raw)),
            layers=layers,
            annotations={},
        )
        names = {layer.digest: name for layer, name in zip(layers, layer_names, strict=True)}
        return manifest, {**names, manifest.config.digest: config_name}

    def _entry(self) -> dict[str, Any]:
        place = f"{self.name}: {MANIFEST_FILE}"
        entries = jsonio.parse_objects(self._read(MANIFEST_FILE), place)
        if self._reference is not None:
            wanted = Reference.parse(self._reference)
            entries = tuple(entry for entry in entries if wanted in _references(entry, place))
        if len(entries) != 1:
            raise LayoutError(
                f"read {self.name}: {len(entries)} images to choose from, where one was expected",
                hint="name one: docker-archive:FILE:REFERENCE",
            )
        return entries[0]

    def _read(self, name: str, *, by: str = "") -> bytes:
        """A member whole; `by` is the member that names it."""
        if by and self._files.size(name) is None:
            raise LayoutError(f"read {self.name}: it has no member {name!r}, which {by} names")
        with self._files.open(name) as file:
            return read_bounded(file, jsonio.MAX_DOCUMENT_BYTES, f"{self.name}: {name}")

    def _describe(self, name: str, diff_id: Digest) -> Descriptor:
        size = self._files.size(name)
        if size is None:
            raise LayoutError(f"read {self.name}: it has no member {name!r}, which {MANIFEST_FILE} names")
        with self._files.open(name) as file:
            head = file.read(4)
        if detect(head) is Compression.NONE:
            return Descriptor(Family.DOCKER.layer(Compression.NONE), diff_id, size)
        hasher = HashingWriter(None)
        with self._files.open(name) as file:
            copy(file, hasher)
        return Descriptor(Family.DOCKER.layer(Compression.GZIP), hasher.digest, size)


def _references(entry: dict[str, Any], place: str) -> list[Reference]:
    found = []
    for text in jsonio.get_strings(entry, "RepoTags", place):
        with contextlib.suppress(InvalidReference):  # such as `<none>:<none>`
            found.append(Reference.parse(text))
    return found


def _named_digest(name: str) -> Digest | None:
    """The image ID that the config's name states, so that a changed config is found out."""
    stem = name.rpartition("/")[2].removesuffix(".json")
    try:
        return Digest.parse(f"sha256:{stem}")
    except MalformedDocument:
        return None
