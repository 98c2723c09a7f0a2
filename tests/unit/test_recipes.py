"""A layer's plan fitted to its base, and what the engine makes of it."""

from __future__ import annotations

import dataclasses

import pytest

from kobuild.basetree import BaseTree
from kobuild.errors import UnsafeMember
from kobuild.layers.plan import LayerPlan
from kobuild.oci.mediatypes import Compression
from kobuild.recipes import fit, outermost
from tests.support.archives import Entry, Made, folder, hard_link, make, make_tar, symlink

MERGED = BaseTree(
    frozenset({b"usr", b"usr/bin", b"usr/lib", b"usr/lib/known", b"run", b"usr/share"}),
    {b"bin": b"usr/bin", b"lib": b"usr/lib", b"lib64": b"usr/lib64", b"usr/lib64": b"lib", b"var/run": b"/run"},
)
PLAN = LayerPlan(compression=Compression.NONE)


def on_base(*entries: Entry, plan: LayerPlan = PLAN, tree: BaseTree = MERGED) -> Made:
    """Make a layer as a build does: once to see where it lands, and again for the base."""
    tar = make_tar(entries)
    first = make(tar, plan)
    return make(tar, fit(plan, first.result.landing, tree))


@pytest.mark.parametrize(
    ("root", "entries", "lands"),
    [
        ("/usr/local", [folder("go"), folder("go/bin"), Entry("go/bin/go")], False),
        ("/usr/local/bin", [Entry("ko")], False),
        ("/usr/bin", [Entry("ko")], False),
        ("/opt/x", [folder("bin"), Entry("bin/tool"), folder("lib")], False),
        ("/", [Entry("app/bin/tool"), folder("app")], False),
        ("/", [folder("bin"), folder("usr/share"), Entry("usr/bin/x")], False),
        ("/", [Entry("bin/tool")], True),
        ("/bin", [Entry("tool")], True),
        ("/", [symlink("bin", "usr/bin")], True),
        ("/usr/local", [Entry("man/man1/tool.1")], True),
        ("/usr", [folder("share/tool"), Entry("share/tool/x")], True),
        ("/etc", [folder("tool")], True),
    ],
)
def test_the_base_is_asked_only_where_the_layer_lands_in_it(root: str, entries: list[Entry], lands: bool) -> None:
    plan = dataclasses.replace(PLAN, root=root)
    assert bool(make(make_tar(entries), plan).result.landing) is lands
    on_scratch = dataclasses.replace(plan, base_has_standard_dirs=False)
    assert make(make_tar(entries), on_scratch).result.landing == ()


def test_only_what_applies_is_in_the_recipe() -> None:
    landing = make(make_tar([Entry("bin/tool"), folder("lib/known"), folder("lib/new")]), PLAN).result.landing
    fitted = fit(PLAN, landing, MERGED)
    assert dict(fitted.moved) == {
        "bin": "usr/bin",
        "lib": "usr/lib",
        "lib/known": "usr/lib/known",
        "lib/new": "usr/lib/new",
    }
    assert fitted.base_directories == ("lib/known",)
    assert outermost(fitted.moved) == (("bin", "usr/bin"), ("lib", "usr/lib"))
    assert fitted.recipe("0" * 64) != PLAN.recipe("0" * 64)
    assert fit(PLAN, landing, BaseTree(frozenset(), {})) == PLAN
    grown = BaseTree(MERGED.directories | {b"elsewhere"}, {**MERGED.links, b"other": b"elsewhere"})
    assert fit(PLAN, landing, grown) == fitted


def test_entries_move_and_directories_of_the_base_are_left_out() -> None:
    made = on_base(folder("lib/known", 0o700), Entry("lib/known/x"), folder("lib/new"), Entry("lib64/y"))
    assert made.names == ["usr/lib/known/x", "usr/lib/new", "usr/lib/y"]


def test_links_that_move_still_lead_where_they_led() -> None:
    made = on_base(
        Entry("bin/a", b"a"),
        hard_link("lib/b", "bin/a"),
        symlink("lib/up", "../usr/share/x"),
        symlink("lib/across", "../bin/a"),
        symlink("lib/beside", "up"),
        symlink("lib/absolute", "/bin/a"),
        symlink("usr/lib/stays", "../share/x"),
    )
    links = {name: info.linkname for name, info in made.infos.items() if info.linkname}
    assert links == {
        "usr/lib/b": "usr/bin/a",
        "usr/lib/up": "../share/x",
        "usr/lib/across": "../bin/a",
        "usr/lib/beside": "up",
        "usr/lib/absolute": "/bin/a",
        "usr/lib/stays": "../share/x",
    }


def test_a_dropped_targets_content_goes_to_the_moved_link() -> None:
    plan = dataclasses.replace(PLAN, only=("bin/*",))
    made = on_base(Entry("data/a", b"content"), hard_link("bin/b", "data/a"), hard_link("bin/c", "data/a"), plan=plan)
    assert made.read("usr/bin/b") == b"content"
    assert made.infos["usr/bin/c"].linkname == "usr/bin/b"


def test_links_like_the_bases_are_left_out() -> None:
    made = on_base(
        symlink("lib64", "usr/lib64"), symlink("lib", "/usr/lib"), symlink("var/run", "../run"), Entry("run/x")
    )
    assert made.names == ["run/x"]


@pytest.mark.parametrize("entry", [Entry("bin", b"a file"), symlink("bin", "usr/sbin"), symlink("var/run", "../tmp")])
def test_what_would_replace_a_link_is_refused(entry: Entry) -> None:
    with pytest.raises(UnsafeMember, match="would replace") as caught:
        on_base(entry)
    assert "choose another root" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("pattern", "root", "first"),
    [
        ("/bin/tool", "/", ["usr/bin/tool"]),
        ("/usr/bin/tool", "/", ["usr/bin/tool"]),
        ("/b?n/t*l", "/", ["usr/bin/tool"]),
        ("/lib64/x", "/", ["usr/lib/x"]),
        ("/lib/known", "/", ["usr/lib/known/y"]),
        ("/bin", "/", ["usr/bin/tool", "usr/bin/other"]),
        ("/bin/known/y", "/usr/bin", ["usr/bin/known/y"]),  # no entry of the archive leads to the link
        ("/bin/elsewhere", "/", []),
    ],
)
def test_prioritized_paths_follow_the_bases_links(pattern: str, root: str, first: list[str]) -> None:
    names = ["bin/tool", "bin/other", "lib64/x", "lib/known/y"] if root == "/" else ["other", "known/y"]
    plan = dataclasses.replace(PLAN, root=root, compression=Compression.ESTARGZ, prioritized=(pattern,))
    made = on_base(*(Entry(name, name.encode()) for name in names), plan=plan)
    landmark = ".prefetch.landmark" if first else ".no.prefetch.landmark"
    assert made.names[: made.names.index(landmark)] == first
