"""Manifests, indexes, descriptors and configs: what is read, kept, and refused."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from typing import Any

import pytest

from kobuild.errors import MalformedDocument
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.config import ImageConfig, format_time, parse_time
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Compression, Family
from kobuild.oci.platforms import Platform

DIGEST = Digest.of(b"{}")
CONFIG = {"mediaType": mediatypes.OCI_CONFIG, "digest": str(DIGEST), "size": 2}
LAYER = {"mediaType": mediatypes.OCI_LAYER_GZIP, "digest": str(DIGEST), "size": 2}


def manifest(**changes: Any) -> bytes:
    value = {"schemaVersion": 2, "mediaType": mediatypes.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER], **changes}
    return json.dumps({key: item for key, item in value.items() if item != "absent"}).encode()


def index(**changes: Any) -> bytes:
    entry = {"mediaType": mediatypes.OCI_MANIFEST, "digest": str(DIGEST), "size": 2}
    value = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": [entry], **changes}
    return json.dumps({key: item for key, item in value.items() if item != "absent"}).encode()


# Manifests and indexes.


def test_raw_bytes_are_kept() -> None:
    raw = manifest(annotations={"a": "b"}, unknown=[1])
    found = Manifest.from_bytes(raw)
    assert found.raw == raw
    assert found.digest == Digest.of(raw)
    assert found.descriptor == Descriptor(mediatypes.OCI_MANIFEST, Digest.of(raw), len(raw))
    assert dict(found.annotations) == {"a": "b"}


@pytest.mark.parametrize(
    ("body", "header", "expected"),
    [
        (mediatypes.OCI_MANIFEST, None, mediatypes.OCI_MANIFEST),
        (mediatypes.DOCKER_MANIFEST, mediatypes.OCI_MANIFEST, mediatypes.DOCKER_MANIFEST),
        ("absent", mediatypes.DOCKER_MANIFEST, mediatypes.DOCKER_MANIFEST),
        ("absent", f"{mediatypes.DOCKER_MANIFEST.upper()} ; charset=utf-8", mediatypes.DOCKER_MANIFEST),
        ("absent", "application/octet-stream", mediatypes.OCI_MANIFEST),
        ("absent", None, mediatypes.OCI_MANIFEST),
        ("", "", mediatypes.OCI_MANIFEST),
    ],
)
def test_the_media_type_is_the_bodys_else_the_headers_else_the_shapes(
    body: str, header: str | None, expected: str
) -> None:
    assert Manifest.from_bytes(manifest(mediaType=body), media_type=header).media_type == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (manifest(schemaVersion=1), "schema 1"),
        (manifest(mediaType=mediatypes.DOCKER_MANIFEST_V1_SIGNED), "schema 1"),
        (manifest(schemaVersion=3), "schemaVersion: expected 2, got 3"),
        (manifest(schemaVersion="absent"), "schemaVersion"),
        (manifest(manifests=[]), r"both an index \(manifests\) and a manifest"),
        (manifest(mediaType="application/x"), "neither an image manifest nor an index"),
        (manifest(mediaType={"a": 1}), "mediaType: expected a string"),
        (manifest(mediaType=mediatypes.OCI_INDEX), "is not an image manifest"),
        (manifest(config="absent"), "config: missing"),
        (manifest(config=None), "config: digest"),
        (manifest(config=[]), "config: expected an object"),
        (manifest(layers={}), "layers: expected an array"),
        (manifest(layers=[1]), "layers: expected an array of objects"),
        (manifest(layers=[{**LAYER, "size": -1}]), r"layers\[0\]: size"),
        (manifest(layers=[{**LAYER, "size": True}]), r"layers\[0\]: size"),
        (manifest(layers=[LAYER, {**LAYER, "digest": "sha256:xyz"}]), "not a digest"),
        (manifest(annotations={"a": 1}), r"annotations\.a: expected a string"),
        (manifest(artifactType=3), "artifactType"),
        (manifest(subject={"digest": str(DIGEST)}), "subject: size"),
        (b"[]", "expected a JSON object"),
        (b"{}", "neither"),
        (b"\xff\xfe{\x00}\x00", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (jsonio.MAX_DOCUMENT_BYTES + 1), "more than"),
    ],
)
def test_what_is_no_manifest(raw: bytes, message: str) -> None:
    with pytest.raises(MalformedDocument, match=message):
        Manifest.from_bytes(raw, what="the manifest")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (index(mediaType=mediatypes.OCI_MANIFEST), "is not an image index"),
        (index(config=CONFIG), "both an index"),
        (index(manifests=[{}]), r"manifests\[0\]: digest"),
        (index(manifests=None, mediaType="absent"), "both|index|neither|expected"),
    ],
)
def test_what_is_no_index(raw: bytes, message: str) -> None:
    if raw == index(manifests=None, mediaType="absent"):
        assert Index.from_bytes(raw).manifests == ()
        return
    with pytest.raises(MalformedDocument, match=message):
        Index.from_bytes(raw, what="the index")


def test_subject_and_artifact_type_are_read() -> None:
    found = Manifest.from_bytes(manifest(subject=LAYER, artifactType="application/spdx+json"))
    assert found.subject == Descriptor.from_json(LAYER, "x")
    assert found.artifact_type == "application/spdx+json"
    assert Index.from_bytes(index(subject=LAYER, artifactType="a/b")).artifact_type == "a/b"


def test_a_manifest_is_written_as_it_is_read() -> None:
    config, layer = Descriptor.from_json(CONFIG, "x"), Descriptor.from_json({**LAYER, "annotations": {"a": "b"}}, "x")
    built = Manifest.build(
        media_type=mediatypes.OCI_MANIFEST,
        config=config,
        layers=(layer,),
        annotations={"z": "1", "a": "2"},
        subject=layer,
        artifact_type="a/b",
    )
    again = Manifest.from_bytes(built.raw)
    assert again == built
    assert list(again.annotations) == ["a", "z"]
    assert (again.config, again.layers, again.subject, again.artifact_type) == (config, (layer,), layer, "a/b")


def test_platforms_of_an_index_leave_attestations_out() -> None:
    amd64, unknown = Platform("linux", "amd64"), Platform("unknown", "unknown")
    entries = tuple(Descriptor(mediatypes.OCI_MANIFEST, DIGEST, 2, platform=item) for item in (amd64, unknown, None))
    found = Index.build(media_type=mediatypes.OCI_INDEX, manifests=entries)
    assert found.platforms == (amd64,)
    assert found.find(amd64) == entries[0]
    assert found.find(Platform("linux", "arm64")) is None


# Descriptors.


def test_all_of_a_descriptor_survives() -> None:
    value = {
        "mediaType": "a/b",
        "digest": str(DIGEST),
        "size": 2,
        "urls": ["https://example.com/x"],
        "annotations": {"a": "b"},
        "data": base64.b64encode(b"{}").decode(),
        "artifactType": "c/d",
        "platform": {"os": "windows", "architecture": "amd64", "os.version": "10.0", "variant": "v1"},
        "newer": {"x": 1},
    }
    found = Descriptor.from_json(value, "x")
    assert found.to_json() == value
    assert found.platform == Platform("windows", "amd64")
    assert found.with_annotations({"c": "d"}).annotations == {"a": "b", "c": "d"}
    assert found.annotations == {"a": "b"}


@pytest.mark.parametrize("data", ["!", base64.b64encode(b"[]").decode(), base64.b64encode(b"{} ").decode()])
def test_embedded_data_must_be_the_content(data: str) -> None:
    with pytest.raises(MalformedDocument, match="data"):
        Descriptor.from_json({**LAYER, "data": data}, "x")


# Configs.


def config(**members: Any) -> ImageConfig:
    return ImageConfig.from_value({"os": "linux", "architecture": "amd64", **members})


def test_a_config_is_read() -> None:
    found = config(
        created="2024-05-01T00:00:00.5Z",
        config={"Env": ["A=1"], "Labels": None},
        rootfs={"type": "layers", "diff_ids": [str(DIGEST)]},
        history=[{"created_by": "x"}],
    )
    assert found.platform == Platform("linux", "amd64")
    assert found.env == ("A=1",)
    assert found.diff_ids == (DIGEST,)
    assert found.history == ({"created_by": "x"},)
    assert found.created == datetime(2024, 5, 1, 0, 0, 0, 500_000, timezone.utc)
    assert found.digest == Digest.of(found.raw)


def test_an_old_config_lacks_almost_all() -> None:
    found = ImageConfig.from_bytes(b"{}")
    assert (found.env, found.diff_ids, found.history, found.created, found.runtime) == ((), (), (), None, {})
    assert not found.platform.is_known


@pytest.mark.parametrize(
    "members",
    [
        {"config": {"Env": "A=1"}},
        {"config": {"Env": [1]}},
        {"config": {"Labels": {"a": 1}}},
        {"config": []},
        {"rootfs": {"diff_ids": ["sha256:x"]}},
        {"rootfs": 3},
        {"history": {}},
    ],
)
def test_a_broken_config_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(MalformedDocument):
        config(**members)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T01:02:03Z", "2024-05-01T01:02:03Z"),
        ("2024-05-01T01:02:03z", "2024-05-01T01:02:03Z"),
        ("2024-05-01T01:02:03.1Z", "2024-05-01T01:02:03Z"),
        ("2024-05-01T01:02:03.123456789+02:00", "2024-04-30T23:02:03Z"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_times_are_read_and_written(text: str, expected: str) -> None:
    moment = parse_time(text)
    assert moment is not None
    assert format_time(moment) == expected


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+02:00"])
def test_the_zero_time_is_no_time(text: str) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01T00:00:00Z", "9999-12-31T23:59:59-23:00"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(MalformedDocument, match="created"):
        parse_time(text)


# Platforms, digests, media types.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("LINUX/AMD64", "linux/amd64"),
        ("macos/arm64", "darwin/arm64"),
    ],
)
def test_platforms_are_normalised(text: str, expected: str) -> None:
    found = Platform.parse(text)
    assert str(found) == expected
    assert Platform.from_json(found.to_json()) == found
    assert found.normalized() == found


@pytest.mark.parametrize("text", ["", "linux", "linux/", "linux/amd64/v1/x", "linux/am d64", "/amd64", "linux//v7"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(MalformedDocument, match="not a platform"):
        Platform.parse(text)


def test_what_runs_where() -> None:
    assert [str(item) for item in Platform("linux", "arm", "v7").runnable] == [
        "linux/arm/v7",
        "linux/arm/v6",
        "linux/arm/v5",
    ]
    assert [str(item) for item in Platform("linux", "amd64", "v3").runnable] == [
        "linux/amd64/v3",
        "linux/amd64/v2",
        "linux/amd64",
    ]
    assert [str(item) for item in Platform("linux", "arm64", "v9").runnable] == ["linux/arm64/v9", "linux/arm64"]
    assert Platform("linux", "s390x").runnable == (Platform("linux", "s390x"),)


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:", "md5:" + "0" * 32, "sha256:" + "0" * 63, "sha512:" + "0" * 64]
)
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(MalformedDocument, match="not a digest"):
        Digest.parse(text)


@pytest.mark.parametrize(("algorithm", "length"), [("sha256", 64), ("sha384", 96), ("sha512", 128)])
def test_registered_algorithms_are_known(algorithm: str, length: int) -> None:
    digest = Digest.parse(f"{algorithm}:{'0' * length}")
    assert digest.hasher().name == algorithm
    assert digest.short == "0" * 12


def test_families_have_their_own_words() -> None:
    for family in Family:
        types = [family.manifest, family.index, family.config, family.layer(Compression.GZIP)]
        assert {Family.of(media_type) for media_type in types} == {family}
    with pytest.raises(KeyError):
        Family.DOCKER.layer(Compression.ZSTD)


@pytest.mark.parametrize(
    "media_type", [mediatypes.DOCKER_LAYER, mediatypes.DOCKER_LAYER_GZIP, mediatypes.DOCKER_CONFIG]
)
def test_each_word_of_docker_has_a_twin(media_type: str) -> None:
    twin = mediatypes.to_oci(media_type)
    assert Family.of(twin) is Family.OCI
    assert mediatypes.in_family(twin, Family.DOCKER) == media_type
    assert mediatypes.in_family(media_type, Family.DOCKER) == media_type


def test_dockers_family_has_no_word_for_zstd() -> None:
    assert mediatypes.in_family(mediatypes.OCI_LAYER_ZSTD, Family.DOCKER) is None
    assert mediatypes.in_family("application/vnd.docker.unheard.of", Family.OCI) is None
    assert mediatypes.to_oci("application/x") == "application/x"


# JSON.


def test_half_a_surrogate_pair_stays_what_it_was() -> None:
    raw = b'{"a":"\\ud800","b":"\xc3\xa9"}'
    written = jsonio.canonical(jsonio.parse_object(raw, "x"))
    assert json.loads(written) == json.loads(raw)
    assert jsonio.canonical(jsonio.parse_object(written, "x")) == written


def test_arrays_of_objects_are_read() -> None:
    assert jsonio.parse_objects(b'[{"a": 1}, {}]', "x") == ({"a": 1}, {})
    for raw in (b"{}", b"[1]", b"[", b'"x"'):
        with pytest.raises(MalformedDocument):
            jsonio.parse_objects(raw, "x")
