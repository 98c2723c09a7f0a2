from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from kobuild.errors import ArchiveError, LimitExceeded, MissingMember, UnsafeMember
from kobuild.layers.plan import LayerPlan, Limits
from kobuild.oci.mediatypes import Compression
from tests.support.archives import Entry, Made, MemoryInput, folder, hard_link, make, make_tar, make_tar_gz, symlink


def place(entries: list[Entry], tmp_path: Path | None = None, **plan: object) -> Made:
    settings = {"compression": Compression.NONE, "base_has_standard_dirs": False, **plan}
    return make(MemoryInput(make_tar_gz(entries), folder=tmp_path), LayerPlan(**settings))  # type: ignore[arg-type]


TREE = [
    folder("./"),
    folder("./go"),
    folder("./go/bin", 0o750),
    Entry("./go/bin/go", b"go", mode=0o755),
    Entry("./go/README.md", b"read me"),
    symlink("./go/bin/gofmt", "../pkg/gofmt"),
    hard_link("./go/bin/go2", "./go/bin/go"),
]


def test_root_is_put_before_names_and_hard_links() -> None:
    made = place(TREE, root="/usr/local")
    assert made.names == [
        f"usr/local/{name}" for name in ("go", "go/bin", "go/bin/go", "go/README.md", "go/bin/gofmt", "go/bin/go2")
    ]
    assert made.infos["usr/local/go/bin/go2"].linkname == "usr/local/go/bin/go"
    assert made.infos["usr/local/go/bin/gofmt"].linkname == "../pkg/gofmt"
    assert made.infos["usr/local/go/bin"].mode == 0o750
    assert made.read("usr/local/go/bin/go2") == b"go"


