"""Downloads over real connections that break, lie, stall and change their mind."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kobuild.errors import DigestMismatch, FetchError, RateLimited, SizeMismatch, StorageError
from kobuild.oci.digest import Digest
from kobuild.sources.download import Download, fetch, fetch_all, find_size, open_artifact
from kobuild.sources.model import Artifact, SourceContext, Vouched
from kobuild.sources.transfer import CancelledError
from tests.support.recorders import HeldClock, RecordingReporter
from tests.support.upstream import Fault, Upstream, sha256_of
from tests.unit.sources.conftest import MakeContext


def _noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  # the same bytes each time


CONTENT: Final = _noise(7, 900_001)
SUM: Final = sha256_of(CONTENT)


def _publish(upstream: Upstream, *, ranges: bool = True, etag: bool = True) -> Artifact:
    url = upstream.add_file("/files/tool.tar.gz", CONTENT, ranges=ranges, etag=etag)
    return Artifact(url, "tool.tar.gz", len(CONTENT), SUM, Vouched.PUBLISHER)


def _blobs(context: SourceContext) -> list[str]:
    return sorted(path.name for path in context.cache.root.glob("blobs/*/*"))


def _partials(context: SourceContext) -> list[str]:
    return sorted(path.name for path in context.cache.root.glob("partial/*"))


def _get(artifact: Artifact, context: SourceContext, clock: HeldClock) -> bytes:
    with fetch(artifact, context, clock=clock) as download:
        return download.path().read_bytes()


def test_a_file_arrives_and_is_never_fetched_again(upstream: Upstream, context: SourceContext) -> None:
    artifact = _publish(upstream)
    with open_artifact(artifact, context) as opened:
        assert opened.name == "tool.tar.gz"
        with opened.stream() as stream:
            assert stream.read() == CONTENT
        assert opened.path() == context.cache.blob_path(Digest("sha256", SUM))
    with open_artifact(artifact, dataclasses.replace(context, offline=True)) as opened, opened.stream() as stream:
        assert b"".join(iter(lambda: stream.read(100_000), b"")) == CONTENT
        assert opened.path().read_bytes() == CONTENT
    assert upstream.count() == 1
    assert _blobs(context) == [SUM]
    assert _partials(context) == []


def test_a_stream_follows_the_running_download(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    artifact = _publish(upstream)
    fault = upstream.fail("tool.tar.gz", Fault(hold_after=500_000))
    with fetch(artifact, context, clock=clock) as download, download.stream() as stream:
        first = stream.read(100_000)
        assert CONTENT.startswith(first)
        assert not _blobs(context), "nothing unverified is a blob"
        fault.release.set()
        assert first + stream.read() == CONTENT
        assert stream.read(10) == b""
        assert _blobs(context) == [SUM], "the end is told after the verdict"
        with download.stream() as late:
            assert late.read() == CONTENT


def test_many_readers_follow_one_download(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    artifact = _publish(upstream)
    fault = upstream.fail("tool.tar.gz", Fault(hold_after=300_000))
    found: list[bytes] = []

    def follow(download: Download) -> None:
        with download.stream() as stream:
            found.append(stream.read())

    with fetch(artifact, context, clock=clock) as download:
        threads = [threading.Thread(target=follow, args=(download,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        fault.release.set()
        for thread in threads:
            thread.join()
    assert found == [CONTENT] * 4
    assert upstream.count() == 1


def test_a_break_is_gone_on_from_by_range(
    upstream: Upstream, context: SourceContext, clock: HeldClock, reporter: RecordingReporter
) -> None:
    artifact = _publish(upstream)
    upstream.fail("tool.tar.gz", Fault(cut_after=400_000))
    upstream.fail("tool.tar.gz", Fault(cut_after=100_000))
    with fetch(artifact, context, clock=clock) as download, download.stream() as stream:
        assert stream.read() == CONTENT
    first, second, third = upstream.logged("tool.tar.gz")
    assert "range" not in first.headers
    assert second.status == third.status == 206
    assert second.headers["if-range"] == f'"{SUM[:32]}"'
    assert 0 < int(second.headers["range"].removeprefix("bytes=").rstrip("-")) <= 400_000
    assert any("going on from byte" in text for text in reporter.notices)
    assert clock.slept


@pytest.mark.parametrize("etag", [True, False])
def test_without_ranges_the_same_bytes_are_skipped(
    upstream: Upstream, context: SourceContext, clock: HeldClock, *, etag: bool
) -> None:
    artifact = _publish(upstream, ranges=False, etag=etag)
    upstream.fail("tool.tar.gz", Fault(cut_after=600_000))
    with fetch(artifact, context, clock=clock) as download, download.stream() as stream:
        assert stream.read() == CONTENT
    assert [request.status for request in upstream.logged("tool.tar.gz")] == [200, 200]


def test_a_file_that_changes_under_way_is_refused(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    artifact = _publish(upstream)
    fault = upstream.fail("tool.tar.gz", Fault(hold_after=300_000, cut_after=500_000))
    with fetch(artifact, context, clock=clock) as download, download.stream() as stream:
        stream.read(1)
        upstream.add_file("/files/tool.tar.gz", CONTENT[::-1])
        fault.release.set()
        with pytest.raises(FetchError, match="changed while it was being fetched"):
            stream.read()
    assert _blobs(context) == _partials(context) == []


def test_a_server_that_always_breaks_is_given_up(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    artifact = _publish(upstream)
    upstream.fail("tool.tar.gz", Fault(cut_after=0, times=50))
    with pytest.raises(FetchError, match="broke off"):
        _get(artifact, context, clock)
    assert upstream.count("tool.tar.gz") == 5
    assert _blobs(context) == []


_KILLED: Final = """
import sys
from pathlib import Path
from kobuild.sources.download import open_artifact
from kobuild.sources.model import Artifact, SourceContext, Vouched
from kobuild.store.cache import Cache
from kobuild.transport import Transport

