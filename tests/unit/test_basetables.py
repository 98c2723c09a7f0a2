"""A base's tree by its layers' tables of contents: the same as by their tars, for a few kilobytes."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kobuild.base import load_base, resolve_base
from kobuild.basetree import read_base_tree
from kobuild.image.blobs import BytesSource, Layer
from kobuild.image.mutate import gather
from kobuild.layers.toc import ESTARGZ_DIGEST
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import OCI_LAYER_GZIP, Compression
from kobuild.oci.reference import Reference
from kobuild.registry import AnonymousKeychain, RegistryClient, RegistryStore
from kobuild.store.cache import Cache
from kobuild.streams import Readable, ReadRange
from kobuild.transport import Transport
from tests.support.archives import Entry, folder, make_tar, symlink
from tests.support.images import AMD64, make_image, make_layer
from tests.support.registry import run_registry
from tests.support.toolimages import tool

NEVER = threading.Event()


FILES = [
    *(folder(name) for name in ("usr", "usr/bin", "usr/lib", "opt")),
    symlink("bin", "usr/bin"),
    Entry("usr/bin/sh", bytes(range(256)) * 300),
    Entry("usr/lib/käse", random.Random(1).randbytes(90_000)),  # noqa: S311  # test data
    symlink("opt/current", "../usr/lib"),
]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.mark.parametrize("compression", [Compression.ESTARGZ, Compression.ZSTD_CHUNKED])
def test_of_a_layer_in_a_registry_the_table_of_contents_is_enough(
    compression: Compression, cache: Cache, tmp_path: Path
) -> None:
    addition = tool("base", "1", FILES, root="/", compression=compression)
    image = make_image([addition.layer, make_layer(make_tar([Entry("opt/.wh.current")]))])
    transport = Transport()
    with run_registry(tmp_path / "registry") as registry, contextlib.closing(transport):
        client = RegistryClient(transport, AnonymousKeychain())
        reference = Reference.parse(f"{registry.host}/base:1")
        client.push(gather([image]), [reference])

        def open_store(text: str) -> RegistryStore:
            return RegistryStore(client, Reference.parse(text))

        opened = load_base(resolve_base(str(reference), [AMD64], open_store), AMD64, open_store, cache)
        registry.forget()
        found = read_base_tree(opened, cache, NEVER)
        assert 0 < registry.sent(str(addition.layer.descriptor.digest)) < addition.layer.descriptor.size / 20
    assert found == read_base_tree(image, Cache(tmp_path / "other"), NEVER)
    assert found.links == {b"bin": b"usr/bin"}
    assert found.directories == {b"usr", b"usr/bin", b"usr/lib", b"opt"}


def crafted(table: bytes) -> Layer:
    """An eStargz layer with nothing but a table of contents."""
    tar = make_tar([Entry("stargz.index.json", table)])
    extra = b"SG\x16\x00" + b"%016x" % 0 + b"STARGZ"
    head = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff" + len(extra).to_bytes(2, "little") + extra
    blob = gzip.compress(tar) + head + b"\x01\x00\x00\xff\xff" + bytes(8)
    notes = {ESTARGZ_DIGEST: str(Digest.of(table))}
    return Layer(
        Descriptor(OCI_LAYER_GZIP, Digest.of(blob), len(blob), annotations=notes), BytesSource(blob), Digest.of(tar)
    )


@pytest.mark.parametrize("fault", ["another table's digest", "a name that is no text"])
def test_a_table_that_is_not_right_costs_reading_the_tar(fault: str, cache: Cache) -> None:
    made = tool("base", "1", FILES, root="/", compression=Compression.ESTARGZ).layer
    if fault == "another table's digest":
        notes = {**made.descriptor.annotations, ESTARGZ_DIGEST: f"sha256:{'0' * 64}"}
        layer = replace(made, descriptor=replace(made.descriptor, annotations=notes))
    else:
        layer = crafted(json.dumps({"entries": [{"name": "\ud800", "type": "symlink", "linkName": "x"}]}).encode())
    with layer.source.open() as file:
        blob = file.read()
    source = Ranged(blob)
    found = read_base_tree(make_image([replace(layer, source=source)]), cache, NEVER)
    assert source.asked
    assert source.opened == 1
    assert (b"bin" in found.links) is (fault == "another table's digest")


def test_a_table_says_nothing_about_images_that_have_another(cache: Cache) -> None:
    """A config's diff IDs are a claim, and of a table nobody can tell whether the tar is the same."""
    honest = tool("base", "1", FILES, root="/", compression=Compression.ESTARGZ).layer
    lying = crafted(json.dumps({"entries": [{"name": "bin", "type": "symlink", "linkName": "tmp"}]}).encode())
    images = []
    for layer in (lying, honest):
        with layer.source.open() as file:
            source = Ranged(file.read())
        images.append(make_image([replace(layer, source=source, diff_id=honest.diff_id)]))
    assert read_base_tree(images[0], cache, NEVER).links == {b"bin": b"tmp"}
    for image in (images[1], make_image([honest])):
        assert read_base_tree(image, cache, NEVER).links[b"bin"] == b"usr/bin"


class Ranged:
    """A blob of which parts can be read, and how it was."""

    repository = None

    def __init__(self, data: bytes) -> None:
        self.data, self.asked, self.opened = data, 0, 0

    def ranges(self) -> ReadRange:
        def read(start: int, size: int) -> bytes:
            self.asked += 1
            return self.data[start : start + size]

        return read

    @contextlib.contextmanager
    def open(self) -> Iterator[Readable]:
        self.opened += 1
        yield io.BytesIO(self.data)
