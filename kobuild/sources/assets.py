"""Which of a release's files is the tool for a platform.

`pick_asset` judges file names alone. What cannot be the tool (checksums, signatures, SBOMs, system packages, sources,
other platforms) is left out; the rest is ranked by, in this order:

1. how well the architecture fits: the exact variant, then one that runs there too, then a name without any;
2. whether the name says the operating system;
3. whether it begins with the tool's or the repository's name (a release may hold several programs);
4. linkage: a static build, or a Rust target `…-linux-musl`, which is static, runs on every base, glibc or not; a bare
   `-musl` usually needs musl's loader, so it comes last;
5. how few other words the name has (`debug`, `profile`, `extended` lose to the plain build);
6. the kind of archive;
7. a plain spelling of the architecture over an older one (`amd64` over `linux64`).

A rank that two files share is no choice: NoMatchingAsset lists them and asks for `asset = …`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Final

from kobuild.errors import NoMatchingAsset, ResolveError
from kobuild.frozen import frozen
from kobuild.oci.platforms import Platform
from kobuild.sources import names

# Best first: gzip is what the layer engine reads fastest and what nearly every project ships; a zip cannot be read as
# it streams in; a bare binary comes last, since an archive of the same build also carries licences and completions.
_ARCHIVES: Final = (
    (".tar.gz", ".tgz"),
    (".tar.zst", ".tzst"),
    (".tar.xz", ".txz"),
    (".tar.bz2", ".tbz", ".tbz2"),
    (".tar",),
    (".zip",),
    (".gz",),
    (".zst", ".xz", ".bz2"),
)
_NOT_THE_TOOL: Final = re.compile(
    r"""
    \.(?:sha\d+(?:sums?)?|md5(?:sums?)?|sums?|digests?|checksums?|b3(?:sums?)?|sig|sign|signature|asc|gpg|pem|crt|cert|pub|minisig
        |sbom|spdx|cdx|cyclonedx|json|jsonl|bundle|sigstore|att|attestation|prov|provenance|txt|md|ya?ml|toml|xml|html|pdf
        |deb|rpm|apk|msi|exe|pkg|dmg|appimage|snap|flatpak|flatpakref|vsix|whl|jar|nupkg|gem|crate|zsync|torrent|log
        |patch|diff|bash|zsh|fish|ps1|sh|py|rb|tmpl|proto|wasm|so|dylib|dll|lib|a|h|idsig|aab|ipa|iso|ova|qcow2|img
        |pkg\.tar\.(?:gz|xz|zst)|src\.tar\.\w+|orig\.tar\.\w+|debian\.tar\.\w+|oci|dsc|changes|buildinfo)$
    | (?<![a-z0-9])(?:src|sources?|vendor|vendored|sbom|checksums?|sha\d+sums?|dbgsym|debuginfo|symbols|manpages?)
        (?![a-z0-9])
    """,
    re.VERBOSE,
)
_UNKNOWN_SUFFIX: Final = re.compile(r"\.[a-z][a-z0-9]{0,4}$")
_RUST_MUSL: Final = re.compile(r"-linux-musl(?:eabi(?:hf)?)?(?![a-z0-9])")
_STATIC: Final = re.compile(r"(?<![a-z0-9])static(?:ally)?(?![a-z0-9])")
_BARE_MUSL: Final = re.compile(r"(?<![a-z0-9])(?:musl|alpine)(?![a-z0-9])")
_ANYWHERE: Final = re.compile(r"(?<![a-z0-9])(?:all|any|noarch|universal)(?![a-z0-9])")
_FILLERS: Final = frozenset(
    [
        "unknown",
        "gnu",
        "gnueabi",
        "gnueabihf",
        "musl",
        "musleabi",
        "musleabihf",
        "static",
        "release",
        "v",
        "go",
        "bin",
        "binary",
        "all",
        "any",
        "noarch",
        "universal",
        "pc",
    ]
)
_WORD: Final = re.compile(r"[a-z]+[a-z0-9]*")
_PLACEHOLDER: Final = re.compile(r"\{(\w*)\}")
_LISTED: Final = 30


@frozen
class AssetQuery:
    """What is looked for among the names of one release's files."""

    tool: str
    repository: str
    number: str
    """The version as upstream writes it."""
    tag: str
    pattern: str = ""
    """`asset` of the settings: a glob with {version} {tag} {os} {arch}; empty finds the file by itself."""


