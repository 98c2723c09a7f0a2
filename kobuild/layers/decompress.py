"""Unpacking an upstream file within the limits of its plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kobuild.decompress.packing import Packing
from kobuild.decompress.parts import unpack
from kobuild.errors import LimitExceeded
from kobuild.layers.plan import Limits


def decompress(
    chunks: Iterator[bytes],
    packing: Packing,
    limits: Limits,
    place: str,
    *,
    on_padding: Callable[[], None] = lambda: None,
    on_join: Callable[[], None] = lambda: None,
) -> Iterator[bytes]:
    """As `unpack` has it; raises LimitExceeded, too, for more bytes or a higher ratio than allowed."""

    def check(taken: int, given: int) -> None:
        if given > limits.total_bytes:
            raise LimitExceeded(
                f"read {place}: it holds more than {limits.total_bytes} bytes",
                hint="set max-size if this archive is to be trusted",
            )
        if given > limits.ratio_grace_bytes and given > taken * limits.ratio:
            raise LimitExceeded(
                f"read {place}: {taken} bytes became {given}, more than {limits.ratio} for one",
                hint="set max-ratio if this archive is to be trusted",
            )

    return unpack(chunks, packing, f"read {place}", count=check, on_padding=on_padding, on_join=on_join)
