"""Bad input, one fault a test: a clear error, the right exit code, and nothing half-made left behind."""

from __future__ import annotations

import gzip
import io
import random
import shlex
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.commandline import Done, Kobuild
from tests.support.programs import require_program
from tests.support.registry import PASSWORD, USERNAME, run_registry
from tests.support.upstream import Fault, Upstream

SETTINGS = """
[image]
base   = "scratch"
target = "{target}"

[tools.tool]
source = "github:acme/tool"
root   = "/opt"
{more}
"""
ASSET = "tool_linux_amd64.tar.gz"


def tarball(members: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), 1)


RANDOM = random.Random(7)  # noqa: S311  # content that does not compress, the same each time
NOISE = RANDOM.randbytes(300_000)
GOOD = tarball({"bin/tool": NOISE, "LICENSE": b"free\n"})


def publish(
    kobuild: Kobuild,
    upstream: Upstream,
    content: bytes,
    *,
    more: str = "",
    target: str = "localhost:1/a:b",
    **release: str,
) -> None:
    digests = {ASSET: f"sha256:{release['sha256']}"} if "sha256" in release else True
    upstream.add_github_release("acme/tool", "v1.0.0", {ASSET: content}, digests=digests)
    kobuild.environ.update(upstream.environ)
    kobuild.settings(SETTINGS.format(target=target, more=more))


def assert_clean(kobuild: Kobuild) -> None:
    """No image, no temporary file, and no layer in the cache."""
    assert not (kobuild.folder / "dist").exists()
    assert kobuild.leftovers() == []
    assert not (kobuild.cache / "records" / "layers").exists()
    partial = kobuild.cache / "partial"
    assert not partial.exists() or [path.name for path in partial.iterdir() if path.name.startswith("blob-")] == []


def assert_error(done: Done, code: int, *words: str) -> None:
    assert done.code == code, done.out + done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert "error: " in done.err
    for word in words:
        assert word in done.err


