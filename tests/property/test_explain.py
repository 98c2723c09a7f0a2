"""Whatever a hostile image says of itself: an error of ours or an answer that can be printed, and nothing else."""

from __future__ import annotations

import gzip
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kobuild.errors import KobuildError
from kobuild.explain.entries import printable
from kobuild.explain.listing import list_layer
from kobuild.image.blobs import BytesSource, Layer
from kobuild.layers.toc import ESTARGZ_DIGEST, read_table
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import OCI_LAYER_GZIP
from tests.support.archives import Entry, make_tar

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("name", "type", "size", "mode", "uid", "gid", "linkName", "digest", "xattrs")
TABLES = VALUES | st.fixed_dictionaries(
    {
        "entries": st.lists(
            st.dictionaries(
                st.sampled_from(FIELDS),
                VALUES
                | st.sampled_from(["reg", "dir", "symlink", "hardlink", "chunk", "a/../b", "/x\ud800", "\x1b[m"]),
            ),
            max_size=4,
        )
    }
)


def footer(offset: int) -> bytes:
    extra = b"SG\x16\x00" + b"%016x" % offset + b"STARGZ"
    return b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff\x1a\x00" + extra + b"\x01\x00\x00\xff\xff" + bytes(8)


def read(blob: bytes, digest: str) -> None:
    descriptor = Descriptor(OCI_LAYER_GZIP, Digest.of(blob), len(blob), annotations={ESTARGZ_DIGEST: digest})
    try:
        table = read_table(descriptor, lambda start, size: blob[start : start + size], "layer")
    except KobuildError:
        return
    for entry in table.entries:
        assert printable(entry.path).isprintable() or entry.path == ""
        json.dumps(entry.to_json())


@given(TABLES)
@settings(max_examples=200, deadline=None)
def test_any_table_is_read_or_refused(table: Any) -> None:
    raw = json.dumps(table).encode()
    blob = gzip.compress(make_tar([Entry("stargz.index.json", raw)])) + footer(0)
    read(blob, str(Digest.of(raw)))


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
@settings(max_examples=200, deadline=None)
def test_any_bytes_before_a_footer_are_refused(data: bytes, offset: int) -> None:
    read(data + footer(offset), str(Digest.of(data)))


class _OneBlob:
    """A store of one blob."""

    name = "memory"

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def open(self, descriptor: Descriptor) -> Any:
        return self._layer.source.open()


TAR = make_tar([Entry("a/b", b"content" * 30, pax={"SCHILY.xattr.user.a": "1"}), Entry("x" * 120, b"y"), Entry("c")])


@given(st.lists(st.tuples(st.integers(0, len(TAR) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(TAR)))
@settings(max_examples=300, deadline=None)
def test_any_layer_is_listed_or_refused(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(TAR)
    for place, byte in changes:
        data[place] = byte
    blob = gzip.compress(bytes(data[: cut if changes else len(data)]), 1)
    layer = Layer(Descriptor(OCI_LAYER_GZIP, Digest.of(blob), len(blob)), BytesSource(blob), Digest.of(bytes(data)))
    try:
        listing = list_layer(_OneBlob(layer), layer.descriptor, digests=True)  # type: ignore[arg-type]
    except KobuildError:
        return
    assert all(printable(entry.path).isprintable() for entry in listing.entries)
