"""Checksums files as releases carry them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kobuild.errors import FetchError
from kobuild.sources.checksums import checksums_files, find_sum, parse_checksums


def _names(text: str) -> list[str]:
    return text.split()


ONE = "a" * 64
TWO = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "text",
    [
        f"{ONE}  tool.tar.gz\n{TWO}  other.tar.gz\n",
        f"{ONE} *tool.tar.gz\r\n{TWO} *other.tar.gz\r\n",
        f"{ONE}  ./dist/tool.tar.gz\n{TWO}\tother.tar.gz\n",
        f"SHA256 (tool.tar.gz) = {ONE}\nSHA256 (other.tar.gz) = {TWO}\n",
        f"SHA2-256(dist/tool.tar.gz)= {ONE}\nSHA512 (other.tar.gz) = {TWO}{TWO}\nSHA256(other.tar.gz)= {TWO}\n",
        f"# sums of 1.0\n\n{ONE.upper()}  tool.tar.gz\nnot a line\n{TWO}  other.tar.gz\n",
        f"tool.tar.gz: {ONE}\nother.tar.gz  sha256:{TWO}\n",
        f"\ufeff{ONE}  tool.tar.gz\n{TWO}  other.tar.gz",
    ],
)
def test_every_common_form_is_read(text: str) -> None:
    assert parse_checksums(text.encode()) == {"tool.tar.gz": ONE, "other.tar.gz": TWO}
    assert find_sum(text.encode(), "tool.tar.gz", "checksums.txt") == ONE


def test_a_bare_sum_is_for_the_file_that_was_asked() -> None:
    assert find_sum(f"{TWO}\n".encode(), "anything", "x.sha256") == TWO


def test_a_file_that_is_not_listed_is_named() -> None:
    with pytest.raises(FetchError, match=r"checksums\.txt lists no sha256 for tool\.tar\.gz \(1 other files\)"):
        find_sum(f"{ONE}  another\n".encode(), "tool.tar.gz", "checksums.txt")


def test_a_bare_sum_among_others_vouches_for_nothing() -> None:
    with pytest.raises(FetchError):
        find_sum(f"{ONE}\n{TWO}  another\n".encode(), "tool", "sums")


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_skipped(data: bytes) -> None:
    assert all(len(value) == 64 for value in parse_checksums(data).values())


@pytest.mark.parametrize(
    "name",
    _names("""
    checksums.txt ko_checksums.txt ko_0.15.4_checksums.txt SHA256SUMS SHASUMS256.txt sha256sum.txt tool-1.0.sha256sums
    checksums.sha256 checksums_sha256.txt tool.sha256.txt SHA256SUMS.txt sha256-checksums.txt
    """),
)
def test_shared_files_are_known_by_name(name: str) -> None:
    assert checksums_files("tool.tar.gz", [name, "tool.tar.gz", f"{name}.sig", f"{name}.asc"]) == [name]


def test_a_file_of_its_own_comes_first() -> None:
    names = ["checksums.txt", "tool.tar.gz.sha256", "other.tar.gz.sha256", "tool.tar.gz"]
    assert checksums_files("tool.tar.gz", names) == ["tool.tar.gz.sha256", "checksums.txt"]


def test_sums_of_other_kinds_are_no_candidates() -> None:
    assert checksums_files("tool", ["SHA512SUMS", "md5sums.txt", "tool.sha512", "tool"]) == []
