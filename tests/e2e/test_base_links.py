"""What the base holds is respected: a real merged-/usr Debian keeps its links, its directories and their attributes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import Entry, folder, make_tar_gz, symlink
from tests.support.commandline import Kobuild
from tests.support.engines import Engines, run
from tests.support.loads import Loads
from tests.support.programs import require_program
from tests.support.registry import DockerRegistry

SETTINGS = """
[image]
base   = "{base}"
target = "{target}"

[tools.tool]
source = "path:tool.tar.gz"
root   = "{root}"
{more}
"""
SCRIPT = b"#!/bin/sh\necho the tool runs, and reads $(cat /lib/x)\n"
MERGED = [
    folder("./"),
    folder("bin"),
    Entry("bin/tool", SCRIPT, mode=0o755),
    folder("lib"),
    Entry("lib/x", b"this\n"),
    folder("lib/tool.d", mode=0o700),
    symlink("lib/tool.d/program", "../../bin/tool"),
    Entry("lib/tool.d/y", b"that\n"),
    folder("etc", mode=0o700),
    folder("etc/apt", mode=0o700),
    Entry("etc/apt/tool.conf", b"# ours\n"),
    folder("etc/tool", mode=0o750),
    Entry("var/run/tool.pid", b"1\n"),
]


@pytest.fixture
def base(loads: Loads) -> str:
    return f"oci:{loads.debian_layout()}:bookworm"


def put(kobuild: Kobuild, base: str, entries: Sequence[Entry] = MERGED, *, root: str = "/", more: str = "") -> None:
    (kobuild.folder / "tool.tar.gz").write_bytes(make_tar_gz(entries))
    kobuild.settings(SETTINGS.format(base=base, target="localhost:1/a/b:c", root=root, more=more))


def layer_of(kobuild: Kobuild, built: Any) -> dict[str, tarfile.TarInfo]:
    """The tool layer's entries by name."""
    digest = built["platforms"][0]["layers"][0]["digest"].removeprefix("sha256:")
    with tarfile.open(kobuild.folder / "dist" / "image" / "blobs" / "sha256" / digest) as tar:
        return {info.name: info for info in tar}


def test_merged_usr_stays_merged_and_the_tool_runs(kobuild: Kobuild, base: str, tmp_path: Path) -> None:
    put(kobuild, base)
    built = kobuild.ok("build", "--json").json
    found = layer_of(kobuild, built)
    assert list(found) == [
        "usr/bin/tool",
        "usr/lib/x",
        "usr/lib/tool.d",
        "usr/lib/tool.d/program",
        "usr/lib/tool.d/y",
        "etc/apt/tool.conf",
        "etc/tool",
        "run/tool.pid",
    ]
    assert found["usr/lib/tool.d/program"].linkname == "../../bin/tool"
    kobuild.ok("verify", "--rebuild")

    layout = kobuild.folder / "dist" / "image"
    engines = Engines(tmp_path / "engines")
    looks = "ls -ld /bin /lib /var/run; cat /lib/tool.d/y; /lib/tool.d/program; stat -c %a /etc /etc/apt /etc/tool"
    script = f"tool; {looks}"
    out = engines.buildah_run(f"oci:{layout}:latest", "sh", "-c", script)
    assert out.count("the tool runs, and reads this") == 2
    assert "/bin -> usr/bin" in out
    assert "/lib -> usr/lib" in out
    assert "/var/run -> /run" in out
    assert out.splitlines()[-3:] == ["755", "755", "750"]
    rootfs = engines.umoci_unpack(layout, "latest")
    assert (rootfs / "bin").is_symlink()
    assert (rootfs / "usr" / "bin" / "tool").read_bytes() == SCRIPT


def test_a_root_at_a_link_is_the_links_target(kobuild: Kobuild, base: str) -> None:
    put(kobuild, base, [Entry("tool", SCRIPT, mode=0o755)], root="/bin", more='only = ["tool"]')
    assert list(layer_of(kobuild, kobuild.ok("build", "--json").json)) == ["usr/bin/tool"]
    kobuild.ok("verify")
    # Also where nothing is known of how the layer was made.
    kobuild.ok("verify", environ={"KOBUILD_CACHE_DIR": str(kobuild.folder / "another-cache")})


