"""Memory stays the same however large the archive, its members, or their number: each layer in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kobuild.oci.mediatypes import Compression

LIMIT_MIB = 90

SCRIPT = """
import contextlib, os, sys
from kobuild.layers.engine import make_layer
from kobuild.layers.members import REGULAR, Member
from kobuild.layers.plan import LayerPlan
from kobuild.layers.tarheader import encode_header, padding
from kobuild.oci.mediatypes import Compression

class Tar:
    name = "large.tar"

    def __init__(self, members, size):
        self.members, self.size = members, size

    @contextlib.contextmanager
    def stream(self):
        yield self

    def read(self, size=-1):
        return next(self.pieces, b"")

    @property
    def pieces(self):
        if not hasattr(self, "_pieces"):
            self._pieces = self._make()
        return self._pieces

    def _make(self):
        noise = os.urandom(1 << 20)
        for number in range(self.members):
            name = b"some/directory-%d/file-with-a-name-%d" % (number // 100, number)
            yield encode_header(Member(name, REGULAR, 0o644, self.size, 1))
            left = self.size
            while left > 0:
                yield noise[:left]
                left -= len(noise)
            yield bytes(padding(self.size))
        yield bytes(1024)

class Nowhere:
    def write(self, data):
        return len(data)

members, size, compression = int(sys.argv[1]), int(sys.argv[2]), Compression(sys.argv[3])
result = make_layer(Tar(members, size), LayerPlan(root="/r", compression=compression), Nowhere())
assert result.members == members
# Not getrusage: its peak counts what this process was before it became a Python of its own, a copy of the test runner.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize(("members", "size"), [(1, 150_000_000), (15_000, 100)], ids=["one member", "many members"])
def test_peak_memory(members: int, size: int, compression: Compression) -> None:
    command = [sys.executable, "-c", SCRIPT, str(members), str(size), compression.value]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < LIMIT_MIB
