"""Laws of re-rooting: nothing leaves its root, nothing is lost, and links keep meaning what they meant."""

from __future__ import annotations

import fnmatch
import io
import posixpath
import tarfile
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kobuild.errors import ArchiveError, UnsafeMember
from kobuild.layers.engine import make_layer
from kobuild.layers.members import DIRECTORY, REGULAR, SYMLINK, Member
from kobuild.layers.names import clean_name, climbs, compile_glob, strip_parts
from kobuild.layers.placement import Placer
from kobuild.layers.plan import LayerPlan, Limits
from kobuild.oci.mediatypes import Compression
from tests.support.archives import Entry, Made, MemoryInput, folder, hard_link, make, make_tar_gz, symlink

word = st.sampled_from(["a", "b", "c", "lib", "x.y"])
path = st.lists(word, min_size=1, max_size=4).map("/".join)
wild_part = st.sampled_from(["a", "b", ".", "..", "", "c", "lib", ".wh.x"])
wild_path = st.lists(wild_part, min_size=1, max_size=6).map("/".join)
root = st.sampled_from(["/", "/r", "/usr/local", "/opt/a/b"])


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """Archives that make sense: files, then links to them, and directories where nothing else is."""
    names = draw(st.lists(path, min_size=1, max_size=8, unique=True))
    files = [name for name in names if not any(other.startswith(name + "/") for other in names)]
    entries = [
        Entry(name, name.encode() * draw(st.integers(0, 200)), mode=draw(st.integers(0, 0o777))) for name in files
    ]
    for number, target in enumerate(draw(st.lists(st.sampled_from(files), max_size=3))):
        entries.append(hard_link(f"{posixpath.dirname(target) or 'top'}/hard-{number}", target))
        entries.append(symlink(f"top/soft-{number}", f"../{target}"))
    return entries


def layer(entries: list[Entry], **plan: object) -> Made:
    settings = {"compression": Compression.NONE, "base_has_standard_dirs": False, **plan}
    return make(MemoryInput(make_tar_gz(entries)), LayerPlan(**settings))  # type: ignore[arg-type]


@settings(deadline=None)
@given(trees(), root)
def test_every_member_is_there_once_under_its_root(entries: list[Entry], top: str) -> None:
    made = layer(entries, root=top)
    prefix = top.strip("/") + "/" if top != "/" else ""
    assert made.names == [prefix + entry.name for entry in entries]
    assert made.result.members == len(entries)


@settings(deadline=None)
@given(trees(), root, st.integers(0, 2))
def test_hard_links_find_their_content(entries: list[Entry], top: str, strip: int) -> None:
    try:
        made = layer(entries, root=top, strip=strip)
    except ArchiveError as error:
        if not any(words in str(error) for words in ("two members", "leave its root", "below")):
            raise
        return
    content = {entry.name: entry.content for entry in entries}
    prefix = top.strip("/") + "/" if top != "/" else ""
    for entry in entries:
        if entry.kind != tarfile.LNKTYPE or entry.name.count("/") < strip:
            continue
        name = prefix + entry.name.split("/", strip)[strip]
        assert made.read(name) == content[entry.link]


@settings(deadline=None)
@given(wild_path, wild_path, root)
def test_nothing_leaves_its_root(name: str, target: str, top: str) -> None:
    entries = [Entry("first", b"x"), Entry(name, b"y"), hard_link("hard", target), symlink("d/soft", target)]
    for count in range(1, len(entries) + 1):
        try:
            made = layer(entries[:count], root=top)
        except ArchiveError:
            return
        prefix = top.strip("/") + "/" if top != "/" else ""
        for info in made.infos.values():
            assert info.name.startswith(prefix)
            assert ".." not in info.name.split("/")
            assert posixpath.normpath(info.name) == info.name
            if info.islnk():
                assert info.linkname in made.names
            if info.issym() and not info.linkname.startswith("/"):
                where = posixpath.normpath(posixpath.join(posixpath.dirname(info.name), info.linkname))
                assert not where.startswith("..")


