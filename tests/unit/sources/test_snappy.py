"""Snappy's block format: what it may hold, and what is broken."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kobuild.errors import FetchError
from kobuild.sources.snappy import decompress


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x00", b""),
        (b"\x03\x08abc", b"abc"),
        (b"\x0a\x04ab\x1a\x02\x00"[:4] + b"\x1e\x02\x00", b"ababababab"),  # eight bytes from two back
        (b"\x08\x00a\x0d\x01", b"aaaaaaaa"),  # seven from one back, in the short form
        (b"\x08\x00a\x1b\x01\x00\x00\x00", b"aaaaaaaa"),
        (b"\x40\xf0\x3f" + b"x" * 64, b"x" * 64),
        (b"\x80\x02\xf4\xff\x00" + b"y" * 256, b"y" * 256),
    ],
)
def test_the_forms_of_the_format(packed: bytes, plain: bytes) -> None:
    assert decompress(packed, 1000, "x") == plain


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x80",
        b"\xff\xff\xff\xff\xff\x01",
        b"\xff\xff\xff\xff\x0f\x00a",  # four gigabytes
        b"\x03\x08ab",
        b"\x03\x04ab",
        b"\x01\x08abc",
        b"\x08\x01\x01",  # nothing there to repeat
        b"\x08\x00a\x1e\x00\x00",
        b"\x08\x00a\x1e\x05\x00",
        b"\x04\x00a\xfe\x01\x00",
        b"\x08\x00a\x0d",
    ],
)
def test_broken_blocks(packed: bytes) -> None:
    with pytest.raises(FetchError, match=r"^x: broken Snappy block: "):
        decompress(packed, 1000, "x")


@given(st.binary(max_size=200))
def test_nothing_but_an_error_of_ours_comes_of_any_bytes(data: bytes) -> None:
    with contextlib.suppress(FetchError):
        assert len(decompress(data, 500, "x")) <= 500
