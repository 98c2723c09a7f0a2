"""Large layers pass through in pieces: memory does not grow, and from registry to registry nothing is written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from kobuild.image.blobs import FileSource, Layer
from kobuild.image.mutate import gather
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import OCI_LAYER
from kobuild.oci.reference import Reference
from kobuild.streams import CHUNK_BYTES
from tests.support.images import make_image
from tests.support.registry import PASSWORD, USERNAME, DockerRegistry
from tests.unit.registry.conftest import make_client

SMALL, LARGE = 2 * 1024 * 1024, 128 * 1024 * 1024
MOST_GROWTH = 24 * 1024
"""In KiB; one layer held in memory would be 128 MiB."""
SCRIPT = """
import json, os, sys
from pathlib import Path
written = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(str(arguments[0]))
from kobuild.image.blobs import FileSource, Layer
from kobuild.image.mutate import gather
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import OCI_LAYER
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient, RegistrySource
from kobuild.transport import Transport
from tests.support.images import make_image
work, source, target, text, size = sys.argv[1:]
digest, size = Digest.parse(text), int(size)
descriptor = Descriptor(OCI_LAYER, digest, size)
client = RegistryClient(Transport())
sys.addaudithook(watch)
if work == "read":
    with client.open_blob(Reference.parse(source).repository, descriptor) as reader:
        while reader.read(1024 * 1024):
            pass
else:
    place = Reference.parse(source).repository if work == "across" else None
    held = RegistrySource(client, place, descriptor) if place else FileSource(Path(source), digest, size)
    result = client.push(gather([make_image([Layer(descriptor, held, digest)])]), [Reference.parse(target)])
    assert (result.uploaded, result.mounted) == (2, 0), result
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1]
print(json.dumps({"peak": int(peak), "written": written}))
"""


@dataclass(frozen=True)
class Content:
    """A layer's bytes in a file."""

    path: Path
    digest: Digest
    size: int


def make_content(folder: Path, size: int) -> Content:
    path, hasher = folder / f"layer{size}", Digest.of(b"").hasher()
    with path.open("wb") as file:
        for number in range(size // CHUNK_BYTES):
            piece = number.to_bytes(4, "big") * (CHUNK_BYTES // 4)
            hasher.update(piece)
            file.write(piece)
    return Content(path, Digest("sha256", hasher.hexdigest()), size)


def measure(work: str, source: object, target: object, content: Content, environ: dict[str, str]) -> tuple[int, int]:
    """The most memory, in KiB, that a process of its own took for it, and how many files it opened to write."""
    words = [work, str(source), str(target), str(content.digest), str(content.size)]
    variables = {**os.environ, **environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, *words]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found["peak"], len(found["written"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what a process took is read from /proc")
def test_layers_pass_through_in_pieces(
    plain_server: DockerRegistry, htpasswd_server: DockerRegistry, name: str, tmp_path: Path
) -> None:
    login = {
        "KOBUILD_REGISTRY": htpasswd_server.host,
        "KOBUILD_REGISTRY_USERNAME": USERNAME,
        "KOBUILD_REGISTRY_PASSWORD": PASSWORD,
    }
    peaks: dict[str, list[int]] = {"from disk": [], "read": [], "across": []}
    for size in (SMALL, LARGE):
        content = make_content(tmp_path, size)
        here, there = f"{plain_server.host}/{name}:{size}", f"{htpasswd_server.host}/{name}:{size}"
        peaks["from disk"].append(measure("from disk", content.path, here, content, {})[0])
        peaks["read"].append(measure("read", here, "", content, {})[0])
        peak, written = measure("across", here, there, content, login)
        peaks["across"].append(peak)
        assert written == 0, "nothing is written down on the way from one registry to the other"
        held = FileSource(content.path, content.digest, content.size)
        layer = Layer(Descriptor(OCI_LAYER, content.digest, content.size), held, content.digest)
        assert make_client().head_manifest(Reference.parse(here)) == gather([make_image([layer])]).root.descriptor
        content.path.unlink()
    for work, (small, large) in peaks.items():
        assert large - small < MOST_GROWTH, f"{work}: {small} KiB for 2 MiB, {large} KiB for 128 MiB"
