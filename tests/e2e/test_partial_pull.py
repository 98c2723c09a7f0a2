"""Podman pulls of an indexed layer only the files that it lacks, and has the same files as everybody afterwards."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.commandline import Kobuild
from tests.support.programs import require_program
from tests.support.registry import DockerRegistry

FILES = 20
FILE_BYTES = 100_000
CHUNK_BYTES = 2 * 1024 * 1024
SETTINGS = """
[image]
base = "scratch"
target = "{target}"
compression = "{compression}"

[tools.tool]
source = "path:files"
root = "/opt"
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{folder}/root"
runroot = "{run_root}"

[storage.options.pull_options]
enable_partial_images = "true"
insecure_allow_unpredictable_image_contents = "true"
"""


@dataclass
class Podman:
    """podman with a store of its own that pulls in parts."""

    configuration: Path

    def run(self, *arguments: str) -> tuple[str, str]:
        """Standard output, and what it says of its work."""
        environ = {name: value for name, value in os.environ.items() if name != "DOCKER_CONFIG"}
        done = subprocess.run(
            ["podman", "--log-level=debug", *arguments],
            env={**environ, "CONTAINERS_STORAGE_CONF": str(self.configuration)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip(), done.stderr

    def pull(self, reference: str) -> str:
        return self.run("pull", "--tls-verify=false", reference)[1]


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    require_program("podman")
    if os.geteuid() != 0:
        pytest.skip("podman's store pulls in parts on overlay only, which needs root here")
    folder = tmp_path / "store"
    folder.mkdir()
    with tempfile.TemporaryDirectory(prefix="kb-run-") as run_root:  # podman wants a short path
        (folder / "storage.conf").write_text(STORAGE.format(folder=folder, run_root=run_root))
        podman = Podman(folder / "storage.conf")
        try:
            podman.run("info")
        except AssertionError as error:
            pytest.skip(f"podman has no overlay store here: {str(error)[-300:]}")
        yield podman
        podman.run("image", "umount", "--all", "--force")
        podman.run("rmi", "--all", "--force")


def publish(kobuild: Kobuild, registry: DockerRegistry, compression: str, tag: str) -> tuple[str, str]:
    """The reference and the layer's digest."""
    target = f"{registry.host}/a/{compression.replace(':', '-')}:{tag}"
    kobuild.settings(SETTINGS.format(target=target, compression=compression))
    kobuild.ok("resolve")
    pushed = kobuild.ok("push", "--json").json
    return target, pushed["platforms"][0]["layers"][0]["digest"]


@pytest.mark.parametrize("compression", ["zstd:chunked", "estargz"])
def test_podman_pulls_only_what_it_lacks(
    kobuild: Kobuild, registry: DockerRegistry, podman: Podman, compression: str
) -> None:
    source = random.Random(1)  # noqa: S311 - content that does not compress
    folder = kobuild.folder / "files" / "tool"
    folder.mkdir(parents=True)
    for number in range(FILES):
        (folder / f"file-{number}").write_bytes(source.randbytes(FILE_BYTES))
    (folder / "large").write_bytes(source.randbytes(CHUNK_BYTES + FILE_BYTES))  # more than one part
    (folder / "link").symlink_to("file-1")

    reference, first = publish(kobuild, registry, compression, "first")
    registry.forget()
    if "blob type not supported" in (said := podman.pull(reference)):
        pytest.skip("this podman knows nothing of such layers")
    assert f"Retrieved partial blob {first}" in said
    whole = registry.sent(first)
    assert whole > FILES * FILE_BYTES + CHUNK_BYTES

    (folder / "file-7").write_bytes(source.randbytes(FILE_BYTES))
    (folder / "new").write_bytes(b"new")
    reference, second = publish(kobuild, registry, compression, "second")
    registry.forget()
    assert f"Retrieved partial blob {second}" in podman.pull(reference)
    assert FILE_BYTES < registry.sent(second) < FILE_BYTES + 20_000

    mounted = Path(podman.run("image", "mount", reference)[0])
    found = {path.name: path.read_bytes() for path in (mounted / "opt/tool").iterdir()}
    assert found == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert (mounted / "opt/tool/link").is_symlink()
