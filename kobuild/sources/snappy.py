"""Snappy's block format, which GitHub stores attestations in.

https://github.com/google/snappy/blob/main/format_description.txt. A few kilobytes at a time need no library for it.
"""

from __future__ import annotations

from kobuild.errors import FetchError


def decompress(data: bytes, limit_bytes: int, place: str) -> bytes:
    """The plain bytes; raises FetchError naming `place` for what is no such block, or has more than `limit_bytes`."""
    try:
        return _decompress(data, limit_bytes)
    except (IndexError, ValueError) as error:
        raise FetchError(f"{place}: broken Snappy block: {str(error) or 'cut off'}") from error


def _decompress(data: bytes, limit_bytes: int) -> bytes:
    size, at = _read_size(data)
    if size > limit_bytes:
        raise ValueError(f"{size} bytes are more than {limit_bytes}")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            length, at = _literal_length(data, tag, at)
            if at + length > len(data):
                raise ValueError("a literal is cut off")
            out += data[at : at + length]
            at += length
        else:
            length, offset, at = _copy(data, tag, at)
            _repeat(out, offset, length, size)
        if len(out) > size:
            raise ValueError("more bytes than it says")
    if len(out) != size:
        raise ValueError("fewer bytes than it says")
    return bytes(out)


def _read_size(data: bytes) -> tuple[int, int]:
    """The plain size, seven bits a byte, and where the elements begin."""
    size = 0
    for index in range(5):
        size |= (data[index] & 0x7F) << (7 * index)
        if data[index] < 0x80:
            return size, index + 1
    raise ValueError("its size has no end")


def _literal_length(data: bytes, tag: int, at: int) -> tuple[int, int]:
    length = tag >> 2
    if length < 60:
        return length + 1, at
    count = length - 59
    return int.from_bytes(data[at : at + count], "little") + 1, at + count


def _copy(data: bytes, tag: int, at: int) -> tuple[int, int, int]:
    """Length and offset of what is repeated, and where the next element begins."""
    if tag & 3 == 1:
        return (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[at], at + 1
    width = 2 if tag & 3 == 2 else 4
    return (tag >> 2) + 1, int.from_bytes(data[at : at + width], "little"), at + width


def _repeat(out: bytearray, offset: int, length: int, size: int) -> None:
    if not 0 < offset <= len(out) or len(out) + length > size:
        raise ValueError("a repetition of what is not there")
    for _ in range(length):  # it may repeat what it has just written
        out.append(out[-offset])
