"""Checksums files: who lists which sha256 for which file.

Read are the forms that releases carry: `sha256sum` lines (text and binary mark), BSD tags, and one bare sum.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from kobuild.errors import FetchError

MAX_CHECKSUMS_BYTES: Final = 4 * 1024 * 1024
_SUM: Final = re.compile(r"[0-9a-fA-F]{64}\Z")
_LINE: Final = re.compile(r"\\?([0-9a-fA-F]{64})(?:\s+\*?|\s*[:|=]\s*)(\S.*)\Z")
_REVERSED: Final = re.compile(r"(\S+?)(?:\s*[:=]\s*|\s+)(?:sha256:)?([0-9a-fA-F]{64})\Z")
_BSD: Final = re.compile(r"SHA2?-?256\s*\((.+)\)\s*=\s*([0-9a-fA-F]{64})\Z", re.IGNORECASE)
_OWN_SUFFIXES: Final = (".sha256", ".sha256sum", ".sha256.txt", ".sha256sum.txt", ".sha-256")
_SHARED: Final = re.compile(
    r"""(?:^|[-_.])(?:
        checksums?(?:[-_.]?sha-?256)?(?:\.txt)? | sha-?256[-_.]?checksums?(?:\.txt)?
        | sha-?256[-_]?sums?(?:\.txt)? | shasums?[-_.]?(?:256)?(?:\.txt)? | sums?\.txt | digests?(?:\.txt)?
        | checksums?\.sha-?256(?:sum)? | sha256\.txt
    )$""",
    re.VERBOSE | re.IGNORECASE,
)


def parse_checksums(data: bytes) -> dict[str, str]:
    """The sha256 (lower-case hex) of each file listed, by its name without folders; lines of other kinds are skipped.

    A file that holds one bare sum has it under the empty name.
    """
    found: dict[str, str] = {}
    for raw in data.decode("utf-8", "replace").replace("\ufeff", "").splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if _SUM.match(line):
            found.setdefault("", line.lower())
            continue
        entry = _entry(line)
        if entry is not None:
            found.setdefault(entry[0], entry[1])
    return found


def _entry(line: str) -> tuple[str, str] | None:
    if match := _BSD.match(line):
        return _base_name(match[1]), match[2].lower()
    if match := _LINE.match(line):
        return _base_name(match[2]), match[1].lower()
    if match := _REVERSED.match(line):
        return _base_name(match[1]), match[2].lower()
    return None


def _base_name(name: str) -> str:
    return name.strip().replace("\\", "/").rpartition("/")[2]


def find_sum(data: bytes, filename: str, place: str) -> str:
    """The sum of `filename` in a checksums file; a bare sum is for whatever file was asked.

    Raises FetchError when the file is not listed.
    """
    sums = parse_checksums(data)
    found = sums.get(filename) or (sums.get("") if len(sums) == 1 else None)
    if found is None:
        raise FetchError(
            f"{place} lists no sha256 for {filename} ({len(sums)} other files)",
            hint="if it is another file's checksums, give the right address or the sum itself",
        )
    return found


def checksums_files(filename: str, candidates: Sequence[str]) -> list[str]:
    """Which of a release's files may list the sum of `filename`, the likeliest first: its own, then shared ones."""
    own = [filename + suffix for suffix in _OWN_SUFFIXES if filename + suffix in candidates]
    shared = sorted((name for name in candidates if _SHARED.search(name)), key=lambda name: (len(name), name))
    return own + shared
