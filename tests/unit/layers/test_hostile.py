"""Archives that lie or break off: a clear error, never a short layer, whatever they are packed with."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import subprocess
import zlib
from collections.abc import Iterator

import pytest

from kobuild.errors import ArchiveError, LimitExceeded, TruncatedArchive
from kobuild.layers.compressing import open_zstd
from kobuild.layers.plan import LayerPlan, Limits
from kobuild.oci.mediatypes import Compression
from tests.support.archives import COMPRESS, Entry, MemoryInput, make, make_tar
from tests.support.programs import require_program

PLAIN = LayerPlan(compression=Compression.NONE, root="/r")
_RANDOM = random.Random(7)  # noqa: S311 - content that hardly compresses
ENTRIES = [Entry(f"some/file-{number}", _RANDOM.randbytes(90_000)) for number in range(10)]
TAR = make_tar(ENTRIES)


def gzip_blocks(tar: bytes) -> tuple[bytes, list[int]]:
    """One gzip member of many deflate blocks, and where each ends."""
    stream = zlib.compressobj(6, zlib.DEFLATED, 31)
    data, ends = b"", []
    for start in range(0, len(tar), 50_000):
        data += stream.compress(tar[start : start + 50_000]) + stream.flush(zlib.Z_FULL_FLUSH)
        ends.append(len(data))
    return data + stream.flush(), ends


def zstd_blocks(tar: bytes) -> tuple[bytes, list[int]]:
    """One zstd frame, and where each of its blocks ends (RFC 8878, 3.1.1)."""
    stream = open_zstd(threads=0)
    data = stream.compress(tar) + stream.flush()
    descriptor = data[4]
    single = descriptor >> 5 & 1
    position = 5 + (1 - single) + (1 if single and descriptor >> 6 == 0 else (0, 2, 4, 8)[descriptor >> 6])
    ends, last = [position], False
    while not last:
        header = int.from_bytes(data[position : position + 3], "little")
        last = bool(header & 1)
        position += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
        ends.append(position)
    assert position == len(data) - 4  # the checksum
    return data, ends


def xz_blocks(tar: bytes) -> tuple[bytes, list[int]]:
    """One xz stream of many blocks, to be cut here and there within them, and at each word of its index."""
    program = require_program("xz")
    done = subprocess.run([program, "-c", "-T1", "--block-size=60000"], input=tar, capture_output=True, check=True)
    step = len(done.stdout) // 40 // 4 * 4
    return done.stdout, [*range(0, len(done.stdout), step), *range(len(done.stdout) - 60, len(done.stdout), 4)]


def bzip2_blocks(tar: bytes) -> tuple[bytes, list[int]]:
    """One bzip2 stream of blocks of 100 kB; they end within bytes."""
    data = bz2.compress(tar, 1)
    bits = f"{int.from_bytes(data, 'big'):b}"
    magic = f"{0x314159265359:b}".zfill(48)
    starts: list[int] = []
    while (found := bits.find(magic, starts[-1] + 1 if starts else 0)) >= 0:
        starts.append(found)
    return data, [(start + 8 * len(data) - len(bits)) // 8 for start in starts]


@pytest.mark.parametrize("make_blocks", [gzip_blocks, zstd_blocks, xz_blocks, bzip2_blocks])
def test_a_stream_cut_at_any_of_its_blocks_is_no_short_layer(make_blocks: object) -> None:
    assert callable(make_blocks)
    data, ends = make_blocks(TAR)
    assert len(ends) >= 7
    assert len(make(data, PLAIN).names) == len(ENTRIES)
    for end in ends:
        for length in {max(0, end - 1), max(0, end), end + 1} - {len(data)}:
            with pytest.raises(TruncatedArchive, match=r"tool\.tar"):
                make(MemoryInput(data[:length], "tool.tar"), PLAIN)


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESS if suffix])
@pytest.mark.parametrize("plan", [PLAIN, LayerPlan(compression=Compression.GZIP)], ids=["moved", "kept"])
def test_streams_in_a_row_are_all_there_or_an_error(suffix: str, plan: LayerPlan) -> None:
    """Each stream holds whole members: nothing but the tar's own end mark tells that one is missing."""
    parts = [make_tar([entry])[: 512 + len(entry.content) + -len(entry.content) % 512] for entry in ENTRIES[:3]]
    packed = [COMPRESS[suffix](part) for part in [*parts, bytes(1024)]]
    assert len(make(b"".join(packed), plan).names) == 3
    for count in (2, 3):
        with pytest.raises(TruncatedArchive, match="before its own end mark"):
            make(b"".join(packed[:count]), plan)
    assert len(make(packed[0], plan).names) == 1  # one whole stream may lack it, as GNU tar and Go allow


def flips() -> Iterator[tuple[int, int]]:
    """Every byte of the second header."""
    start = 512 + len(ENTRIES[0].content) + -len(ENTRIES[0].content) % 512
    for position in range(start, start + 512):
        yield position, 1 << position % 8


def test_no_changed_byte_of_a_header_passes() -> None:
    small = make_tar(ENTRIES[:2])
    good = make(small, PLAIN).tar
    for position, bit in flips():
        bad = bytearray(small)
        bad[position] ^= bit
        try:
            assert make(bytes(bad), PLAIN).tar == good
            assert position % 512 in range(148, 156)  # how the sum itself is written: blanks, NULs
        except ArchiveError as error:
            assert "file-0" in str(error) or "file-1" in str(error)  # noqa: PT017


def resize(tar: bytes, start: int, size: int) -> bytes:
    """The tar with another size in the header at `start`, and a right checksum."""
    header = bytearray(tar[start : start + 512])
    header[124:136] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return tar[:start] + bytes(header) + tar[start + 512 :]


@pytest.mark.parametrize("size", [0, 512, 89_000, 91_000, 1_000_000, 10_000_000, 8**11 - 1])
def test_a_size_that_lies_is_found(size: int) -> None:
    with pytest.raises(ArchiveError, match=r"file-0|some/file"):
        make(resize(TAR, 0, size), PLAIN)


BOMB_BYTES = 24 * 1024 * 1024
BOMBS = {
    "gzip": lambda data: gzip.compress(data, 9),
    "gzip in many members": lambda data: gzip.compress(data[: 2**20], 9) * (len(data) >> 20),
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 9),
    "zstd": COMPRESS[".zst"],
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_of_every_packing_meet_each_limit(kind: str) -> None:
    tar = make_tar([Entry("zeros", bytes(BOMB_BYTES))])
    data = BOMBS[kind](tar + bytes(-len(tar) % 2**20) if "many" not in kind else bytes(len(tar)))
    if "many" in kind:
        data = gzip.compress(tar[:512]) + data
    for limits, key in (
        (Limits(ratio=50, ratio_grace_bytes=1_000_000), "max-ratio"),
        (Limits(total_bytes=4_000_000), "max-size"),
    ):
        with pytest.raises(LimitExceeded, match=r"tool\.tar") as caught:
            make(MemoryInput(data, "tool.tar"), LayerPlan(compression=Compression.NONE, root="/r", limits=limits))
        assert key in (caught.value.hint or "")


@pytest.mark.parametrize("entries", [[Entry("a\0b", b"x")], [Entry("ok"), Entry("link\0", pax={"path": "evil\0name"})]])
def test_a_nul_in_a_name_never_ends_it_unseen(entries: list[Entry]) -> None:
    try:
        names = make(make_tar(entries), PLAIN).names
    except ArchiveError as error:
        assert "NUL" in str(error)  # noqa: PT017
    else:
        assert names == ["r/a"]  # the field ends at its first NUL, as POSIX has it
