"""Places on this machine, as containers/image spells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kobuild.errors import UsageError
from kobuild.image.mutate import gather
from kobuild.image.store import ImageStore
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference
from kobuild.store.dockerarchive import DockerArchive
from kobuild.store.locations import Location
from tests.support.images import random_image

DIGEST = Digest.of(b"x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci:dist/image", ("oci", "dist/image", None, None)),
        ("oci:dist/image:v1", ("oci", "dist/image", "v1", None)),
        ("oci:/a:b/c", ("oci", "/a:b/c", None, None)),
        ("oci:/a:b/c:latest", ("oci", "/a:b/c", "latest", None)),
        (f"oci:dist@{DIGEST}", ("oci", "dist", None, DIGEST)),
        (f"oci:dist:v1@{DIGEST}", ("oci", "dist", "v1", DIGEST)),
        ("oci-archive:a.tar", ("oci-archive", "a.tar", None, None)),
        ("oci-archive:a.tar:v1", ("oci-archive", "a.tar", "v1", None)),
        ("docker-archive:a.tar", ("docker-archive", "a.tar", None, None)),
        ("docker-archive:a.tar:ghcr.io/a/b:v1", ("docker-archive", "a.tar", "ghcr.io/a/b:v1", None)),
    ],
)
def test_places_are_parsed_and_printed(text: str, expected: tuple[str, str, str | None, Digest | None]) -> None:
    location = Location.parse(text)
    assert location is not None
    assert (location.transport, str(location.path), location.name, location.digest) == expected
    assert str(location) == text


@pytest.mark.parametrize("text", ["debian", "debian:12", "ghcr.io/a/b:v1", "localhost:5000/a", "oci", "scratch"])
def test_a_reference_is_no_place_on_this_machine(text: str) -> None:
    assert Location.parse(text) is None


@pytest.mark.parametrize(
    "text", ["oci:", "oci-archive:", "docker-archive:", "docker-archive::x", "dir:x", "docker-daemon:x"]
)
def test_what_cannot_be_opened_says_so(text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Location.parse(text)


def test_relative_paths_are_relative_to_the_folder_given(tmp_path: Path) -> None:
    for text in ("oci:x", f"oci:{tmp_path}/x"):
        location = Location.parse(text, tmp_path)
        assert location is not None
        assert location.path == tmp_path / "x"


@pytest.mark.parametrize("text", ["oci:x", "oci:x:v1", "oci-archive:x", "oci-archive:x:v1", "docker-archive:x"])
def test_what_is_written_is_opened(tmp_path: Path, text: str) -> None:
    image = random_image(1)
    location = Location.parse(text, tmp_path)
    assert location is not None
    location.write(gather([image]), names=["other"], references=[Reference.parse("a/b:c")])
    store: ImageStore = location.open()
    root = store.root()
    assert isinstance(root, Manifest)
    assert root.config.digest == image.image_id


def test_a_docker_archive_is_called_as_the_place_says(tmp_path: Path) -> None:
    location = Location.parse("docker-archive:x:ghcr.io/a/b:v1", tmp_path)
    assert location is not None
    location.write(gather([random_image(1)]), references=[Reference.parse("other")])
    assert isinstance(DockerArchive(tmp_path / "x", "ghcr.io/a/b:v1").root(), Manifest)
