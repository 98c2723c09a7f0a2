"""What an archive may do only when the settings say so: devices, whiteouts, sizes beyond the bounds."""

from __future__ import annotations

import gzip
import tarfile

import pytest

from tests.support.archives import Entry, make_tar
from tests.support.commandline import Kobuild

SETTINGS = """
[image]
base = "scratch"
[tools.odd]
source = "path:odd.tar"
root   = "/opt"
{line}
"""


def put(kobuild: Kobuild, *entries: Entry) -> None:
    (kobuild.folder / "odd.tar").write_bytes(make_tar([Entry("file", b"x" * 5000), *entries]))


def build(kobuild: Kobuild, line: str = "") -> tuple[int, str]:
    kobuild.settings(SETTINGS.format(line=line))
    done = kobuild.run("build")
    return done.code, done.err


@pytest.mark.parametrize(
    ("entry", "line", "what"),
    [
        (Entry("pipe", kind=tarfile.FIFOTYPE), "devices = true", "is a fifo"),
        (Entry(".wh.gone"), "whiteouts = true", "is a whiteout"),
    ],
)
def test_what_is_refused_unless_asked_for(kobuild: Kobuild, entry: Entry, line: str, what: str) -> None:
    put(kobuild, entry)
    code, text = build(kobuild)
    assert code == 1
    assert what in text
    assert f"`{line}`" in text
    code, text = build(kobuild, line)
    assert code == 0, text
    kobuild.ok("verify")
    # What was asked for once is refused again where it is no longer asked for.
    assert build(kobuild)[0] == 1


@pytest.mark.parametrize(("line", "key"), [("max-members = 1", "max-members"), ('max-size = "2kB"', "max-size")])
def test_bounds_can_be_set(kobuild: Kobuild, line: str, key: str) -> None:
    put(kobuild, Entry("other", b"y"))
    code, text = build(kobuild, line)
    assert code == 1
    assert f"set {key} if this archive is to be trusted" in text
    assert build(kobuild, 'max-members = 2\nmax-size = "1MB"\nmax-ratio = 5')[0] == 0
    # A layer that the cache has is no way around a bound that was lowered since.
    code, text = build(kobuild, line)
    assert code == 1
    assert f"set {key}" in text


def test_a_lowered_ratio_refuses_what_the_cache_has(kobuild: Kobuild) -> None:
    text = SETTINGS.replace("odd.tar", "odd.tar.gz")
    (kobuild.folder / "odd.tar.gz").write_bytes(gzip.compress(make_tar([Entry("zeros", bytes(300_000_000))]), 1))
    kobuild.settings(text.format(line="max-ratio = 5000"))
    kobuild.ok("build")
    kobuild.settings(text.format(line="max-ratio = 100"))
    done = kobuild.run("build")
    assert done.code == 1
    assert "set max-ratio" in done.err
