"""What a signature is about."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeAlias

from kobuild.frozen import frozen

Buffer: TypeAlias = "bytes | memoryview"


@frozen
class Subject:
    """One file that may be signed."""

    name: str
    """Its file name."""
    sha256: str
    """Hex."""
    content: Callable[[], AbstractContextManager[Buffer]]
    """Its bytes; for an archive this may mean to download it, so it is called only where the sum is not enough."""


def subject_of_bytes(name: str, data: bytes) -> Subject:
    """A small file that was read already."""
    return Subject(name, hashlib.sha256(data).hexdigest(), lambda: nullcontext(data))


@contextmanager
def mapped(path: Path) -> Iterator[Buffer]:
    """A file of any size as bytes, without reading it into memory."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:  # which cannot be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages, memoryview(pages) as view:
            yield view
