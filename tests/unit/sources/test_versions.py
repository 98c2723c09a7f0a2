"""Tags as upstream writes them, and pins over them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from kobuild.errors import NoMatchingVersion, ResolveError
from kobuild.sources.versions import LATEST, parse_pin, parse_tag, parse_tags


@pytest.mark.parametrize(
    ("text", "number", "version", "component"),
    [
        ("v0.15.4", "0.15.4", "0.15.4", ""),
        ("V2.0", "2.0", "2.0", ""),
        ("go1.27.3", "1.27.3", "1.27.3", "go"),
        ("go1.27rc1", "1.27rc1", "1.27rc1", "go"),
        ("jq-1.7.1", "1.7.1", "1.7.1", "jq"),
        ("kustomize/v5.4.1", "5.4.1", "5.4.1", "kustomize"),
        ("cmd/config/v0.9.1", "0.9.1", "0.9.1", "cmd/config"),
        ("@changesets/cli@2.27.1", "2.27.1", "2.27.1", "changesets/cli"),
        ("release-1.2", "1.2", "1.2", "release"),
        ("bun-v1.1.38", "1.1.38", "1.1.38", "bun"),
        ("curl-8_5_0", "8_5_0", "8.5.0", "curl"),
        ("1.2.3.4", "1.2.3.4", "1.2.3.4", ""),
        ("2024.08.01", "2024.08.01", "2024.8.1", ""),
        ("v1.28.5+k3s1", "1.28.5+k3s1", "1.28.5+k3s1", ""),
        ("v1.0.0-rc.1", "1.0.0-rc.1", "1.0.0rc1", ""),
        ("k3s-1.0", "1.0", "1.0", "k3s"),
        ("log4j-2.17.1", "2.17.1", "2.17.1", "log4j"),
    ],
)
def test_upstream_spellings_are_read(text: str, number: str, version: str, component: str) -> None:
    tag = parse_tag(text)
    assert tag is not None
    assert (tag.text, tag.number, tag.version, tag.component) == (text, number, Version(version), component)


@pytest.mark.parametrize("text", ["nightly", "latest", "", "v1.2.3-alpine", "v", "1" * 5000, "v1.2.3-SNAPSHOT"])
def test_a_tag_without_a_version_is_left_out(text: str) -> None:
    assert parse_tag(text) is None
    assert parse_tags([text, "v1.0"]) == [parse_tag("v1.0")]


def test_a_name_with_a_digit_starts_no_version() -> None:
    tag = parse_tag("tool2-3", names=["tool2"])
    assert tag is not None
    assert tag.number == "3"


_RELEASES = st.lists(st.integers(0, 99), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
_SUFFIXES = st.sampled_from(["", "rc1", "a2", "b3", ".post1"])
_PREFIXES = st.sampled_from(["", "v", "go", "jq-", "release-", "tool/v", "@scope/tool@"])


@settings(deadline=None)
@given(_PREFIXES, _RELEASES, _SUFFIXES)
def test_any_prefix_gives_the_version_back(prefix: str, release: str, suffix: str) -> None:
    tag = parse_tag(prefix + release + suffix)
    assert tag is not None
    assert tag.number == release + suffix
    assert tag.version == Version(release + suffix)
    assert tag.text.endswith(tag.number)


@settings(deadline=None)
@given(
    st.lists(st.tuples(_RELEASES, _SUFFIXES).map("".join), min_size=1, max_size=8), st.randoms(use_true_random=False)
)
def test_the_newest_stable_is_found_in_any_order(numbers: list[str], random: object) -> None:
    tags = parse_tags(f"v{number}" for number in numbers)
    random.shuffle(tags)  # type: ignore[attr-defined]
    stable = [tag for tag in tags if not tag.version.is_prerelease]
    found = LATEST.find(tags, tool="tool")
    assert (found is None) == (not stable)
    if found is not None:
        assert found.version == max(tag.version for tag in stable)


def _select(pin: str, *tags: str, tool: str = "tool", repository: str = "") -> str:
    parsed = parse_tags(tags, names=(tool, repository))
    return parse_pin(pin).select(parsed, tool=tool, repository=repository, what="tool").text


def test_prereleases_only_where_the_pin_names_one() -> None:
    tags = ("go1.28rc2", "go1.28rc1", "go1.27.3", "go1.26.9")
    assert _select("", *tags, tool="go") == "go1.27.3"
    assert _select("latest", *tags, tool="go") == "go1.27.3"
    assert _select(">=1.26", *tags, tool="go") == "go1.27.3"
    assert _select(">=1.28rc1", *tags, tool="go") == "go1.28rc2"
    assert _select("~=1.26.0", *tags, tool="go") == "go1.26.9"


def test_upstreams_own_mark_makes_a_prerelease() -> None:
    marked = parse_tag("v2.0.0", prerelease=True)
    plain = parse_tag("v1.9.0")
    assert marked is not None
    assert plain is not None
    assert LATEST.find([marked, plain], tool="tool") == plain
    assert parse_pin(">=2.0rc1").find([marked, plain], tool="tool") == marked
    assert parse_pin("v2.0.0").find([marked, plain], tool="tool") == marked


def test_an_exact_pin_is_a_tag_or_an_equal_version() -> None:
    assert _select("v1.2", "v1.2", "v1.2.0", "v1.3") == "v1.2"
    assert _select("1.2.0", "v1.2", "v1.3") == "v1.2"
    assert _select("jq-1.7", "jq-1.7", "jq-1.7.1", tool="jq") == "jq-1.7"
    assert _select("1.28rc1", "go1.28rc1", "go1.27", tool="go") == "go1.28rc1"
    assert _select("2024.8.1", "2024.08.01") == "2024.08.01"


def test_one_component_of_many() -> None:
    tags = ("api/v0.17.3", "kyaml/v0.17.2", "kustomize/v5.4.1", "kustomize/v5.3.0", "v3.2.0", "cmd/config/v9.0.0")
    assert _select("", *tags, tool="kustomize", repository="kustomize") == "kustomize/v5.4.1"
    assert _select("", *tags, tool="kyaml", repository="kustomize") == "kyaml/v0.17.2"
    assert _select("api/v0.17.3", *tags, tool="kustomize", repository="kustomize") == "api/v0.17.3"
    assert _select("<5", *tags, tool="kustomize", repository="kustomize") == "v3.2.0"
    assert _select("", *tags, tool="other", repository="monorepo") == "v3.2.0"


def test_a_repository_that_changed_its_spelling_is_one_component() -> None:
    assert _select("", "tool-1.0", "release-1.5", "v2.0", tool="tool", repository="tool") == "v2.0"
    assert _select("", "v1.0", "tool-2.0", tool="tool", repository="tool") == "tool-2.0"


def test_the_nearest_component_where_none_is_the_tools_own() -> None:
    assert _select("", "server-v9.0", "mycli-v1.0", tool="my-cli", repository="suite") == "mycli-v1.0"


def test_no_match_says_which_versions_exist() -> None:
    with pytest.raises(NoMatchingVersion) as raised:
        _select(">=3", *(f"v1.{minor}" for minor in range(12)), "v3.1rc1")
    assert "tool has no version '>=3'" in str(raised.value)
    assert "3.1rc1, 1.11, 1.10" in str(raised.value)
    assert "and 5 older ones" in str(raised.value)
    assert "'>=3.1rc1'" in (raised.value.hint or "")
    with pytest.raises(NoMatchingVersion, match="no versions were found at all"):
        _select("")


def test_a_specifier_outside_pep_440_is_refused() -> None:
    with pytest.raises(ResolveError, match="is not a version specifier") as raised:
        parse_pin(">=1.x.y")
    assert "~=1.27.0" in (raised.value.hint or "")


def test_a_locked_version_is_judged_by_its_text() -> None:
    assert parse_pin("~=1.27.0").allows_text("go1.27.3", "1.27.3")
    assert not parse_pin("~=1.28.0").allows_text("go1.27.3", "1.27.3")
    assert parse_pin("go1.27.3").allows_text("go1.27.3", "1.27.3")
    assert LATEST.allows_text("nightly", "nightly")
    assert not parse_pin(">=1").allows_text("nightly", "nightly")