def test_links_that_are_the_bases_own_are_left_out_and_others_refused(kobuild: Kobuild, base: str) -> None:
    put(kobuild, base, [symlink("bin", "usr/bin"), symlink("sbin", "/usr/sbin"), Entry("usr/bin/tool", SCRIPT)])
    assert list(layer_of(kobuild, kobuild.ok("build", "--json").json)) == ["usr/bin/tool"]
    put(kobuild, base, [symlink("bin", "opt/bin"), Entry("opt/bin/tool", SCRIPT)])
    done = kobuild.run("build")
    assert done.code == 1
    assert "member 'bin' would replace '/bin', which in the base leads to '/usr/bin'" in done.err
    assert "choose another root" in done.err


def test_two_ways_to_one_path_are_one_entry_or_an_error(kobuild: Kobuild, base: str) -> None:
    same = [folder("lib/d"), folder("usr/lib/d"), Entry("usr/lib/d/x", b"x")]
    put(kobuild, base, same)
    assert list(layer_of(kobuild, kobuild.ok("build", "--json").json)) == ["usr/lib/d", "usr/lib/d/x"]
    put(kobuild, base, [Entry("lib/x", b"one"), Entry("usr/lib/x", b"other")])
    done = kobuild.run("build")
    assert done.code == 1
    assert "two members that differ have the name 'usr/lib/x'" in done.err


def test_on_a_base_without_the_links_nothing_moves(kobuild: Kobuild) -> None:
    """The same archive, on a base that has no /usr at all."""
    put(kobuild, "scratch", [Entry("app", b"an app")], root="/opt")
    kobuild.ok("build", "--output", "oci:plain")
    put(kobuild, "oci:plain", [Entry("bin/tool", SCRIPT, mode=0o755), Entry("lib/x", b"this\n")])
    built = kobuild.ok("build", "--json").json
    assert list(layer_of(kobuild, built)) == ["bin/tool", "lib/x"]
    assert kobuild.ok("build", "--json").json["platforms"][0]["layers"][0]["cached"]


def test_the_base_is_read_once_and_only_where_it_matters(kobuild: Kobuild, base: str, registry: DockerRegistry) -> None:
    require_program("skopeo")
    run("skopeo", "copy", "--dest-tls-verify=false", base, f"docker://{registry.host}/debian:bookworm")
    here = f"{registry.host}/debian:bookworm"
    manifest = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{here}"))
    layer = manifest["layers"][0]["digest"]

    def reads() -> int:
        count = sum(method == "GET" and layer in target for method, target, _ in registry.requests())
        registry.forget()
        return count

    target = ("--target", f"{registry.host}/ci/tool:latest")
    reads()
    put(kobuild, here, [folder("tool"), Entry("tool/bin/tool", SCRIPT, mode=0o755)], root="/usr/local")
    kobuild.ok("push", *target)
    assert reads() == 0
    put(kobuild, here)
    first = kobuild.ok("push", "--json", *target).json
    assert reads() == 1
    # Whoever lands in the same base later finds what is known of it; and the layer itself is not made again.
    again = kobuild.ok("push", "--json", *target).json
    assert again["digest"] == first["digest"]
    assert again["platforms"][0]["layers"][0]["cached"]
    put(kobuild, here, [Entry("sbin/other", SCRIPT, mode=0o755)])
    kobuild.ok("push", *target)
    assert reads() == 0
    # The base was read, not kept.
    assert layer.removeprefix("sha256:") not in kobuild.cached_blobs()


def test_a_base_that_changed_elsewhere_leaves_the_layer_as_it_was(kobuild: Kobuild, base: str) -> None:
    put(kobuild, base, [Entry("app", b"an app")], root="/opt")
    kobuild.ok("build", "--output", "oci:newer")
    put(kobuild, base)
    first = kobuild.ok("build", "--json").json["platforms"][0]["layers"][0]
    put(kobuild, "oci:newer")
    second = kobuild.ok("build", "--json").json["platforms"][0]["layers"][0]
    assert second == first | {"cached": True}
