"""A layer that is said to fit another base is the very layer that a build for it would make."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from kobuild.basetree import BaseTree
from kobuild.errors import KobuildError
from kobuild.layers.plan import LayerPlan
from kobuild.oci.mediatypes import Compression
from kobuild.placing import compare_fits, may_land
from kobuild.recipes import fit
from tests.support.archives import Entry, Made, folder, make, make_tar, symlink

PATHS = ["bin", "bin/x", "usr/bin", "usr/bin/y", "lib/d/z", "usr/lib/d", "etc/t", "etc/t/c", "opt/o", "usr/local/man/m"]
ROOTS = ["/", "/usr", "/bin", "/opt", "/opt/bin", "/usr/local", "/usr/local/bin", "/usr/local/man", "/etc", "/srv/x"]
ENTRIES = st.lists(
    st.sampled_from(PATHS).flatmap(
        lambda path: st.sampled_from([folder(path), Entry(path), symlink(path, "/usr/elsewhere")])
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda entry: entry.name,
)
LINKS = {
    b"bin": (b"usr/bin", b"/opt"),
    b"lib": (b"usr/lib",),
    b"usr/local/man": (b"../share/man",),
    b"etc/t": (b"/usr/lib",),
}
DIRECTORIES = [b"bin", b"usr/bin", b"usr/lib", b"usr/lib/d", b"lib", b"lib/d", b"etc", b"etc/t", b"opt", b"opt/o"]


@st.composite
def trees(draw: st.DrawFn) -> BaseTree:
    chosen = draw(st.sets(st.sampled_from(sorted(LINKS))))
    links = {path: draw(st.sampled_from(LINKS[path])) for path in sorted(chosen)}
    directories = draw(st.sets(st.sampled_from(DIRECTORIES)))
    below = {path for path in directories if any(path == link or path.startswith(link + b"/") for link in links)}
    return BaseTree(frozenset({b"usr", b"etc", *directories} - below), links)


def made(tar: bytes, plan: LayerPlan) -> Made | None:
    """The layer; None where the engine refuses."""
    try:
        return make(tar, plan)
    except KobuildError:
        return None


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow], deadline=None)
@given(ENTRIES, st.sampled_from(ROOTS), trees(), trees())
def test_what_is_said_to_fit_is_what_a_build_makes(
    entries: list[Entry], root: str, old: BaseTree, new: BaseTree
) -> None:
    plan = LayerPlan(root=root, compression=Compression.NONE)
    tar = make_tar(entries)
    first = made(tar, plan)
    assume(first is not None)
    assert first is not None
    landing = first.result.landing
    assert may_land(plan) or not landing
    plans = [fit(plan, landing, tree) if landing else plan for tree in (old, new)]
    found = compare_fits(*plans)
    event("fits" if found is None else "does not fit")
    if found is None:
        layers = [made(tar, item) for item in plans]
        assert [layer and layer.tar for layer in layers[:1]] == [layer and layer.tar for layer in layers[1:]]
    else:
        assert plans[0] != plans[1]
