"""What a tool needs is downloaded as soon as it is resolved, though another one is still being looked up."""

from __future__ import annotations

import threading
import time
from hashlib import sha256

import pytest

from kobuild.oci.digest import Digest
from kobuild.store.cache import Cache
from tests.support.archives import Entry, make_tar_gz
from tests.support.commandline import Kobuild
from tests.support.upstream import Fault, Upstream

SETTINGS = """
[image]
base   = "scratch"
target = "localhost:1/a/b:c"

[tools.quick]
source = "github:a/quick"
root   = "/opt"

[tools.slow]
source = "github:a/slow"
"""
ARCHIVE = "quick_linux_amd64.tar.gz"
CONTENT = make_tar_gz([Entry("quick", b"quick\n" * 1000, mode=0o755)])
HOLD_SECONDS = 20
"""Upstream holds an answer for 30."""


@pytest.fixture
def project(kobuild: Kobuild, upstream: Upstream) -> Kobuild:
    upstream.add_github_release("a/quick", "v1.0", {ARCHIVE: CONTENT})
    upstream.add_github_release("a/slow", "v1.0", {"slow_linux_amd64.tar.gz": make_tar_gz([Entry("slow", b"slow\n")])})
    kobuild.environ.update(upstream.environ)
    kobuild.settings(SETTINGS)
    return kobuild


def test_the_first_download_does_not_wait_for_the_last_listing(project: Kobuild, upstream: Upstream) -> None:
    upstream.fail("a/slow/releases", Fault(hold_after=1, release=upstream.announce(ARCHIVE)))
    start = time.monotonic()
    project.ok("build")
    assert time.monotonic() - start < HOLD_SECONDS
    assert upstream.count(f"download/v1.0/{ARCHIVE}") == 1


def test_a_listing_that_fails_ends_the_download(project: Kobuild, upstream: Upstream) -> None:
    upstream.fail("/release-assets/", Fault(hold_after=1, release=threading.Event(), times=9))
    upstream.fail("a/slow/releases", Fault(status=404, times=9))
    start = time.monotonic()
    done = project.run("build")
    assert (done.code, "tools.slow: " in done.err) == (1, True)
    assert time.monotonic() - start < HOLD_SECONDS


def test_a_download_that_fails_is_told(project: Kobuild, upstream: Upstream) -> None:
    upstream.fail("/release-assets/", Fault(corrupt=True, times=9))
    done = project.run("build")
    assert done.code == 1
    assert "_linux_amd64.tar.gz: expected sha256:" in done.err


def test_what_a_known_layer_was_made_of_is_not_fetched_again(project: Kobuild, upstream: Upstream) -> None:
    project.ok("build")
    (project.folder / "kobuild.lock").unlink()
    cache = Cache(project.cache)
    cache.drop_blob(Digest("sha256", sha256(CONTENT).hexdigest()))
    upstream.forget()
    project.ok("build")
    assert upstream.count("a/quick/releases") > 0
    assert upstream.count(ARCHIVE) == 0