@settings(deadline=None)
@given(trees())
def test_the_same_archive_makes_the_same_layer(entries: list[Entry]) -> None:
    data = make_tar_gz(entries)
    for compression in Compression:
        results = []
        for _ in range(2):
            sink = io.BytesIO()
            results.append(
                (make_layer(MemoryInput(data), LayerPlan(root="/r", compression=compression), sink), sink.getvalue())
            )
        assert results[0] == results[1]


@settings(deadline=None)
@given(wild_path)
def test_clean_names_are_clean(name: str) -> None:
    try:
        clean = clean_name(name.encode(), "test")
    except UnsafeMember:
        assert name.startswith("/") or ".." in name.split("/")
        return
    assert clean.decode() == ("" if posixpath.normpath(name) == "." else posixpath.normpath(name))
    assert clean_name(clean, "test") == clean


@settings(deadline=None)
@given(path, st.integers(0, 5))
def test_strip_drops_exactly_so_many_parts(name: str, count: int) -> None:
    assert strip_parts(name.encode(), count).decode() == "/".join(name.split("/")[count:])


@settings(deadline=None)
@given(path, wild_path)
def test_climbing_is_what_normpath_says(directory: str, target: str) -> None:
    joined = posixpath.normpath(posixpath.join(directory, target.lstrip("/") or "."))
    if joined.startswith(".."):
        assert climbs(directory.encode(), target.lstrip("/").encode())


@settings(deadline=None)
@given(path, st.text("ab.*?[]!x-/", min_size=1, max_size=10))
def test_globs_of_one_part_match_as_fnmatch_does(name: str, pattern: str) -> None:
    expression = compile_glob(pattern)
    matched = expression.match(name.encode()) is not None
    first = name.split("/", maxsplit=1)[0]
    if "/" not in pattern and "**" not in pattern and pattern != ".":
        assert matched == fnmatch.fnmatchcase(first, pattern)


@settings(deadline=None)
@given(path)
def test_a_name_matches_itself_and_its_folders(name: str) -> None:
    parts = name.split("/")
    for count in range(1, len(parts) + 1):
        assert compile_glob("/".join(parts[:count])).match(name.encode())
    assert compile_glob("**").match(name.encode())
    assert not compile_glob(name + "x").match(name.encode())


def test_folder_entries_keep_their_place() -> None:
    made = layer([folder("a"), Entry("a/b")], root="/r")
    assert made.names == ["r/a", "r/a/b"]


class SlowPlacer(Placer):
    """Looks at every name whole."""

    def _place_sibling(self, member: Member) -> bool:
        return False


def place_all(placer: Placer, members: list[Member]) -> list[object]:
    """Where each member went, until one was refused."""
    seen: list[object] = []
    for member in members:
        try:
            placed = placer.place(replace(member))
        except ArchiveError as error:
            return [*seen, str(error)]
        seen.append(placed)
    return [*seen, placer.newest_mtime, placer.members, placer.plain, placer.landing()]


kinds = st.sampled_from([REGULAR, REGULAR, REGULAR, DIRECTORY, SYMLINK])
members = st.builds(
    lambda name, kind, mtime: Member(name.encode(), kind, 0o644, 1, mtime, link=b"a" if kind == SYMLINK else b""),
    st.lists(st.sampled_from(["a", "b", "", ".", "..", ".wh.x", ".c", "lib", "a\0"]), min_size=1, max_size=4).map(
        "/".join
    ),
    kinds,
    st.integers(0, 3),
)
plain_names = st.lists(st.sampled_from(["a", "b", "lib"]), min_size=1, max_size=3).map("/".join)
plain_members = st.builds(
    lambda name, mtime: Member(name.encode(), REGULAR, 0o644, 1, mtime), plain_names, st.integers(0, 3)
)


@settings(deadline=None, max_examples=500)
@given(st.lists(st.one_of(plain_members, plain_members, members), max_size=12), root, st.sampled_from([None, 0o755]))
def test_a_file_beside_another_is_placed_as_if_it_stood_alone(found: list[Member], top: str, mode: int | None) -> None:
    plan = LayerPlan(root=top, mode=mode, limits=Limits(total_bytes=9))
    assert place_all(Placer(plan, "x"), found) == place_all(SlowPlacer(plan, "x"), found)
