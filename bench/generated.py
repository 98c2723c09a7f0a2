"""Archives made on the spot, from a seed: as many members of a size as are asked for, compressible as programs are."""

from __future__ import annotations

import functools
import gzip
import io
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path

_PIECE_BYTES = 64 * 1024
_PIECES = 256
_MTIME = 1_790_000_000


@dataclass(frozen=True)
class Shape:
    """What an archive is like."""

    members: int
    member_bytes: int

    @property
    def name(self) -> str:
        return f"generated-{self.members}x{self.member_bytes}.tar.gz"

    @property
    def total_bytes(self) -> int:
        return self.members * self.member_bytes


@functools.cache
def _pieces() -> list[bytes]:
    """What all archives are put together from: to make it takes longer than a small archive."""
    source = random.Random(0)  # noqa: S311  # the same each time
    words = [source.randbytes(source.randrange(4, 24)) for _ in range(3000)]
    return [b"".join(source.choices(words, k=8000))[:_PIECE_BYTES] for _ in range(_PIECES)]


class _Content:
    """An endless stream that deflate makes about a third of; no piece stands near its like."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)  # noqa: S311  # the same archive each time
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._rest += self._source.choice(_pieces())
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def make_archive(folder: Path, shape: Shape) -> Path:
    """The archive of that shape in the folder; made where it is missing, in little memory."""
    path = folder / shape.name
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    making = path.with_suffix(".making")
    content = _Content(shape.members)
    with (
        gzip.GzipFile(making, "wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for number in range(shape.members):
            info = tarfile.TarInfo(f"tool/lib/{number % 97:02}/file-{number:07}")
            info.size, info.mode, info.mtime = shape.member_bytes, 0o644, _MTIME
            tar.addfile(info, io.BufferedReader(_Member(content, shape.member_bytes)))
    making.rename(path)
    return path


class _Member(io.RawIOBase):
    """The next bytes of the content, as one file."""

    def __init__(self, content: _Content, size: int) -> None:
        self._content = content
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._content.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)