def test_strip_drops_leading_parts_as_tar_does() -> None:
    made = place(TREE, root="/opt/go", strip=1)
    assert made.names == [f"opt/go/{name}" for name in ("bin", "bin/go", "README.md", "bin/gofmt", "bin/go2")]
    assert made.infos["opt/go/bin/go2"].linkname == "opt/go/bin/go"
    assert place(TREE, root="/opt", strip=2).names == ["opt/go", "opt/gofmt", "opt/go2"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("go/bin/go", ["go/bin/go"]),
        ("./go/bin/go", ["go/bin/go"]),
        ("go/*", ["go/bin", "go/bin/go", "go/README.md", "go/bin/gofmt", "go/bin/go2"]),
        ("go/*.md", ["go/README.md"]),
        ("**/go", ["go", "go/bin", "go/bin/go", "go/README.md", "go/bin/gofmt", "go/bin/go2"]),
        ("**/*.md", ["go/README.md"]),
        ("./", ["go", "go/bin", "go/bin/go", "go/README.md", "go/bin/gofmt", "go/bin/go2"]),
        ("go/bin/", ["go/bin", "go/bin/go", "go/bin/gofmt", "go/bin/go2"]),
        ("go/b?n/go[2-9]", ["go/bin/go2"]),
        ("go/bin/go[!2]*", ["go/bin/gofmt"]),
    ],
)
def test_only_takes_what_globs_name_and_all_below(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    assert place(TREE, tmp_path, only=(pattern,)).names == expected


def test_a_pattern_that_takes_nothing_names_what_is_there() -> None:
    with pytest.raises(MissingMember, match="'ko' of `only`") as caught:
        place([Entry("bin/KO"), Entry("LICENSE"), Entry("README")], only=("LICENSE", "ko"))
    assert "bin/KO" in str(caught.value.hint)
    with pytest.raises(MissingMember) as caught:
        place([Entry("kubectl"), Entry("README")], only=("kubctl",))
    assert "kubectl" in str(caught.value.hint)


def test_mode_is_for_files_and_their_links_only() -> None:
    infos = place(TREE, mode=0o500).infos
    assert infos["go/bin/go"].mode == infos["go/README.md"].mode == infos["go/bin/go2"].mode == 0o500
    assert infos["go/bin"].mode == 0o750


def test_a_link_to_a_left_out_file_gets_its_content(tmp_path: Path) -> None:
    entries = [Entry("lib/real", b"content" * 5000), hard_link("bin/a", "lib/real"), hard_link("bin/b", "lib/real")]
    made = place(entries, tmp_path, only=("bin",))
    assert made.read("bin/a") == b"content" * 5000
    assert made.infos["bin/a"].isreg()
    assert made.infos["bin/b"].linkname == "bin/a"


def test_a_link_before_its_target_is_refused() -> None:
    with pytest.raises(UnsafeMember, match="not a file before it"):
        place([hard_link("a", "b"), Entry("b")])
    with pytest.raises(UnsafeMember, match="not a file before it"):
        place([hard_link("a", "a")])
    with pytest.raises(UnsafeMember, match="not a file before it"):
        place([folder("d"), hard_link("a", "d")])


def test_hard_links_to_symlinks_are_kept() -> None:
    assert place([symlink("a", "t"), hard_link("b", "a")]).infos["b"].linkname == "a"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a/..", "..", "//x"])
def test_names_that_leave_their_root(name: str) -> None:
    with pytest.raises(UnsafeMember, match=r"would leave its root|absolute"):
        place([Entry(name, b"x")])
    with pytest.raises(UnsafeMember, match=r"would leave its root|absolute"):
        place([Entry("a"), hard_link("b", name)])


@pytest.mark.parametrize(("name", "target"), [("l", "../x"), ("a/l", "../../x"), ("a/b/l", "c/../../../../x")])
def test_links_that_climb_out(name: str, target: str) -> None:
    with pytest.raises(UnsafeMember, match="would leave its root"):
        place([symlink(name, target)], root="/usr/local")


def test_links_that_stay_within() -> None:
    made = place([symlink("a/b/l", "../../c"), symlink("abs", "/etc/x"), symlink("dot", "./a/../b")])
    assert made.infos["abs"].linkname == "/etc/x"
    assert made.infos["dot"].linkname == "./a/../b"


def test_a_stripped_link_may_not_climb_above_the_image() -> None:
    entries = [symlink("a/b/c/l", "../../x")]
    assert place(entries, strip=1).names == ["b/c/l"]
    with pytest.raises(UnsafeMember, match="would leave its root"):
        place(entries, strip=3)


@pytest.mark.parametrize("target", ["/etc", "b", "../x"])
def test_nothing_is_written_through_a_link(target: str) -> None:
    with pytest.raises(UnsafeMember, match="through the link"):
        place([symlink("d/a", target), Entry("d/a/x/y", b"x")])
    with pytest.raises(UnsafeMember, match="members lie below"):
        place([Entry("d/a/x", b"x"), symlink("d/a", target)])


def test_nothing_lies_below_a_file() -> None:
    with pytest.raises(UnsafeMember, match="below the file"):
        place([Entry("a", b"x"), Entry("a/b", b"x")])


def test_devices_fifos_and_whiteouts_must_be_asked_for() -> None:
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        with pytest.raises(UnsafeMember, match=r"device|fifo"):
            place([Entry("dev/x", kind=kind)])
        assert place([Entry("dev/x", kind=kind)], allow_devices=True).infos["dev/x"].type == kind
    for name in (".wh.x", "a/.wh..wh..opq", ".wh.d/x"):
        with pytest.raises(UnsafeMember, match="whiteout"):
            place([Entry(name)])
        assert place([Entry(name)], allow_whiteouts=True).names == [name]
    assert place([Entry("x.wh.y")]).names == ["x.wh.y"]


def test_the_same_directory_twice_is_one_entry() -> None:
    assert place([folder("a/"), Entry("a/x"), folder("./a")]).names == ["a", "a/x"]
    assert place([symlink("l", "t"), symlink("l", "t")]).names == ["l"]


@pytest.mark.parametrize(
    "pair",
    [
        [folder("a"), folder("a", 0o700)],
        [Entry("a"), Entry("a")],
        [symlink("a", "x"), symlink("a", "y")],
        [folder("a"), Entry("a")],
    ],
)
def test_other_duplicates_are_refused(pair: list[Entry]) -> None:
    with pytest.raises(ArchiveError, match="two members that differ"):
        place(pair)


def test_names_that_differ_only_in_form_are_two() -> None:
    names = ["caf\u00e9", "cafe\u0301"]
    assert place([Entry(name) for name in names]).names == names


def test_a_directory_may_follow_its_files() -> None:
    assert place([Entry("a/b/c"), folder("a/b"), folder("a")]).names == ["a/b/c", "a/b", "a"]


def test_standard_directories_are_the_bases_own() -> None:
    entries = [folder("usr"), folder("usr/local"), folder("usr/local/bin"), Entry("usr/local/bin/x"), folder("usr/go")]
    assert place(entries, base_has_standard_dirs=True).names == ["usr/local/bin/x", "usr/go"]
    assert place(entries).names == ["usr", "usr/local", "usr/local/bin", "usr/local/bin/x", "usr/go"]
    assert place([folder("bin"), Entry("bin/x")], root="/usr", base_has_standard_dirs=True).names == ["usr/bin/x"]


def test_limits_name_the_member() -> None:
    entries = [Entry(f"m{number}", b"x" * 100) for number in range(20)]
    with pytest.raises(LimitExceeded, match="'m5'"):
        place(entries, limits=Limits(members=5))
    with pytest.raises(LimitExceeded, match=r"ratio|more than|for one"):
        place([Entry("zeros", bytes(3_000_000))], limits=Limits(ratio=20, ratio_grace_bytes=1_000_000))
    with pytest.raises(LimitExceeded, match="more than 30000 bytes"):
        place([Entry("zeros", bytes(50_000))], limits=Limits(total_bytes=30_000))
    with pytest.raises(LimitExceeded, match="member 'zeros'"):
        make(make_tar([Entry("zeros", bytes(50_000))]), LayerPlan(limits=Limits(total_bytes=30_000)))


def test_names_that_are_not_utf8_are_kept() -> None:
    name = b"caf\xe9/\xff".decode("utf-8", "surrogateescape")
    made = make(make_tar([Entry(name, b"x")], tarfile.GNU_FORMAT), LayerPlan(root="/r", compression=Compression.NONE))
    assert made.names == [f"r/{name}"]