def test_a_truncated_archive_is_no_short_layer(kobuild: Kobuild, upstream: Upstream) -> None:
    # The publisher vouches for the truncated bytes: only the archive's own structure can tell.
    publish(kobuild, upstream, GOOD[: len(GOOD) // 2])
    assert_error(kobuild.run("build"), 1, ASSET)
    assert_clean(kobuild)


def test_an_archive_truncated_in_its_tar_is_no_short_layer(kobuild: Kobuild, upstream: Upstream) -> None:
    publish(kobuild, upstream, gzip.compress(gzip.decompress(GOOD)[:100_000]))
    assert_error(kobuild.run("build"), 1, "bin/tool")
    assert_clean(kobuild)


def test_a_download_that_breaks_for_good_is_told(kobuild: Kobuild, upstream: Upstream) -> None:
    publish(kobuild, upstream, GOOD)
    upstream.fail("/release-assets/", Fault(status=404, times=100))
    done = kobuild.run("build")
    assert_error(done, 1, "404", ASSET)
    assert "a-signed-secret" not in done.err
    assert_clean(kobuild)


def test_a_download_that_breaks_off_is_resumed(kobuild: Kobuild, upstream: Upstream) -> None:
    publish(kobuild, upstream, GOOD)
    upstream.fail("/release-assets/", Fault(cut_after=100_000))
    kobuild.ok("build")
    downloads = [item for item in upstream.logged("/release-assets/") if item.method == "GET"]
    assert [item.status for item in downloads] == [200, 206]
    assert downloads[1].headers["range"].startswith("bytes=")


def test_a_wrong_checksum_stops_the_build(kobuild: Kobuild, upstream: Upstream) -> None:
    publish(kobuild, upstream, GOOD, sha256="0" * 64)
    assert_error(kobuild.run("build"), 1, "0" * 64, ASSET)
    assert_clean(kobuild)
    assert kobuild.cached_blobs() == set()


def test_a_pattern_that_matches_nothing_is_told_with_near_names(kobuild: Kobuild, upstream: Upstream) -> None:
    publish(kobuild, upstream, GOOD, more='only = ["bin/tol"]')
    assert_error(kobuild.run("build"), 1, "bin/tol", "bin/tool")
    assert_clean(kobuild)


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../../b"])
def test_a_name_that_leaves_its_root_stops_the_build(kobuild: Kobuild, upstream: Upstream, name: str) -> None:
    publish(kobuild, upstream, tarball({"fine": b"1", name: b"2"}))
    assert_error(kobuild.run("build"), 1, name)
    assert_clean(kobuild)


def test_a_refused_login_says_what_to_do(tmp_path: Path, kobuild: Kobuild, upstream: Upstream) -> None:
    with run_registry(tmp_path / "registry", htpasswd=True) as registry:
        publish(kobuild, upstream, GOOD, target=f"{registry.host}/a/b:c")
        login = {
            "KOBUILD_REGISTRY": registry.host,
            "KOBUILD_REGISTRY_USERNAME": USERNAME,
            "KOBUILD_REGISTRY_PASSWORD": "not-" + PASSWORD,
        }
        done = kobuild.run("push", environ=login)
    assert_error(done, 1, registry.host, "hint: ")
    assert PASSWORD not in done.err
    assert not (kobuild.folder / "dist").exists()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, kobuild: Kobuild, upstream: Upstream) -> None:
    require_program("unshare")
    publish(kobuild, upstream, tarball({"large": RANDOM.randbytes(6_000_000)}))
    small = tmp_path / "small"
    small.mkdir()
    command = shlex.join(kobuild.command("build", "--cache-dir", str(small), "--output", f"oci:{small}/image"))
    listing = f"find {shlex.quote(str(small))} -type f -size +0 | wc -l"
    mount = f"mount -t tmpfs -o size=4m tmpfs {shlex.quote(str(small))} || exit 77"
    script = f"{mount}; {command}; code=$?; {listing}; exit $code"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=kobuild.folder,
        env=kobuild.variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert "hint: free some space" in done.stderr
    assert "Traceback" not in done.stderr
    # What was downloaded may stay, to go on from; nothing else does.
    assert int(done.stdout) <= 2


def test_a_broken_lock_is_named_with_its_line(kobuild: Kobuild, upstream: Upstream) -> None:
    publish(kobuild, upstream, GOOD)
    kobuild.ok("resolve")
    lock = kobuild.folder / "kobuild.lock"
    lock.write_text(lock.read_text().replace('sha256 = "', 'sha256 = "zz'))
    line = next(number for number, text in enumerate(lock.read_text().splitlines(), 1) if "sha256" in text)
    assert_error(kobuild.run("build"), 2, f"kobuild.lock:{line}", "sha256")
    lock.write_text("version = [\n")
    assert_error(kobuild.run("build"), 2, "kobuild.lock")
    assert_clean(kobuild)


def test_faults_of_the_settings_are_told_all_at_once(kobuild: Kobuild) -> None:
    kobuild.settings('[image]\nbase = "scratch"\nworkdirr = "/"\n\n[tools.go]\nsource = "goo"\nversion = ">=1.2,<"\n')
    done = kobuild.run("build")
    assert_error(done, 2, "kobuild.toml:3: image.workdirr", "workdir", "kobuild.toml:6: tools.go.source")
    assert "kobuild.toml:7: tools.go.version" in done.err
    assert done.err.count("error: ") == 3


def test_an_interrupt_leaves_nothing_half_made(kobuild: Kobuild, upstream: Upstream) -> None:
    publish(kobuild, upstream, GOOD)
    held = upstream.fail("/release-assets/", Fault(hold_after=100_000))
    running = kobuild.start("build")
    deadline = time.monotonic() + 30
    while not upstream.logged("/release-assets/") and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    held.release.set()
    assert running.returncode == 130, out + err
    assert "Traceback" not in err
    assert out == ""
    assert_clean(kobuild)
    assert kobuild.cached_blobs() == set()
    # And the next run goes on as if nothing had happened.
    kobuild.ok("build")
