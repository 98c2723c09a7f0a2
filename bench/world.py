"""What a push needs, on loopback: upstream's servers, a docker-registry, and the base image in it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.generated import Shape, make_archive
from tests.support.images import layout_of, random_image
from tests.support.loads import GO_VERSION, KO_VERSION, Loads
from tests.support.programs import require_program
from tests.support.registry import DockerRegistry, run_registry
from tests.support.upstream import Upstream

_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.oci.image.index.v1+json"
)
KO_ASSET = f"ko_{KO_VERSION}_Linux_x86_64.tar.gz"


@dataclass(frozen=True)
class Inputs:
    """What goes into the image."""

    go_archive: Path
    ko_archive: Path
    base_layout: Path
    base_tag: str


def real_inputs(loads: Loads) -> Inputs:
    """A Go toolchain, a release of ko's shape, Debian."""
    return Inputs(loads.go_tarball(), loads.ko_tarball(), loads.debian_layout(), "bookworm")


def small_inputs(folder: Path) -> Inputs:
    """The same in small, made in a second."""
    go_archive = make_archive(folder, Shape(members=500, member_bytes=8_000))
    ko_folder = folder / "ko-release"
    ko_folder.mkdir(parents=True, exist_ok=True)
    (ko_folder / "ko").write_bytes(b"#!/bin/sh\n")
    ko_archive = folder / KO_ASSET
    subprocess.run(["tar", "-C", str(ko_folder), "-czf", str(ko_archive), "ko"], check=True)
    layout = folder / "base"
    if not layout.exists():
        layout_of(layout, random_image(1), names=("small",))
    return Inputs(go_archive, ko_archive, layout, "small")


@dataclass
class World:
    """Servers that run, and names for pushes that do not meet."""

    inputs: Inputs
    upstream: Upstream
    registry: DockerRegistry
    folder: Path
    """For whatever a run needs to write."""
    _targets: int = field(default=0)

    @property
    def base(self) -> str:
        return f"{self.registry.host}/base:stable"

    @property
    def go_url(self) -> str:
        return f"{self.upstream.go_url}/go{GO_VERSION}.linux-amd64.tar.gz"

    @property
    def ko_url(self) -> str:
        return f"{self.upstream.url}/ko-build/ko/releases/download/v{KO_VERSION}/{KO_ASSET}"

    def new_target(self) -> str:
        """A repository that nothing was pushed to yet."""
        self._targets += 1
        return f"{self.registry.host}/ci/run{self._targets}:latest"

    def go_layer_bytes(self, target: str) -> int:
        """The largest layer above the base's, as the registry has it."""
        base, pushed = (len(self._layers(self.base)), self._layers(target))
        return max(pushed[base:])

    def _layers(self, reference: str) -> list[int]:
        manifest = self._manifest(reference)
        if "manifests" in manifest:
            manifest = self._manifest(f"{reference.rpartition(':')[0]}@{manifest['manifests'][0]['digest']}")
        return [int(layer["size"]) for layer in manifest["layers"]]

    def _manifest(self, reference: str) -> dict[str, Any]:
        _, _, rest = reference.partition("/")
        name, _, tag = rest.partition("@") if "@" in rest else rest.rpartition(":")
        request = urllib.request.Request(  # noqa: S310  # loopback
            f"{self.registry.url}/v2/{name}/manifests/{tag}", headers={"Accept": _MANIFESTS}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            value = json.load(answer)
        assert isinstance(value, dict)
        return value


def _publish(upstream: Upstream, inputs: Inputs) -> None:
    upstream.add_go_release(GO_VERSION, {"linux/amd64": inputs.go_archive})
    for repository in ("ko-build/ko", "google/ko"):
        upstream.add_github_release(repository, f"v{KO_VERSION}", {KO_ASSET: inputs.ko_archive})
    upstream.rate_limit_remaining = 1_000_000


@contextlib.contextmanager
def run_world(inputs: Inputs, folder: Path, *, on_disk: bool = True) -> Iterator[World]:
    """The servers for the length of a block; off the disk the registry's storage is in memory."""
    with Upstream() as upstream, run_registry(folder / "registry", on_disk=on_disk) as registry:
        _publish(upstream, inputs)
        world = World(inputs, upstream, registry, folder)
        source = f"oci:{inputs.base_layout}:{inputs.base_tag}"
        copy = [require_program("skopeo"), "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
        subprocess.run([*copy, source, f"docker://{world.base}"], check=True)
        yield world