_Rank = tuple[int, ...]


def pick_asset(candidates: Sequence[str], platform: Platform, query: AssetQuery) -> str:
    """The one file for `platform`; raises NoMatchingAsset that lists the candidates."""
    if query.pattern:
        found = _matching(candidates, platform, query)
        if len(found) == 1:
            return found[0]
        ranked = _ranked(found, platform, query, strict=False)
    else:
        ranked = _ranked(candidates, platform, query, strict=True)
    if not ranked:
        raise _no_match(candidates, platform, query)
    best = max(ranked.values())
    winners = sorted(name for name, rank in ranked.items() if rank == best)
    if len(winners) > 1:
        raise _tie(winners, platform, query)
    return winners[0]


def _ranked(candidates: Sequence[str], platform: Platform, query: AssetQuery, *, strict: bool) -> dict[str, _Rank]:
    neutral = not any(names.find_architectures(name.lower())[0] for name in candidates if _may_be_tool(name.lower()))
    found = {}
    for name in candidates:
        rank = _rank(name.lower(), platform, query, neutral=neutral, strict=strict)
        if rank is not None:
            found[name] = rank
    return found


def _may_be_tool(name: str) -> bool:
    return _NOT_THE_TOOL.search(name) is None


def _rank(name: str, platform: Platform, query: AssetQuery, *, neutral: bool, strict: bool) -> _Rank | None:
    """How well a lower-case name fits, larger is better; None where it cannot be the tool."""
    kind = _kind(name)
    if strict and (kind is None or not _may_be_tool(name)):
        return None
    architecture = _architecture_rank(name, platform, neutral=neutral)
    system = _system_rank(name, platform)
    if strict and (architecture is None or system is None):
        return None
    return (
        architecture or 0,
        system or 0,
        _name_rank(name, query),
        _linkage_rank(name),
        -len(_other_words(name, query)),
        kind or 0,
        0 if names.find_architectures(name)[1] <= names.VAGUE else 1,
    )


def _kind(name: str) -> int | None:
    """The rank of the name's kind of file; None for a kind that is no archive and no program."""
    for position, suffixes in enumerate(_ARCHIVES):
        if name.endswith(suffixes):
            return len(_ARCHIVES) - position
    suffix = _UNKNOWN_SUFFIX.search(name)
    if suffix is not None and not (names.find_architectures(suffix[0])[0] or names.find_systems(suffix[0])[0]):
        return None
    return 0


def _architecture_rank(name: str, platform: Platform, *, neutral: bool) -> int | None:
    """The fit of the architecture: 100 and less for what runs, 1 for a name without one, None for a wrong one.

    A name without an architecture is for amd64, as projects of one build do, unless no file of the release names any.
    """
    said, _ = names.find_architectures(name)
    # `x86_64` says `x86` to nobody: the longest spelling has won already, and only a universal file says two.
    if not said or _ANYWHERE.search(name):
        return 1 if neutral or platform.architecture == "amd64" or _ANYWHERE.search(name) else None
    for position, key in enumerate(names.runnable(platform)):
        if key in said:
            return 100 - position
    return None


def _system_rank(name: str, platform: Platform) -> int | None:
    said, _ = names.find_systems(name)
    if not said:
        return 0
    return 1 if platform.os in said else None


def _name_rank(name: str, query: AssetQuery) -> int:
    for rank, word in ((2, query.tool.lower()), (1, query.repository.lower())):
        if word and re.match(rf"{re.escape(word)}(?![a-z0-9])", name):
            return rank
    return 0


def _linkage_rank(name: str) -> int:
    if _STATIC.search(name) or _RUST_MUSL.search(name):
        return 2
    return 0 if _BARE_MUSL.search(name) else 1


