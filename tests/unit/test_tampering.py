"""A changed byte of any blob, manifest or index is found wherever the image lies, and the finding names what has it."""

from __future__ import annotations

import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kobuild.errors import KobuildError
from kobuild.image.image import Image
from kobuild.image.mutate import Addition, ConfigEdits, append_layers, gather, with_config
from kobuild.image.store import ImageStore
from kobuild.oci.annotations import TOOL_NAME
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Reference
from kobuild.registry import AnonymousKeychain, RegistryClient, RegistryStore
from kobuild.store.dockerarchive import DockerArchive, write_docker_archive
from kobuild.store.layout import Layout
from kobuild.store.ociarchive import write_oci_archive
from kobuild.toollayers import ToolExpectation
from kobuild.transport import Transport
from kobuild.verify import ImageExpectation, verify
from tests.support.images import ARM64, layout_of, make_layer, make_tar, random_image
from tests.support.registry import DockerRegistry, run_registry

TOOL = make_tar({"opt/tool": b"#!/bin/sh\necho hello\n"})
EDITS = ConfigEdits(env={"A": "1"}, labels={"team": "ci"})
UNCOVERED = ("oci-layout", "index.json", "manifest.json")
"""Documents that no digest covers: each of their bytes is tried."""


def make(base: Image) -> Image:
    layer = make_layer(TOOL, annotations={TOOL_NAME: "tool"})
    addition = Addition(layer, "kobuild: tool under /opt")
    return with_config(append_layers(base, [addition], created=datetime(2026, 1, 2, tzinfo=timezone.utc)), EDITS)


BASES = [random_image(1, count=1), random_image(2, count=1, platform=ARM64)]
IMAGES = [make(base) for base in BASES]


def look(store: ImageStore, count: int = 2) -> list[str]:
    """Findings in an image that should be the first `count` of IMAGES."""
    expected = ToolExpectation("tool", "/opt", diff_id=Digest.of(TOOL))
    expectations = [ImageExpectation(base.platform, base, EDITS, (expected,)) for base in BASES[:count]]
    names = ["latest"] if isinstance(store, Layout) else None
    return [str(finding) for finding in verify(store, expectations, names=names).findings]


@dataclass(frozen=True)
class Victim:
    """A place that holds an image, and which of its bytes are of what."""

    open: Callable[[], ImageStore]
    count: int
    """Platforms."""
    samples: int
    """How many bytes of a part that a digest covers are tried."""
    parts: dict[str, tuple[Path, int, int]]
    """By what a finding must name: the file, and where in it the part begins and how long it is."""

    def positions(self) -> Iterator[tuple[str, int]]:
        """Every byte of documents without a digest, and some of all others."""
        source = random.Random(7)  # noqa: S311 - test data
        for name, (_, _, size) in self.parts.items():
            places = range(size) if name in UNCOVERED else sorted(source.sample(range(size), self.samples))
            yield from ((name, place) for place in places)

    def found(self, name: str, place: int, bit: int) -> list[str]:
        """What verify finds after one bit was changed; it is changed back."""
        path, start, _ = self.parts[name]
        with path.open("r+b") as file:
            file.seek(start + place)
            old = file.read(1)
            file.seek(start + place)
            file.write(bytes([old[0] ^ 1 << bit]))
            file.flush()
            try:
                return look(self.open(), self.count)
            except KobuildError as error:
                return [str(error)]
            finally:
                file.seek(start + place)
                file.write(old)


def whole(path: Path) -> tuple[Path, int, int]:
    return path, 0, path.stat().st_size


def members(path: Path) -> dict[str, tuple[Path, int, int]]:
    """The contents of an archive's files, by the last part of their names."""
    with tarfile.open(path) as archive:
        files = [member for member in archive if member.isreg()]
    return {item.name.rpartition("/")[2]: (path, item.offset_data, item.size) for item in files}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path_factory.mktemp("tampered")) as running:
        yield running


