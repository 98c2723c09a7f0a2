"""What explaining costs: layers stream by, and of a table of contents no more is asked than its own bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kobuild import cli
from kobuild.image.mutate import gather
from kobuild.layers.toc import read_table
from kobuild.oci.mediatypes import Compression
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
from tests.support.archives import Entry
from tests.support.commandline import ROOT
from tests.support.images import layout_of, make_image, make_layer, make_tar
from tests.support.registry import DockerRegistry
from tests.support.toolimages import base_image, tool, tool_image

LIMIT_MIB = 120
LARGE_BYTES = 160_000_000
SCRIPT = """
import sys
from kobuild import cli
code = cli.main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layouts whose one layer holds one large file, which differs in its last byte."""
    folder = tmp_path_factory.mktemp("large")
    for name, end in (("old", b"a"), ("new", b"b")):
        layout_of(folder / name, make_image([make_layer(make_tar({"large": bytes(LARGE_BYTES) + end}))]))
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("command", [["diff", "oci:old", "oci:new", "--json"], ["inspect", "oci:old", "--files"]])
def test_memory_stays_small_and_nothing_is_unpacked(command: list[str], large: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in large.rglob("*")}
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(large)}
    words = [sys.executable, "-c", SCRIPT, command[0], "-q", "-C", str(large), *command[1:]]
    done = subprocess.run(words, env=environ, cwd=large, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) < LIMIT_MIB
    assert {path: path.stat().st_mtime_ns for path in large.rglob("*")} == before
    if command[0] == "diff":
        (change,) = json.loads(done.stdout)["platforms"][0]["files"]
        assert (change["path"], change["change"], change["what"]) == ("/large", "changed", ["content"])


MEMBERS = [Entry(f"share/file-{number}", os.urandom(20_000)) for number in range(60)]


@pytest.mark.parametrize("compression", [Compression.ESTARGZ, Compression.ZSTD_CHUNKED])
@pytest.mark.parametrize("command", [["inspect", "--files"], ["inspect", "--files", "--layer", "2"], ["diff", "REF"]])
def test_of_a_remote_layer_only_the_table_s_bytes_are_sent(
    command: list[str],
    compression: Compression,
    registry: DockerRegistry,
    client: RegistryClient,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reference = Reference.parse(f"{registry.host}/streaming/{compression.name.lower()}:1")
    addition = tool("tool", "1.0", MEMBERS, compression=compression)
    client.push(gather([tool_image(base_image(), [addition])]), [reference])
    if command[0] == "diff":
        client.push(gather([base_image()]), [reference.with_tag("2")])
    registry.forget()
    names = [str(reference), *([str(reference.with_tag("2"))] if command[0] == "diff" else [])]
    assert (
        cli.main([command[0], "-q", "-C", str(tmp_path), *names, *[word for word in command[1:] if word != "REF"]]) == 0
    )
    assert "share/file-" in capsys.readouterr().out
    descriptor = addition.layer.descriptor
    with addition.layer.source.open() as file:
        blob = file.read()
    table = read_table(descriptor, lambda start, size: blob[start : start + size], "layer")
    sent = registry.sent(str(descriptor.digest))
    assert sent == table.bytes_read < descriptor.size / 20


def test_whole_reads_the_layer(
    registry: DockerRegistry, client: RegistryClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = Reference.parse(f"{registry.host}/streaming/whole:1")
    addition = tool("tool", "1.0", MEMBERS, compression=Compression.ESTARGZ)
    client.push(gather([tool_image(base_image(), [addition])]), [reference])
    registry.forget()
    assert cli.main(["inspect", "-q", "-C", str(tmp_path), str(reference), "--files", "--whole"]) == 0
    assert "share/file-" in capsys.readouterr().out
    assert registry.sent(str(addition.layer.descriptor.digest)) == addition.layer.descriptor.size