url, sha256, size, cache = sys.argv[1:]
context = SourceContext(transport=Transport(), cache=Cache(Path(cache)), folder=Path(cache))
with open_artifact(Artifact(url, "tool.tar.gz", int(size), sha256, Vouched.PUBLISHER), context) as opened:
    with opened.stream() as stream:
        left = 400_000
        while left:
            left -= len(stream.read(left))
        print("halfway", flush=True)
        stream.read()
"""


def test_a_killed_process_leaves_what_the_next_goes_on_from(
    upstream: Upstream, context: SourceContext, clock: HeldClock
) -> None:
    artifact = _publish(upstream)
    upstream.fail("tool.tar.gz", Fault(hold_after=600_000))
    command = [sys.executable, "-c", _KILLED, artifact.url, SUM, str(len(CONTENT)), str(context.cache.root)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"halfway\n"
        process.kill()
    assert len(_partials(context)) == 2
    assert _blobs(context) == []
    upstream.forget()
    assert _get(artifact, context, clock) == CONTENT
    (request,) = upstream.logged("tool.tar.gz")
    assert request.status == 206
    assert int(request.headers["range"].removeprefix("bytes=").rstrip("-")) >= 400_000
    assert _partials(context) == []


def _leave_behind(artifact: Artifact, context: SourceContext, upstream: Upstream, clock: HeldClock) -> None:
    fault = upstream.fail("tool.tar.gz", Fault(hold_after=600_000))
    with fetch(artifact, context, clock=clock) as download:
        with download.stream() as stream:
            left = 500_000
            while left:
                left -= len(stream.read(left))
        download.stop()
        fault.release.set()
    upstream.forget()


def test_a_stopped_download_is_gone_on_from(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    artifact = _publish(upstream)
    _leave_behind(artifact, context, upstream, clock)
    assert _get(artifact, context, clock) == CONTENT
    assert [request.status for request in upstream.logged("tool.tar.gz")] == [206]


def test_a_left_part_of_another_file_is_thrown_away(
    upstream: Upstream, context: SourceContext, clock: HeldClock
) -> None:
    _leave_behind(_publish(upstream), context, upstream, clock)
    other = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    upstream.add_file("/files/tool.tar.gz", other)
    artifact = Artifact(_publish(upstream).url, "tool.tar.gz", len(CONTENT), SUM, Vouched.PUBLISHER)
    assert _get(artifact, context, clock) == CONTENT
    upstream.add_file("/files/tool.tar.gz", other)
    unknown = Artifact(artifact.url, "tool.tar.gz")
    _leave_behind(unknown, context, upstream, clock)
    upstream.add_file("/files/tool.tar.gz", CONTENT)
    assert _get(unknown, context, clock) == CONTENT
    assert [request.status for request in upstream.logged("tool.tar.gz")] == [200]


def test_a_whole_left_part_needs_no_byte(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    artifact = _publish(upstream)
    _leave_behind(artifact, context, upstream, clock)
    (part,) = (path for path in context.cache.root.glob("partial/*") if path.suffix != ".json")
    part.write_bytes(CONTENT)
    assert _get(artifact, context, clock) == CONTENT
    assert [request.status for request in upstream.logged("tool.tar.gz")] == [416]


def test_two_downloads_of_one_file_do_not_meet(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    artifact = _publish(upstream)
    fault = upstream.fail("tool.tar.gz", Fault(hold_after=300_000, times=2))
    with fetch(artifact, context, clock=clock) as one, one.stream() as stream:
        stream.read(1)
        with fetch(artifact, context, clock=clock) as two, two.stream() as other:
            other.read(1)
            fault.release.set()
            assert one.path().read_bytes() == two.path().read_bytes() == CONTENT
    assert _blobs(context) == [SUM]
    assert _partials(context) == []


@pytest.mark.parametrize(
    ("vouched_by", "words"),
    [
        (Vouched.PUBLISHER, "by the publisher's listing"),
        (Vouched.CHECKSUMS_FILE, "by the release's checksums file"),
        (Vouched.USER, "by the settings"),
        (Vouched.FIRST_DOWNLOAD, "as first downloaded"),
    ],
)
def test_a_wrong_sum_names_the_address_and_who_vouched(
    upstream: Upstream, context: SourceContext, clock: HeldClock, vouched_by: Vouched, words: str
) -> None:
    artifact = dataclasses.replace(_publish(upstream), vouched_by=vouched_by)
    upstream.fail("tool.tar.gz", Fault(corrupt=True))
    with fetch(artifact, context, clock=clock) as download:
        with pytest.raises(DigestMismatch) as raised, download.stream() as stream:
            stream.read()
        with pytest.raises(DigestMismatch):
            download.path()
    assert artifact.url in str(raised.value)
    assert f"expected sha256:{SUM} ({words})" in str(raised.value)
    assert raised.value.hint
    assert _blobs(context) == _partials(context) == []


def test_a_file_of_another_size_is_refused_before_it_is_read(
    upstream: Upstream, context: SourceContext, clock: HeldClock
) -> None:
    artifact = dataclasses.replace(_publish(upstream), size=1000)
    with pytest.raises(SizeMismatch, match=r"expected 1000 bytes, got 900001"):
        _get(artifact, context, clock)
    assert _partials(context) == []


def test_an_integrity_of_npm_is_checked(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    integrity = "sha512-" + b64encode(hashlib.sha512(CONTENT).digest()).decode()
    url = _publish(upstream).url
    assert _get(Artifact(url, "tool.tgz", integrity=integrity), context, clock) == CONTENT
    with pytest.raises(DigestMismatch, match="sha512-"):
        _get(Artifact(f"{url}?", "tool.tgz", integrity="sha512-AAAA", vouched_by=Vouched.PUBLISHER), context, clock)


def test_what_nobody_vouches_for_is_summed_and_asked_for_once(
    upstream: Upstream, context: SourceContext, clock: HeldClock
) -> None:
    artifact = Artifact(_publish(upstream).url, "tool.tar.gz")
    with fetch(artifact, context, clock=clock) as download:
        fetched = download.wait()
    assert (fetched.size, fetched.sha256) == (len(CONTENT), SUM)
    upstream.forget()
    with fetch(artifact, context, clock=clock) as download:
        assert download.wait() == fetched
    assert [(request.method, request.status) for request in upstream.requests] == [("HEAD", 304)]
    upstream.add_file("/files/tool.tar.gz", b"another")
    with fetch(artifact, context, clock=clock) as download:
        assert download.wait().size == len(b"another")


def test_failures_that_may_pass_are_tried_again(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    artifact = _publish(upstream)
    upstream.fail("tool.tar.gz", Fault(status=503))
    upstream.fail("tool.tar.gz", Fault(status=429, headers={"Retry-After": "7"}))
    assert _get(artifact, context, clock) == CONTENT
    assert any(7 <= seconds < 8 for seconds in clock.slept)
    assert upstream.count("tool.tar.gz") == 3


def test_failures_that_stay_are_told(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    with pytest.raises(FetchError, match="404 Not Found") as raised:
        _get(Artifact(f"{upstream.url}/nothing?key=secret", "nothing"), context, clock)
    assert "secret" not in str(raised.value)
    upstream.fail("tool.tar.gz", Fault(status=429, times=10))
    with pytest.raises(RateLimited):
        _get(_publish(upstream), context, clock)


def test_offline_names_what_is_missing(upstream: Upstream, make_context: MakeContext) -> None:
    artifact = _publish(upstream)
    with (
        pytest.raises(FetchError, match=r"tool\.tar\.gz is not in the cache, and --offline forbids") as raised,
        open_artifact(artifact, make_context(offline=True)),
    ):
        pass
    assert "without --offline" in (raised.value.hint or "")
    assert upstream.count() == 0


def test_a_damaged_blob_is_found_and_fetched_again(
    upstream: Upstream, context: SourceContext, clock: HeldClock
) -> None:
    artifact = _publish(upstream)
    path = context.cache.blob_path(Digest("sha256", SUM))
    for damage in (CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), CONTENT[:-1]):
        _get(artifact, context, clock)
        path.chmod(0o644)
        path.write_bytes(damage)
        if len(damage) == len(CONTENT):
            with open_artifact(artifact, context) as opened:
                with pytest.raises(DigestMismatch) as raised, opened.stream() as stream:
                    stream.read()
                assert "has been removed" in (raised.value.hint or "")
        with open_artifact(artifact, context) as opened:
            assert opened.path().read_bytes() == CONTENT


@pytest.fixture
def small_disk() -> Iterator[None]:
    """The kernel refuses files beyond half the content, as a full disk does in the middle of one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_leaves_nothing(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    with pytest.raises(StorageError, match=r"write .*: File too large"):
        _get(_publish(upstream), context, clock)
    assert _blobs(context) == _partials(context) == []


def test_what_nobody_waits_for_stops(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    artifact = _publish(upstream)
    fault = upstream.fail("tool.tar.gz", Fault(hold_after=300_000))
    download = fetch(artifact, context, clock=clock)
    with download.stream() as stream:
        stream.read(1)
        download.stop()
        fault.release.set()
        with pytest.raises(CancelledError):
            stream.read()
    download.close()
    assert _blobs(context) == []


def test_many_files_come_side_by_side(upstream: Upstream, context: SourceContext) -> None:
    contents = [_noise(seed, 50_000) for seed in range(9)]
    artifacts = [
        Artifact(upstream.add_file(f"/files/{index}", content), str(index), len(content), sha256_of(content))
        for index, content in enumerate(contents)
    ]
    assert [fetched.path.read_bytes() for fetched in fetch_all(artifacts, context)] == contents
    assert fetch_all([], context) == []


def test_the_first_failure_stops_the_others(upstream: Upstream, context: SourceContext) -> None:
    artifact = _publish(upstream)
    upstream.fail("tool.tar.gz", Fault(hold_after=300_000))
    with pytest.raises(FetchError, match="404"):
        fetch_all([artifact, Artifact(f"{upstream.url}/nothing", "nothing")], context)
    assert _blobs(context) == []


def test_credentials_do_not_follow_a_redirect(upstream: Upstream, context: SourceContext, clock: HeldClock) -> None:
    path = upstream.add_file("/files/tool.tar.gz", CONTENT).removeprefix(upstream.url)
    url = upstream.add_redirect("/go-there", f"{upstream.files_url}{path}?sig=secret")
    with_user = url.replace("http://", "http://user:password@")
    assert _get(Artifact(with_user, "tool", len(CONTENT), SUM), context, clock) == CONTENT
    first, second = upstream.requests
    assert first.headers["authorization"].startswith("Basic ")
    assert "authorization" not in second.headers


def test_a_size_is_asked_for_without_the_bytes(upstream: Upstream, context: SourceContext) -> None:
    artifact = dataclasses.replace(_publish(upstream), size=None)
    assert find_size(artifact, context) == len(CONTENT)
    assert [request.method for request in upstream.requests] == ["HEAD"]
    assert find_size(Artifact(f"{upstream.url}/nothing", "nothing", None, SUM), context) is None


def test_progress_counts_every_byte_once(
    upstream: Upstream, context: SourceContext, clock: HeldClock, reporter: RecordingReporter
) -> None:
    artifact = _publish(upstream)
    upstream.fail("tool.tar.gz", Fault(cut_after=300_000))
    _get(artifact, context, clock)
    assert reporter.transfers["tool.tar.gz"].count == len(CONTENT)


def test_without_sum_and_validator_a_rest_is_not_trusted(
    upstream: Upstream, context: SourceContext, clock: HeldClock
) -> None:
    artifact = Artifact(_publish(upstream, etag=False).url, "tool.tar.gz")
    upstream.fail("tool.tar.gz", Fault(cut_after=600_000))
    assert _get(artifact, context, clock) == CONTENT
    assert [request.status for request in upstream.logged("tool.tar.gz")] == [200, 200]


def test_a_directory_on_the_disk_where_a_file_was_is_told(context: SourceContext, clock: HeldClock) -> None:
    artifact = Artifact("pkg:pypi/x@1", "x", None, SUM, location=context.folder.as_uri())
    with pytest.raises(StorageError, match="Is a directory"):
        _get(artifact, context, clock)


_INTERRUPTED: Final = """
import sys
from pathlib import Path
from kobuild.interrupts import attend_interrupts
from kobuild.sources.download import fetch_all
from kobuild.sources.model import Artifact, SourceContext
from kobuild.store.cache import Cache
from kobuild.transport import Transport

url, cache = sys.argv[1:]
context = SourceContext(transport=Transport(), cache=Cache(Path(cache)), folder=Path(cache))
attend_interrupts()
print("begun", flush=True)
try:
    fetch_all([Artifact(f"{url}?{number}", "tool.tar.gz") for number in range(8)], context)
except KeyboardInterrupt:  # Python's own ending would depend on what other threads are importing
    sys.exit("interrupted")
"""


def test_an_interrupt_ends_all_and_leaves_no_blob(upstream: Upstream, context: SourceContext) -> None:
    artifact = _publish(upstream)
    upstream.fail("tool.tar.gz", Fault(hold_after=300_000, times=8))
    command = [sys.executable, "-c", _INTERRUPTED, artifact.url, str(context.cache.root)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        try:
            while not _partials(context) and process.poll() is None:
                os.sched_yield()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 1
    assert stderr == b"interrupted\n"
    assert _blobs(context) == []
