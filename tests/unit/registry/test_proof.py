"""One scenario against docker-registry with no login, htpasswd, token login and TLS; the usual tools read it back."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kobuild.image.blobs import Layer
from kobuild.image.image import ImageSet
from kobuild.image.mutate import gather
from kobuild.oci.mediatypes import Family
from kobuild.oci.reference import Reference
from kobuild.registry import AnonymousKeychain, RegistryClient, RegistrySource
from tests.support.certificates import Authority
from tests.support.images import AMD64, ARM64, make_image, make_layer, make_tar, random_image
from tests.support.programs import optional_program, require_program
from tests.support.registry import PASSWORD, USERNAME, DockerRegistry, skopeo
from tests.unit.registry.conftest import make_client
from tests.unit.registry.test_login import logged_in

KINDS = ("plain_server", "htpasswd_server", "token_registry", "tls_server")


@dataclass
class Place:
    """One kind of registry, a client that may use it, and the words other tools need for it."""

    registry: DockerRegistry
    client: RegistryClient
    credentials: tuple[str, ...]

    def reference(self, name: str, tag: str = "1") -> Reference:
        return Reference.parse(f"{self.registry.host}/{name}:{tag}")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Place:
    registry: DockerRegistry = request.getfixturevalue(request.param)
    with_login = request.param in ("htpasswd_server", "token_registry")
    keychain = logged_in(tmp_path / "docker", registry) if with_login else AnonymousKeychain()
    environ = {"REQUESTS_CA_BUNDLE": str(authority.certificate)}
    credentials = (f"--creds={USERNAME}:{PASSWORD}",) if with_login else ()
    return Place(registry, make_client(keychain, environ=environ), credentials)


def build(place: Place, name: str) -> ImageSet:
    """Push a base, and make images for two platforms upon it."""
    layer = make_layer(make_tar({"etc/": b"", "etc/os-release": b"ID=test\n"}))
    base = place.reference(f"{name}/base")
    place.client.push(gather([make_image([layer])]), [base])
    held = Layer(layer.descriptor, RegistrySource(place.client, base.repository, layer.descriptor), layer.diff_id)
    tools = [make_layer(make_tar({"opt/": b"", f"opt/{arch}": arch.encode()})) for arch in ("amd64", "arm64")]
    return gather([make_image([held, tools[0]]), make_image([held, tools[1]], platform=ARM64)])


def test_skopeo_and_umoci_read_what_was_pushed(place: Place, name: str, tmp_path: Path) -> None:
    images = build(place, name)
    targets = [place.reference(name, tag) for tag in ("1", "latest")]
    result = place.client.push(images, targets)
    assert (result.mounted, result.uploaded) == (1, 4)
    again = place.client.push(images, targets)
    assert (again.uploaded, again.bytes_sent, again.unchanged) == (0, 0, tuple(targets))
    credentials = [word.replace("--creds", "--src-creds") for word in place.credentials]
    layout = f"oci:{tmp_path}/layout:1"
    skopeo("copy", "--all", "--src-tls-verify=false", *credentials, f"docker://{targets[1]}", layout)
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == str(images.root.digest)
    skopeo("copy", "--src-tls-verify=false", *credentials, f"docker://{targets[0]}", f"oci:{tmp_path}/single:1")
    unpack = ["unpack", "--rootless", "--image", f"{tmp_path}/single:1", f"{tmp_path}/bundle"]
    run("umoci", *unpack)
    assert (tmp_path / "bundle" / "rootfs" / "opt" / "amd64").read_text() == "amd64"
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "os-release").read_text() == "ID=test\n"


@pytest.mark.parametrize("program", ["buildah", "podman"])
def test_buildah_and_podman_pull_what_was_pushed(program: str, place: Place, name: str) -> None:
    images = build(place, name)
    target = place.reference(name)
    place.client.push(images, [target])
    pull = ("pull", "--quiet", "--tls-verify=false", *place.credentials, f"docker://{target}")
    # A short name: podman refuses a run folder of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="kb-") as folder:
        storage = (f"--root={folder}/root", f"--runroot={folder}/run", "--storage-driver=vfs")
        image_id = run(program, *storage, *pull).strip()
    assert image_id.removeprefix("sha256:") == images.images[0].config.digest.hex


@pytest.fixture
def crane(tmp_path: Path, authority: Authority) -> Callable[..., bytes]:
    """Runs crane, with the tests' authority and a folder of its own for logins."""
    program = optional_program("crane")
    environ = {**os.environ, "SSL_CERT_FILE": str(authority.certificate), "DOCKER_CONFIG": str(tmp_path / "crane")}

    def run_crane(*words: object) -> bytes:
        command = [program, *map(str, words)]
        done = subprocess.run(command, env=environ, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_crane


# crane refuses a token server on loopback ("realm host is a private or link-local address"), so not that registry.
@pytest.mark.parametrize("place", [kind for kind in KINDS if kind != "token_registry"], indirect=True)
def test_crane_reads_what_was_pushed(place: Place, name: str, crane: Callable[..., bytes]) -> None:
    images = build(place, name)
    targets = [place.reference(name, tag) for tag in ("1", "latest")]
    place.client.push(images, targets)
    if place.credentials:
        crane("auth", "login", place.registry.host, "-u", USERNAME, "-p", PASSWORD)
    target = targets[0]
    assert crane("manifest", target).strip() == images.root.raw
    assert crane("digest", target).decode().strip() == str(images.root.digest)
    assert set(crane("ls", target.repository).decode().split()) == {"1", "latest"}
    for image in images.images:
        one = f"--platform={image.platform}"
        assert crane("digest", one, target).decode().strip() == str(image.manifest.digest)
        assert crane("config", one, target).strip() == image.config.raw
        with tarfile.open(fileobj=io.BytesIO(crane("export", one, target, "-"))) as archive:
            assert {"etc/os-release", f"opt/{image.platform.architecture}"} <= set(archive.getnames())
    # Every layer of every platform is read, unpacked, and held against its digest, size and diff ID.
    crane("validate", "--remote", target)


@pytest.mark.parametrize("family", Family)
def test_crane_finds_both_families_valid(
    family: Family, registry: DockerRegistry, name: str, crane: Callable[..., bytes]
) -> None:
    target = Reference.parse(f"{registry.host}/{name}:1")
    images = [random_image(number, family=family, platform=item) for number, item in enumerate((AMD64, ARM64))]
    make_client().push(gather(images), [target])
    crane("validate", "--remote", target)
    assert json.loads(crane("manifest", target))["mediaType"] == family.index


def run(program: str, *arguments: str) -> str:
    # buildah wants the file in DOCKER_CONFIG to be there; each test's folder for it is empty.
    environ = {name: value for name, value in os.environ.items() if name != "DOCKER_CONFIG"}
    command = [require_program(program), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
