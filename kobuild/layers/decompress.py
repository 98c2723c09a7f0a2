"""Turning a compressed stream into chunks, all of its joined parts verified to the last byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kobuild.errors import ArchiveError, LimitExceeded, TruncatedArchive
from kobuild.layers.compressing import BROKEN_STREAM, Decompressor, open_decompressor
from kobuild.layers.magic import Packing, sniff
from kobuild.layers.plan import Limits

OUTPUT_BYTES: Final = 256 * 1024
"""The largest chunk given out: it bounds memory, however well the input is compressed."""


def decompress(
    chunks: Iterator[bytes],
    packing: Packing,
    limits: Limits,
    place: str,
    on_padding: Callable[[], None] = lambda: None,
) -> Iterator[bytes]:
    """Decompress `chunks`, however many gzip members or frames they join.

    At the end every checksum was right and nothing but zero bytes (of which `on_padding` tells)
    followed. Raises TruncatedArchive, LimitExceeded,
    and ArchiveError for damage or for anything else after the end.
    """
    counter = _Counter(limits, place)
    stream: Decompressor | None = open_decompressor(packing)
    data = b""
    padded = False
    for chunk in chunks:
        counter.taken += len(chunk)
        data = data + chunk if data else chunk
        while data or (stream is not None and not stream.needs_input):
            if stream is None:
                if len(data) < 6 and data.strip(b"\0"):
                    break  # too short to tell whether another part starts here
                if not data.strip(b"\0"):
                    data, padded = b"", True
                    on_padding()
                    continue
                if padded or sniff(data) is not packing:
                    raise _trailing(place, packing)
                stream = open_decompressor(packing)
            output = _step(stream, data, place, packing)
            data = b""
            if output:
                counter.give(len(output))
                yield output
            if stream.eof:
                data, stream = stream.unused_data, None
    if stream is not None:
        raise TruncatedArchive(
            f"read {place}: the {packing.value} stream ends before its own end mark, after {counter.taken} bytes"
        )
    if data.strip(b"\0"):
        raise _trailing(place, packing)


def _step(stream: Decompressor, data: bytes, place: str, packing: Packing) -> bytes:
    try:
        return stream.decompress(data, OUTPUT_BYTES)
    except BROKEN_STREAM as error:
        raise ArchiveError(f"read {place}: the {packing.value} stream is damaged: {error}") from error
    except MemoryError as error:
        raise LimitExceeded(f"read {place}: the {packing.value} stream needs too much memory") from error


def _trailing(place: str, packing: Packing) -> ArchiveError:
    return ArchiveError(
        f"read {place}: there is data after the end of the {packing.value} stream",
        hint="the archive is damaged or was joined with something else: fetch it again",
    )


class _Counter:
    """What went in and came out, held against the limits."""

    def __init__(self, limits: Limits, place: str) -> None:
        self._limits = limits
        self._place = place
        self.taken = 0
        self.given = 0

    def give(self, count: int) -> None:
        """Count output; raises LimitExceeded."""
        self.given += count
        limits = self._limits
        if self.given > limits.total_bytes:
            raise LimitExceeded(
                f"read {self._place}: it holds more than {limits.total_bytes} bytes",
                hint="set max-size if this archive is to be trusted",
            )
        if self.given > limits.ratio_grace_bytes and self.given > self.taken * limits.ratio:
            raise LimitExceeded(
                f"read {self._place}: {self.taken} bytes became {self.given}, more than {limits.ratio} for one",
                hint="set max-ratio if this archive is to be trusted",
            )
