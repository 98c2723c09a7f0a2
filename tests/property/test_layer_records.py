"""Records of a layer cache, which anybody may have written: reading never fails, and proof is for whom has the key."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kobuild.layercache.records import CLAIM_TYPE, CONTENT, PROOF, RECORD_TYPE, Notary, Record, read, record_manifest
from kobuild.layers.plan import LayerResult
from kobuild.oci import mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.registry.tagged import EMPTY_BLOB

RECIPE = "0" * 64
KEY = "a key that nobody could guess"
SURROGATES = st.text(st.characters(codec=None), max_size=9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | SURROGATES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=4,
)
MEMBERS = st.sampled_from(
    ["recipe", "media_type", "diff_id", "digest", "size", "uncompressed_size", "members", "newest_mtime", "annotations",
     "landing", "nonce", "beat"]
)  # fmt: skip
DIGESTS = st.builds(lambda data: str(Digest.of(data)), st.binary(max_size=4))


def manifest(kind: str | None, notes: dict[str, str]) -> Manifest:
    layer = Descriptor(mediatypes.OCI_LAYER_GZIP, Digest.of(b""), 0)
    return Manifest.build(
        media_type=mediatypes.OCI_MANIFEST,
        config=EMPTY_BLOB.descriptor,
        layers=(layer,),
        annotations=notes,
        artifact_type=kind,
    )


PATIENT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@PATIENT
@given(
    st.sampled_from([RECORD_TYPE, CLAIM_TYPE, "other", None]),
    SURROGATES | st.dictionaries(MEMBERS, JSON | DIGESTS | st.just(RECIPE)).map(json.dumps),
    SURROGATES,
)
def test_reading_never_fails_and_nothing_is_proved_by_chance(kind: str | None, content: str, proof: str) -> None:
    found = read(manifest(kind, {CONTENT: content, PROOF: proof}), RECIPE, Notary(KEY))
    assert found is None or not found.is_proved


RESULTS: st.SearchStrategy[Any] = st.builds(
    LayerResult,
    diff_id=st.binary(max_size=4).map(Digest.of),
    digest=st.binary(max_size=4).map(Digest.of),
    size=st.integers(0, 2**40),
    uncompressed_size=st.integers(0, 2**40),
    members=st.integers(0, 2**20),
    newest_mtime=st.none() | st.integers(-(2**33), 2**33),
    annotations=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=2),
    landing=st.lists(st.text(max_size=9), max_size=3).map(tuple),
)


@PATIENT
@given(RESULTS, st.sampled_from([KEY, None]), st.sampled_from([KEY, "another key altogether"]))
def test_what_was_written_is_read_and_proved_by_the_same_key(
    result: LayerResult, writer: str | None, reader: str
) -> None:
    made = record_manifest(RECIPE, result, mediatypes.OCI_LAYER_GZIP, Notary(writer))
    assert made is not None
    found = read(Manifest.from_bytes(made.raw), RECIPE, Notary(reader))
    assert isinstance(found, Record)
    assert (found.result, found.is_proved) == (result, writer == reader)
    assert read(made, "1" * 64, Notary(reader)) is None
