"""Blobs that are sent while they are made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kobuild.image.blobs import BytesSource, Layer
from kobuild.image.mutate import gather
from kobuild.oci import mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Reference
from kobuild.registry import AheadBlob, AheadUploads, RegistryClient
from kobuild.registry.sessions import CHUNK_BYTES
from tests.support.fakeregistry import Behaviour, Fault, is_request, run_fake
from tests.support.images import make_image
from tests.support.registry import DockerRegistry
from tests.support.scripted import Reply
from tests.unit.registry.conftest import make_client

PIECE = 1024 * 1024


class Writer:
    """A blob that is written piece by piece, as a layer is."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.data = os.urandom(size)
        self.digest = Digest.of(self.data)

    def write(self, blob: AheadBlob) -> None:
        with self.path.open("ab") as file:
            for start in range(0, len(self.data), PIECE):
                piece = self.data[start : start + PIECE]
                file.write(piece)
                blob.grown(len(piece))

    def finish(self, blob: AheadBlob) -> None:
        self.path.rename(self.path.with_name("kept"))  # as the cache adopts it
        blob.finished(self.digest)

    @property
    def layer(self) -> Layer:
        media_type = mediatypes.Family.OCI.layer(mediatypes.Compression.GZIP)
        return Layer(Descriptor(media_type, self.digest, len(self.data)), BytesSource(self.data), self.digest)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "partial", 2 * CHUNK_BYTES + 12345)


@pytest.fixture
def uploads(client: RegistryClient, registry: DockerRegistry, name: str) -> Iterator[AheadUploads]:
    repository = Reference.parse(f"{registry.host}/{name}:1").repository
    with closing(client.upload_ahead(repository)) as found:
        yield found


def begin(uploads: AheadUploads, writer: Writer, *, wanted: bool = True) -> AheadBlob:
    return uploads.begin("of a tool", writer.path, lambda: wanted)


def test_a_blob_is_there_when_it_is_settled(
    uploads: AheadUploads, writer: Writer, client: RegistryClient, registry: DockerRegistry, name: str
) -> None:
    blob = begin(uploads, writer)
    writer.write(blob)
    writer.finish(blob)
    assert uploads.settle(writer.digest) == len(writer.data)
    with client.open_blob(uploads.repository, writer.layer.descriptor) as reader:
        assert reader.read() == writer.data
    assert registry.uploads(name) == []


def test_a_blob_below_one_chunk_is_left_to_the_push(uploads: AheadUploads, tmp_path: Path) -> None:
    small = Writer(tmp_path / "small", CHUNK_BYTES - 1)
    blob = begin(uploads, small)
    small.write(blob)
    small.finish(blob)
    assert uploads.settle(small.digest) is None


def test_what_the_target_may_have_is_not_sent(
    uploads: AheadUploads, writer: Writer, registry: DockerRegistry, name: str
) -> None:
    blob = begin(uploads, writer, wanted=False)
    writer.write(blob)
    writer.finish(blob)
    assert uploads.settle(writer.digest) is None
    assert registry.uploads(name) == []


def test_a_blob_that_is_given_up_leaves_no_upload_behind(writer: Writer) -> None:
    with run_fake(Behaviour()) as fake:
        repository = Reference.parse(f"{fake.host}/a/b:1").repository
        uploads = make_client().upload_ahead(repository)
        blob = begin(uploads, writer)
        writer.write(blob)
        blob.abandon()
        blob.settle()
        assert uploads.settle(writer.digest) is None
        methods = [seen.method for seen in fake.log]
    assert methods[-1] == "DELETE"
    assert "PUT" not in methods


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_whatever_goes_wrong_the_push_sends_it_in_the_usual_way(method: str, writer: Writer) -> None:
    once = Fault(is_request(method, "/blobs/uploads/"), Reply(400), times=1)
    with run_fake(Behaviour(), once) as fake:
        target = Reference.parse(f"{fake.host}/a/b:1")
        client = make_client()
        with closing(client.upload_ahead(target.repository)) as uploads:
            blob = begin(uploads, writer)
            writer.write(blob)
            writer.finish(blob)
            assert uploads.settle(writer.digest) is None
            result = client.push(gather([make_image([writer.layer])]), [target], ahead=uploads)
        assert client.head_manifest(target) is not None
    assert result.uploaded == 2


def test_a_push_does_not_ask_for_what_was_sent_ahead(writer: Writer) -> None:
    with run_fake(Behaviour()) as fake:
        target = Reference.parse(f"{fake.host}/a/b:1")
        client = make_client()
        with closing(client.upload_ahead(target.repository)) as uploads:
            blob = begin(uploads, writer)
            writer.write(blob)
            writer.finish(blob)
            image = make_image([writer.layer])
            result = client.push(gather([image]), [target], ahead=uploads)
        asked = [line for line in fake.lines("HEAD") if writer.digest.hex in line]
    assert (result.uploaded, result.bytes_sent) == (2, sum(blob.descriptor.size for blob in image.blobs))
    assert asked == []


def test_a_file_that_cannot_be_opened_is_no_reason_to_stop(uploads: AheadUploads, tmp_path: Path) -> None:
    blob = uploads.begin("of nothing", tmp_path / "not there", lambda: True)
    blob.grown(2 * CHUNK_BYTES)
    blob.finished(Digest.of(b""))
    assert uploads.settle(Digest.of(b"")) is None
