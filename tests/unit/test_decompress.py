"""What layers hold, decompressed: told by the bytes, whole or an error."""

from __future__ import annotations

import gzip
import io
import random
import sys

import pytest

from kobuild.decompress import Decompressed, detect
from kobuild.errors import ArchiveError, TruncatedArchive
from kobuild.oci.mediatypes import Compression

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = random.Random(1).randbytes(3_000_000) + bytes(1_000_000)  # noqa: S311 - test data
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


class Trickle:
    """A reader that hands out few bytes at once, as a network may."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self.file.read(min(size, 7777) if size >= 0 else 7777)


FORMS = {
    "gzip": (gzip.compress(TEXT, 1), Compression.GZIP),
    "gzip members": (gzip.compress(TEXT[:500_000], 1) + gzip.compress(TEXT[500_000:], 1), Compression.GZIP),
    "gzip, padded": (gzip.compress(TEXT, 1) + bytes(1024), Compression.GZIP),
    "zstd": (zstd.compress(TEXT), Compression.ZSTD),
    "zstd frames": (zstd.compress(TEXT[:5]) + SKIPPABLE + zstd.compress(TEXT[5:]) + SKIPPABLE, Compression.ZSTD),
    "zstd, skippable first": (SKIPPABLE + zstd.compress(TEXT), Compression.ZSTD),
    "plain": (TEXT, Compression.NONE),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("slow", [False, True])
def test_every_form_gives_the_same_bytes(form: str, *, slow: bool) -> None:
    data, compression = FORMS[form]
    reader = Decompressed(Trickle(data) if slow else io.BytesIO(data), "layer")
    parts = []
    while part := reader.read(100_000):
        assert len(part) <= 100_000
        parts.append(part)
    assert reader.compression is compression
    assert b"".join(parts) == TEXT


@pytest.mark.parametrize("form", FORMS)
def test_all_at_once(form: str) -> None:
    assert Decompressed(io.BytesIO(FORMS[form][0]), "layer").read() == TEXT


@pytest.mark.parametrize("data", [b"", b"a", b"abc"])
def test_short_input_is_plain(data: bytes) -> None:
    assert Decompressed(io.BytesIO(data), "layer").read() == data


@pytest.mark.parametrize("form", ["gzip", "gzip members", "zstd", "zstd frames"])
def test_an_early_end_is_an_error(form: str) -> None:
    with pytest.raises(TruncatedArchive, match=r"layer: the \w+ stream ends early"):
        Decompressed(io.BytesIO(FORMS[form][0][:-20]), "layer").read()


@pytest.mark.parametrize("form", ["gzip", "zstd"])
@pytest.mark.parametrize("garbage", [b"x", b"garbage that is longer than a header"])
def test_garbage_after_the_end_is_an_error(form: str, garbage: bytes) -> None:
    with pytest.raises(ArchiveError, match="layer: "):
        Decompressed(io.BytesIO(FORMS[form][0] + garbage), "layer").read()


def test_zeros_after_zstd_are_an_error() -> None:
    with pytest.raises(ArchiveError, match="layer: there is data after the end of the zstd stream"):
        Decompressed(io.BytesIO(FORMS["zstd"][0] + bytes(1024)), "layer").read()


@pytest.mark.parametrize("place", [20, 1_000_000, -6])
def test_a_broken_gzip_stream_is_an_error(place: int) -> None:
    data = bytearray(gzip.compress(bytes(2_000_000) + TEXT, 1))
    data[place] ^= 0xFF
    with pytest.raises(ArchiveError, match="layer: "):
        Decompressed(io.BytesIO(bytes(data)), "layer").read()


def test_a_broken_zstd_stream_is_an_error() -> None:
    data = bytearray(zstd.compress(TEXT, options={zstd.CompressionParameter.checksum_flag: 1}))
    data[-1] ^= 1
    with pytest.raises(ArchiveError, match="layer: the zstd stream is damaged"):
        Decompressed(io.BytesIO(bytes(data)), "layer").read()


def test_the_source_is_read_to_its_end() -> None:
    # The verifying reader below sees the blob's end only so.
    for data, _ in FORMS.values():
        source = io.BytesIO(data)
        Decompressed(source, "layer").read()
        assert source.read() == b""


def test_xz_is_not_a_layers_compression() -> None:
    assert detect(b"\xfd7zX") is Compression.NONE


@pytest.mark.parametrize("form", [form for form in FORMS if form.startswith("gzip")])
def test_the_standard_librarys_reader_does_the_same(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where isal has no wheel.
    monkeypatch.setattr("kobuild.decompress.decompressors.HAVE_ISAL", False)
    assert Decompressed(Trickle(FORMS[form][0]), "layer").read() == TEXT
    with pytest.raises(TruncatedArchive):
        Decompressed(io.BytesIO(FORMS[form][0][:1000]), "layer").read()
    broken = bytearray(gzip.compress(bytes(2_000_000) + TEXT, 1))
    broken[1000] ^= 0xFF
    with pytest.raises(ArchiveError):
        Decompressed(io.BytesIO(bytes(broken)), "layer").read()