@pytest.fixture(scope="module", params=["layout", "oci-archive", "docker-archive", "registry"])
def victim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("victim")
    if request.param == "layout":
        path = layout_of(folder / "out", *IMAGES)
        files = [item for item in path.rglob("*") if item.is_file()]
        yield Victim(lambda: Layout.folder(path), 2, 50, {item.name: whole(item) for item in files})
    elif request.param == "oci-archive":
        path = folder / "oci.tar"
        write_oci_archive(path, gather(IMAGES))
        yield Victim(lambda: Layout.archive(path), 2, 50, members(path))
    elif request.param == "docker-archive":
        path = folder / "docker.tar"
        write_docker_archive(path, gather(IMAGES[:1]))
        found = {name.partition(".")[0] if "manifest" not in name else name: at for name, at in members(path).items()}
        yield Victim(lambda: DockerArchive(path), 1, 100, found)
    else:
        yield from pushed(request.getfixturevalue("registry"))


def pushed(registry: DockerRegistry) -> Iterator[Victim]:
    transport = Transport(max_attempts=1)  # a registry that stumbles over its own manifests answers as if it were busy
    client = RegistryClient(transport, AnonymousKeychain())
    reference = Reference.parse(f"{registry.host}/tampered/image:1")
    client.push(gather(IMAGES), [reference])
    index = client.get_manifest(reference).digest.hex
    blobs = registry.storage.glob("blobs/sha256/*/*/data")
    # What a tag points at has no digest but in what the registry says of it: then it is named by its tag.
    parts = {"tampered/image:1" if path.parent.name == index else path.parent.name: whole(path) for path in blobs}
    yield Victim(lambda: RegistryStore(client, reference), 2, 12, parts)
    transport.close()


def test_what_was_not_changed_is_as_it_should_be(victim: Victim) -> None:
    assert look(victim.open(), victim.count) == []
    assert len(victim.parts) >= 4


def test_a_changed_byte_of_any_part_is_found_and_named(victim: Victim) -> None:
    missed = []
    for name, place in victim.positions():
        findings = victim.found(name, place, place % 8)
        if not any(name in text for text in findings):
            missed.append((name, place, findings))
    assert missed == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bit_of_any_part_is_found(victim: Victim, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(victim.parts)))
    place = data.draw(st.integers(0, victim.parts[name][2] - 1))
    findings = victim.found(name, place, data.draw(st.integers(0, 7)))
    assert any(name in text for text in findings)


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_a_changed_byte_between_an_archives_files_is_found_or_changes_nothing(tmp_path: Path, kind: str) -> None:
    """Headers and padding of the tar: no blob has them, and yet they decide which blobs there are."""
    path = tmp_path / "image.tar"
    if kind == "oci":
        write_oci_archive(path, gather(IMAGES[:1]))
    else:
        write_docker_archive(path, gather(IMAGES[:1]))
    contents = [range(start, start + size) for _, start, size in members(path).values()]
    data = path.read_bytes()
    source = random.Random(5)  # noqa: S311 - test data
    places = [place for place in range(len(data)) if not any(place in span for span in contents)]
    harmless = named = 0
    for place in source.sample(places, 150):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << source.randrange(8)]) + data[place + 1 :])
        try:
            store: ImageStore = Layout.archive(path) if kind == "oci" else DockerArchive(path)
            harmless += look(store, 1) == []
        except KobuildError as error:
            named += str(path) in str(error)
        else:
            named += 1
    assert named == 150
    assert harmless < 150


def test_a_layouts_blob_put_in_anothers_place_is_found(tmp_path: Path) -> None:
    path = layout_of(tmp_path / "out", *IMAGES)
    blobs = sorted(path.glob("blobs/sha256/*"))
    for blob in blobs:
        kept = blob.read_bytes()
        other = next(item for item in blobs if item != blob)
        shutil.copyfile(other, blob)
        assert any(blob.name in text for text in look(Layout.folder(path)))
        blob.unlink()
        assert any(blob.name in text for text in look(Layout.folder(path)))
        blob.write_bytes(kept)
    assert look(Layout.folder(path)) == []
