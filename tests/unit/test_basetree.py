"""A base's links and directories, put together from its layers."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from kobuild.basetree import BaseTree, read_base_tree
from kobuild.errors import BaseError, DigestMismatch
from kobuild.image.blobs import BytesSource, Layer
from kobuild.image.image import Image
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import OCI_LAYER_GZIP
from kobuild.oci.platforms import Platform
from kobuild.store.cache import Cache
from tests.support.archives import Entry, folder, hard_link, make_tar, symlink

NEVER = threading.Event()


def image(*layers: Iterable[Entry]) -> Image:
    """An image of these layers; its manifest is nobody's concern here."""
    made = []
    for entries in layers:
        tar = make_tar(entries)
        blob = gzip.compress(tar, mtime=0)
        descriptor = Descriptor(OCI_LAYER_GZIP, Digest.of(blob), len(blob))
        made.append(Layer(descriptor, BytesSource(blob), Digest("sha256", hashlib.sha256(tar).hexdigest())))
    empty = Image.empty(Platform("linux", "amd64"))
    return Image(empty.manifest, empty.config, tuple(made))


def tree(cache: Cache, *layers: Iterable[Entry]) -> BaseTree:
    return read_base_tree(image(*layers), cache, NEVER)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_links_and_directories_of_all_layers(cache: Cache) -> None:
    found = tree(
        cache,
        [folder("./usr"), folder("./usr/bin"), symlink("./bin", "usr/bin"), Entry("./usr/bin/sh", b"#")],
        [Entry("opt/app/program", b"x"), symlink("opt/current", "app"), symlink("opt/readme", "app/program")],
        [hard_link("opt/again", "opt/app/program")],
    )
    assert found.directories == {b"usr", b"usr/bin", b"opt", b"opt/app"}
    assert found.links == {b"bin": b"usr/bin", b"opt/current": b"app"}
    assert found.resolve(b"bin/x") == b"usr/bin/x"
    assert found.resolve(b"opt/current/y/z") == b"opt/app/y/z"
    assert found.resolve(b"nowhere/x") == b"nowhere/x"


def test_upper_layers_take_away_and_replace(cache: Cache) -> None:
    found = tree(
        cache,
        [
            *(folder(name) for name in ("a", "a/deep", "b", "c", "c/old", "d", "e")),
            symlink("l", "a"),
            symlink("m", "c"),
            symlink("n", "c"),
        ],
        [
            Entry(".wh.a"),
            Entry("b", b"now a file"),
            folder("c/new"),
            Entry("c/.wh..wh..opq"),
            symlink("d", "e"),
            folder("m"),
            Entry(".wh.n"),
        ],
    )
    assert found.directories == {b"c", b"c/new", b"e", b"m"}
    assert found.links == {b"d": b"e"}


def test_possible_links_are_kept_though_they_dangle(cache: Cache) -> None:
    found = tree(cache, [symlink("var/lock", "/run/lock"), symlink("etc/alternative", "/nowhere")])
    assert found.links == {b"var/lock": b"/run/lock"}
    assert found.resolve(b"var/lock/x") == b"run/lock/x"


def test_resolving_follows_chains_and_never_leaves_the_top() -> None:
    found = BaseTree(frozenset(), {b"a": b"b/./c", b"b/c": b"../../../d", b"x": b"y", b"y": b"/x"})
    assert found.resolve(b"a/z") == b"d/z"
    with pytest.raises(BaseError, match="in a circle"):
        found.resolve(b"x/z")


def test_names_of_any_bytes_survive_the_cache(cache: Cache) -> None:
    odd = b"\xff\xfe".decode("utf-8", "surrogateescape")
    layers = [folder(f"{odd}"), symlink("link", odd)]
    first = tree(cache, layers)
    assert first.links == {b"link": b"\xff\xfe"}
    assert tree(cache, layers) == first
    assert BaseTree.from_json({"links": []}) is None


def test_an_image_cannot_say_what_another_one_holds(cache: Cache) -> None:
    honest, other = (image([symlink("bin", target)]) for target in ("usr/bin", "tmp"))
    (layer,), (lying,) = honest.layers, other.layers
    with pytest.raises(DigestMismatch, match=f"unpacked: expected {layer.diff_id}"):
        read_base_tree(replace(other, layers=(replace(lying, diff_id=layer.diff_id),)), cache, NEVER)
    assert read_base_tree(honest, cache, NEVER).links == {b"bin": b"usr/bin"}


def test_a_tree_is_read_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    base = image([folder("a")])
    first = read_base_tree(base, cache, NEVER)
    monkeypatch.setattr(tarfile, "open", None)
    gone = Layer(base.layers[0].descriptor, BytesSource(b"not the layer"), base.layers[0].diff_id)
    assert read_base_tree(Image(base.manifest, base.config, (gone,)), cache, NEVER) == first


def test_nothing_is_asked_of_an_empty_base(cache: Cache) -> None:
    assert read_base_tree(image(), cache, NEVER) == BaseTree(frozenset(), {})
    assert not cache.root.exists()
