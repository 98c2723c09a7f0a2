"""What layers come to, and which files differ: held against what umoci extracts."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kobuild.explain.entries import LayerListing
from kobuild.explain.filediff import Change, compare_files
from kobuild.explain.imagediff import compare
from kobuild.explain.imagetree import inspect_image
from kobuild.explain.overlay import Overlay, lay, parents
from kobuild.explain.subjects import Subject, image_subject
from kobuild.layers.entries import Entry as Listed
from kobuild.layers.entries import Kind
from kobuild.store.layout import Layout
from tests.support.archives import Entry, folder, hard_link, make_tar, symlink
from tests.support.images import layout_of, make_image, make_layer
from tests.support.programs import require_program


def subject(path: Path) -> Subject:
    store = Layout.folder(path)
    return image_subject(inspect_image(store), store)


def changed(old: Path, new: Path, *, shared: bool) -> dict[str, Change]:
    """What `diff` says of two layouts of one platform."""
    (item,) = compare(subject(old), subject(new), shared=shared).platforms
    assert item.files is not None
    return {one.path: one.change for one in item.files}


def extracted(layout: Path, target: Path) -> dict[str, tuple[object, ...]]:
    """What umoci makes of an image: kind, mode, and content or link of each path."""
    command = [require_program("umoci"), "raw", "unpack", "--rootless", "--image", f"{layout}:latest", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[object, ...]] = {}
    for place, folders, files in os.walk(target):
        for name in (*folders, *files):
            path = Path(place, name)
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            # A hard link's own mode is its target's, and rootless folders are made accessible.
            found[str(path.relative_to(target))] = (stat.S_IFMT(status.st_mode), content)
    return found


def truth(old: Path, new: Path, scratch: Path) -> dict[str, Change]:
    before, after = extracted(old, scratch / "old"), extracted(new, scratch / "new")
    result = dict.fromkeys(before.keys() - after.keys(), Change.REMOVED)
    result |= dict.fromkeys(after.keys() - before.keys(), Change.ADDED)
    return result | {path: Change.CHANGED for path in before.keys() & after.keys() if before[path] != after[path]}


BASE = [
    folder("etc/"),
    Entry("etc/passwd", b"root"),
    Entry("etc/hosts", b"localhost"),
    folder("opt/"),
    folder("opt/app/"),
    Entry("opt/app/run", b"1" * 100, mode=0o755),
    Entry("opt/app/data", b"2" * 100),
    symlink("bin", "usr/bin"),
    folder("usr/"),
    folder("usr/bin/"),
    Entry("usr/bin/sh", b"sh", mode=0o755),
]
VERSION_1 = [Entry("opt/app/run", b"v1", mode=0o755), Entry("opt/new", b"n"), Entry("etc/.wh.hosts")]
VERSION_2 = [
    folder("opt/app/"),
    Entry("opt/app/.wh..wh..opq"),
    Entry("opt/app/run", b"v2", mode=0o755),
    hard_link("opt/app/again", "opt/app/run"),
    Entry("usr/bin/sh", b"other", mode=0o755),
]


def images(tmp_path: Path, old: Sequence[list[Entry]], new: Sequence[list[Entry]]) -> tuple[Path, Path]:
    paths = (tmp_path / "old-image", tmp_path / "new-image")
    for path, layers in zip(paths, (old, new), strict=True):
        layout_of(path, make_image([make_layer(make_tar(layer)) for layer in layers]))
    return paths


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([BASE], [BASE]),
        ([BASE], [BASE, VERSION_1]),
        ([BASE, VERSION_1], [BASE]),
        ([BASE, VERSION_1], [BASE, VERSION_2]),
        ([BASE, VERSION_2], [BASE, VERSION_1]),
        ([BASE, VERSION_2], [BASE, VERSION_2, VERSION_1]),
        ([BASE], [BASE, [Entry(".wh.opt")], [folder("opt/"), Entry("opt/file", b"x")]]),
        ([BASE], [BASE, [Entry("opt/app", b"a file now")]]),
        ([BASE], [BASE, [symlink("opt/app", "/usr")]]),
    ],
)
def test_with_shared_layers_it_is_what_umoci_extracts(
    old: list[list[Entry]], new: list[list[Entry]], tmp_path: Path
) -> None:
    before, after = images(tmp_path, old, new)
    assert changed(before, after, shared=True) == truth(before, after, tmp_path)


def test_layers_that_both_have_are_not_read(tmp_path: Path) -> None:
    before, after = images(tmp_path, [BASE, VERSION_1], [BASE, [*VERSION_1, Entry("opt/more", b"m")]])
    for path in (before, after):  # a shared layer that cannot be read does no harm
        digest = make_image([make_layer(make_tar(BASE))]).layers[0].descriptor.digest
        (path / "blobs" / "sha256" / digest.hex).unlink()
    assert changed(before, after, shared=False) == {"opt/more": Change.ADDED}


def test_of_shared_layers_only_what_is_taken_away_is_told(tmp_path: Path) -> None:
    before, after = images(tmp_path, [BASE], [BASE, VERSION_2, [Entry("etc/.wh.hosts")]])
    found = changed(before, after, shared=False)
    assert found["etc/hosts"] is Change.REMOVED
    assert found["opt/app/*"] is Change.REMOVED
    assert found["usr/bin/sh"] is Change.ADDED  # with shared=True: changed


def file(path: str, content: bytes = b"", uid: int = 0) -> Listed:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Listed(path, Kind.FILE, len(content), 0o644, uid, digest=digest)


def overlay(*entries: Listed) -> Overlay:
    return lay([LayerListing(entries)])


def test_each_difference_has_its_word() -> None:
    old = overlay(file("a", b"1"), file("b"), file("c"), Listed("d", Kind.SYMLINK, link="x"), file("e"), file("same"))
    new = overlay(
        file("a", b"2"),
        file("b", uid=1),
        Listed("c", Kind.DIRECTORY, mode=0o644),
        Listed("d", Kind.SYMLINK, link="y"),
        Listed("e", Kind.FILE, mode=0o755, digest=file("e").digest, xattrs=(("user.a", "MQ=="),)),
        file("same"),
    )
    assert [(change.path, change.what) for change in compare_files(old, new)] == [
        ("a", ("content",)),
        ("b", ("owner",)),
        ("c", ("type",)),
        ("d", ("link",)),
        ("e", ("mode", "xattrs")),
    ]


NAMES = st.sampled_from(["a", "b", "a/x", "a/y", "a/x/p", "b/q"])
LAYERS = st.lists(
    st.lists(
        st.tuples(NAMES, st.sampled_from(["file", "gone", "opaque", "dir"])), max_size=4, unique_by=lambda x: x[0]
    ),
    max_size=4,
)


def listing_of(operations: list[tuple[str, str]]) -> LayerListing:
    made = {"file": Kind.FILE, "dir": Kind.DIRECTORY}
    return LayerListing(
        tuple(Listed(path, made[word]) for path, word in operations if word in made),
        tuple(path for path, word in operations if word == "gone"),
        tuple(path for path, word in operations if word == "opaque"),
    )


@given(LAYERS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_overlay_is_what_applying_layer_by_layer_gives(layers: list[list[tuple[str, str]]]) -> None:
    state: dict[str, Kind] = {}
    for operations in layers:
        one = listing_of(operations)
        for path in list(state):
            below = [*parents(path)]
            if path in one.removed or {*below} & {*one.removed} or {*below} & {*one.opaque}:
                del state[path]
        for entry in one.entries:
            if entry.kind is not Kind.DIRECTORY:
                for path in [path for path in state if entry.path in parents(path)]:
                    if path not in {other.path for other in one.entries}:
                        del state[path]
            state[entry.path] = entry.kind
    assert {path: entry.kind for path, entry in lay(map(listing_of, layers)).files.items()} == state


@given(LAYERS, LAYERS)
@settings(max_examples=100, deadline=None)
def test_a_difference_is_its_reverse_turned_round(
    one: list[list[tuple[str, str]]], two: list[list[tuple[str, str]]]
) -> None:
    old, new = lay(map(listing_of, one)), lay(map(listing_of, two))
    turned = {Change.ADDED: Change.REMOVED, Change.REMOVED: Change.ADDED, Change.CHANGED: Change.CHANGED}
    forth = {(change.path, change.change) for change in compare_files(old, new)}
    back = {(change.path, turned[change.change]) for change in compare_files(new, old)}
    assert forth == back
    assert compare_files(old, old) == ()
