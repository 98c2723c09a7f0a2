"""Turning a compressed stream into chunks, all of its joined parts verified to the last byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kobuild.decompress.decompressors import BROKEN_STREAM, Decompressor, open_decompressor
from kobuild.decompress.packing import MAGIC_BYTES, Packing, sniff
from kobuild.errors import ArchiveError, LimitExceeded, TruncatedArchive

OUTPUT_BYTES: Final = 256 * 1024
"""The largest chunk given out: it bounds memory, however well the input is compressed."""

CountBytes = Callable[[int, int], None]
"""Is told how many bytes went in and came out so far; may raise."""


def unpack(
    chunks: Iterator[bytes],
    packing: Packing,
    place: str,
    *,
    count: CountBytes = lambda _taken, _given: None,
    on_padding: Callable[[], None] = lambda: None,
    on_join: Callable[[], None] = lambda: None,
) -> Iterator[bytes]:
    """Decompress `chunks`, however many gzip members or frames they join (`on_join` tells of each after the first).

    At the end every checksum was right and nothing but zero bytes (of which `on_padding` tells) followed. Raises
    TruncatedArchive, LimitExceeded for a stream that needs too much memory, and ArchiveError for damage or for anything
    else after the end; `place` begins their messages.
    """
    stream: Decompressor | None = open_decompressor(packing)
    data = b""
    taken = given = 0
    padded = False
    for chunk in chunks:
        taken += len(chunk)
        data = data + chunk if data else chunk
        while data or (stream is not None and not stream.needs_input):
            if stream is None:
                if len(data) < MAGIC_BYTES and data.strip(b"\0"):
                    break  # too short to tell whether another part starts here
                if not data.strip(b"\0"):
                    data, padded = b"", True
                    on_padding()
                    continue
                if padded or sniff(data) is not packing:
                    raise _trailing(place, packing)
                on_join()
                stream = open_decompressor(packing)
            output = _step(stream, data, place, packing)
            data = b""
            if output:
                given += len(output)
                count(taken, given)
                yield output
            if stream.eof:
                data, stream = stream.unused_data, None
    if stream is not None:
        raise TruncatedArchive(
            f"{place}: the {packing.value} stream ends early: before its own end mark, after {taken} bytes"
        )
    if data.strip(b"\0"):
        raise _trailing(place, packing)


def _step(stream: Decompressor, data: bytes, place: str, packing: Packing) -> bytes:
    try:
        return stream.decompress(data, OUTPUT_BYTES)
    except BROKEN_STREAM as error:
        raise ArchiveError(f"{place}: the {packing.value} stream is damaged: {error}") from error
    except MemoryError as error:
        raise LimitExceeded(f"{place}: the {packing.value} stream needs too much memory") from error


def _trailing(place: str, packing: Packing) -> ArchiveError:
    return ArchiveError(
        f"{place}: there is data after the end of the {packing.value} stream",
        hint="it is damaged or was joined with something else: fetch it again",
    )
