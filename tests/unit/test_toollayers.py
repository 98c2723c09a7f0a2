"""A tool layer's listing: names under the root, the members that were asked for, and no whiteouts."""

from __future__ import annotations

import pytest

from kobuild.errors import ArchiveError
from kobuild.oci.mediatypes import Compression
from kobuild.toollayers import Listing, ToolExpectation, stripped_patterns
from tests.support.images import make_tar


def read(tool: ToolExpectation, *names: str) -> tuple[int, list[str]]:
    listing = Listing(tool, "layer 3")
    tar = make_tar(dict.fromkeys(names, b""))
    listing(iter([tar[:700], tar[700:]]))
    return listing.members, [f"{finding.expected}; {finding.actual}" for finding in listing.findings()]


def test_names_under_the_root_pass() -> None:
    assert read(ToolExpectation("go", "/usr/local"), "usr/local/go/", "usr/local/go/bin/go") == (2, [])
    assert read(ToolExpectation("all", "/"), "go/", "etc/x") == (2, [])


@pytest.mark.parametrize("stray", ["usr/locale/x", "etc/passwd", "usr/local", "usr/local/../../etc/x"])
def test_a_name_elsewhere_is_found(stray: str) -> None:
    members, findings = read(ToolExpectation("go", "/usr/local"), "usr/local/go/", stray)
    assert members == 2
    assert findings == [f"entries under /usr/local alone; '{stray}'"]


def test_many_strays_are_counted_and_few_are_named() -> None:
    _, [finding] = read(ToolExpectation("go", "/opt"), *(f"x{number}" for number in range(9)))
    assert finding == "entries under /opt alone; 'x0', 'x1', 'x2' and more"


def test_a_whiteout_is_found() -> None:
    _, [finding] = read(ToolExpectation("go", "/opt"), "opt/.wh.bin", "opt/go")
    assert "'opt/.wh.bin'" in finding


def test_an_empty_layer_is_found() -> None:
    assert read(ToolExpectation("go", "/opt")) == (0, ["files; none"])


def test_what_only_asked_for_is_looked_for() -> None:
    tool = ToolExpectation("ko", "/usr/local/bin", only=("ko", "doc/*.md", "share"))
    assert read(tool, "usr/local/bin/ko", "usr/local/bin/doc/a.md", "usr/local/bin/share/x") == (3, [])
    assert read(tool, "usr/local/bin/kobold", "usr/local/bin/share/") == (
        2,
        ['a member for "ko" of `only`; none among 2', 'a member for "doc/*.md" of `only`; none among 2'],
    )


def test_a_bare_binary_has_no_members_to_choose_from() -> None:
    assert read(ToolExpectation("jq", "/bin", only=("jq-*",)), "bin/jq") == (1, [])
    assert read(ToolExpectation("jq", "/bin", only=("jq-*",), rename="q"), "bin/q") == (1, [])


def test_estargz_has_names_of_its_own() -> None:
    names = ("opt/go", ".prefetch.landmark", "stargz.index.json")
    assert read(ToolExpectation("go", "/opt", compression=Compression.ESTARGZ), *names) == (1, [])
    assert len(read(ToolExpectation("go", "/opt"), *names)[1]) == 1


@pytest.mark.parametrize(
    ("pattern", "strip", "expected"),
    [
        ("ko", 0, ["ko"]),
        ("*/bin/go", 1, ["bin/go"]),
        ("./go/bin/", 1, ["bin"]),
        ("go", 1, []),
        ("**/go", 1, []),
        ("go/**/x", 1, ["**/x"]),
        ("a/b/c", 2, ["c"]),
    ],
)
def test_patterns_are_stripped_as_names_are(pattern: str, strip: int, expected: list[str]) -> None:
    assert [rest for _, rest in stripped_patterns([pattern], strip)] == expected


def test_what_is_no_tar_is_an_error() -> None:
    with pytest.raises(ArchiveError):
        Listing(ToolExpectation("go", "/opt"), "layer 3")(iter([b"not a tar " * 100]))
