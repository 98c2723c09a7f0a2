"""Every deflate stream is whole by itself, though a guard stands before it."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from kobuild.layers.compressing import GzipStream, find_guard, gzip_member

_ALPHABETS = (b"\xff", b"\xff\xfe", b"ab\xff", b"x.y/\xff", bytes(range(256)))

_repetitive = st.sampled_from(_ALPHABETS).flatmap(
    lambda alphabet: st.tuples(
        st.lists(st.sampled_from(list(alphabet)), max_size=300).map(bytes), st.integers(min_value=1, max_value=200)
    ).map(lambda parts: parts[0] * parts[1])
)


@given(_repetitive)
def test_a_member_needs_no_dictionary(data: bytes) -> None:
    assert zlib.decompress(gzip_member(data), 31) == data


@given(_repetitive)
def test_no_match_can_begin_at_the_guard(data: bytes) -> None:
    guard = find_guard(data)
    assert guard
    assert guard + data[:2] not in data[: 32 * 1024 + 2]


@given(st.lists(st.binary(max_size=3000).map(lambda piece: piece.replace(b"\xff", b"")), max_size=5))
def test_a_stream_is_its_pieces(pieces: list[bytes]) -> None:
    stream = GzipStream(b"\xff")
    written = b"".join([*map(stream.compress, pieces), stream.flush()])
    assert zlib.decompress(written, 31) == b"".join(pieces)


def test_where_every_byte_stands_before_the_same_two_there_is_no_guard() -> None:
    assert find_guard(b"".join(bytes((number,)) + b"ab" for number in range(256))) == b"\xff"
    assert find_guard(b"ab" + b"".join(bytes((number,)) + b"ab" for number in range(256))) == b""