def _other_words(name: str, query: AssetQuery) -> list[str]:
    """The words that say neither tool, version, platform nor archive."""
    for suffixes in _ARCHIVES:
        for suffix in suffixes:
            name = name.removesuffix(suffix)
    for known in (query.tag.lower(), query.number.lower(), query.tool.lower(), query.repository.lower()):
        name = name.replace(known, " ", 1) if known else name
    for word in sorted(names.find_architectures(name)[1] | names.find_systems(name)[1], key=len, reverse=True):
        name = name.replace(word, " ")
    return [word for word in _WORD.findall(name) if word not in _FILLERS]


def _matching(candidates: Sequence[str], platform: Platform, query: AssetQuery) -> list[str]:
    pattern = asset_pattern(query, platform)
    return [name for name in candidates if pattern.match(name)]


def asset_pattern(query: AssetQuery, platform: Platform) -> re.Pattern[str]:
    """`asset` as a pattern, case-insensitive; {os} and {arch} match every spelling. Raises ResolveError."""
    parts = {
        "version": re.escape(query.number),
        "tag": re.escape(query.tag),
        "os": _alternatives(names.os_spellings(platform)),
        "arch": _alternatives(names.architecture_spellings(platform)),
    }
    text, last = "", 0
    for match in _PLACEHOLDER.finditer(query.pattern):
        if match[1] not in parts:
            raise ResolveError(
                f"asset = {query.pattern!r}: there is no placeholder {match[0]}",
                hint="the placeholders are {version}, {tag}, {os} and {arch}",
            )
        text += _glob(query.pattern[last : match.start()]) + parts[match[1]]
        last = match.end()
    return re.compile(f"{text}{_glob(query.pattern[last:])}\\Z", re.IGNORECASE)


def _alternatives(words: Sequence[str]) -> str:
    return f"(?:{'|'.join(re.escape(word) for word in sorted(words, key=len, reverse=True))})"


def _glob(text: str) -> str:
    """The glob as a pattern without the flags and the end mark that `translate` puts around it."""
    translated = fnmatch.translate(text)
    inner = re.fullmatch(r"\(\?s:(.*)\)\\[zZ]", translated, re.DOTALL)
    return inner[1] if inner else translated


def _listing(candidates: Sequence[str]) -> str:
    listed = sorted(candidates)[:_LISTED]
    more = [f"… and {len(candidates) - _LISTED} more"] if len(candidates) > _LISTED else []
    return "".join(f"\n  {line}" for line in [*listed, *more])


def _no_match(candidates: Sequence[str], platform: Platform, query: AssetQuery) -> NoMatchingAsset:
    if not candidates:
        return NoMatchingAsset(f"release {query.tag} has no files")
    relevant = [name for name in candidates if _may_be_tool(name.lower())] or list(candidates)
    wanted = f"matches asset = {query.pattern!r}" if query.pattern else "is clearly the tool"
    return NoMatchingAsset(
        f"no file of release {query.tag} {wanted} for {platform}; there are:{_listing(relevant)}",
        hint="name one with asset = '…', a glob in which {version}, {os} and {arch} stand for all their spellings",
    )


def _tie(winners: Sequence[str], platform: Platform, query: AssetQuery) -> NoMatchingAsset:
    return NoMatchingAsset(
        f"release {query.tag} has several files for {platform} that fit equally:{_listing(winners)}",
        hint=f"choose one with asset = {_suggestion(winners[0], query)!r}",
    )


def _suggestion(name: str, query: AssetQuery) -> str:
    """A pattern made from one name, with placeholders for what differs between versions and platforms."""
    pattern = name.replace(query.number, "{version}", 1) if query.number else name
    for placeholder, words in (
        ("{arch}", names.find_architectures(pattern.lower())[1]),
        ("{os}", names.find_systems(pattern.lower())[1]),
    ):
        for word in words:
            pattern = re.sub(re.escape(word), placeholder, pattern, count=1, flags=re.IGNORECASE)
    return pattern
