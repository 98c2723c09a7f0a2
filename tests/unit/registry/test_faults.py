"""A proxy before the real docker-registry breaks every request in turn, in every way."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from kobuild.errors import RegistryError
from kobuild.image.image import Image, ImageSet
from kobuild.image.mutate import gather
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference
from kobuild.registry import AnonymousKeychain, PushResult, RegistryClient, RegistryStore, sessions
from kobuild.transport import Request, Response, SystemClock, Transport
from tests.support.faultproxy import Break, Cut, FaultProxy, Stall, run_proxy
from tests.support.images import ARM64, make_image, make_layer, make_tar, random_image
from tests.support.recorders import HeldClock, RecordingReporter
from tests.support.registry import DockerRegistry
from tests.unit.registry.conftest import make_client


@pytest.fixture(scope="module")
def proxy(plain_server: DockerRegistry) -> Iterator[FaultProxy]:
    with run_proxy(plain_server.host) as running:
        yield running


def images_for(kind: Break) -> ImageSet:
    """An index for the breaks that can hurt an order most, a single image for the others: time is short."""
    images = [random_image(1, count=1), random_image(2, count=1, platform=ARM64)]
    return gather(images if kind in (Break.REFUSED, Break.LOST_ANSWER) else images[:1])


def read_whole(client: RegistryClient, where: Reference) -> int:
    """Read an index, its manifests and all their blobs; the number of bytes."""
    store = RegistryStore(client, where)
    root = store.root()
    count = len(root.raw)
    for manifest in [store.child(item) for item in root.manifests] if isinstance(root, Index) else [root]:
        assert isinstance(manifest, Manifest)
        for blob in (manifest.config, *manifest.layers):
            with store.open(blob) as reader:
                count += len(reader.read())
    return count


def count_requests(proxy: FaultProxy, images: ImageSet, name: str) -> int:
    """How many requests an undisturbed push takes."""
    proxy.restart()
    make_client().push(images, [Reference.parse(f"{proxy.host}/{name}:1")])
    return len(proxy.lines)


@pytest.mark.parametrize("kind", list(Break), ids=lambda kind: kind.name.lower())
def test_one_break_anywhere_in_a_push_is_survived(kind: Break, proxy: FaultProxy, name: str) -> None:
    images = images_for(kind)
    requests = count_requests(proxy, images, name)
    for number in range(1, requests + 1):
        proxy.restart(lambda count, number=number: kind if count == number else None)  # type: ignore[misc]
        target = Reference.parse(f"{proxy.host}/{name}/{number}:1")
        make_client().push(images, [target])
        assert len(proxy.lines) > number or number == requests
        proxy.restart()
        assert make_client().head_manifest(target) == images.root.descriptor


FOR_GOOD = (Break.REFUSED, Break.CUT_REQUEST, Break.LOST_ANSWER, Break.CUT_ANSWER, Break.UNAVAILABLE, Break.TOO_MANY)
"""The other refusals are no different here."""


@pytest.mark.parametrize("kind", FOR_GOOD, ids=lambda kind: kind.name.lower())
def test_a_push_that_breaks_for_good_fails_cleanly_and_a_second_one_ends_it(
    kind: Break, proxy: FaultProxy, plain_server: DockerRegistry, name: str
) -> None:
    images = images_for(kind)
    # An index takes twice the requests: there every second is enough.
    for number in range(1, count_requests(proxy, images, name) + 1, 1 if images.index is None else 2):
        proxy.restart(lambda count, number=number: kind if count >= number else None)  # type: ignore[misc]
        target = Reference.parse(f"{proxy.host}/{name}/{number}:1")
        direct = Reference.parse(f"{plain_server.host}/{name}/{number}:1")
        with contextlib.suppress(RegistryError):
            make_client().push(images, [target])
        # A tag is never seen before all that it needs.
        if make_client().head_manifest(direct) is not None:
            assert read_whole(make_client(), direct) > 0
        proxy.restart()
        make_client().push(images, [target])
        assert read_whole(make_client(), direct) > 0


@pytest.mark.parametrize("kind", list(Break), ids=lambda kind: kind.name.lower())
def test_one_break_anywhere_in_a_read_is_survived(kind: Break, proxy: FaultProxy, name: str) -> None:
    target = Reference.parse(f"{proxy.host}/{name}:1")
    count_requests(proxy, images_for(kind), name)
    proxy.restart()
    size = read_whole(make_client(), target)
    for number in range(1, len(proxy.lines) + 1):
        proxy.restart(lambda count, number=number: kind if count == number else None)  # type: ignore[misc]
        assert read_whole(make_client(), target) == size


@pytest.mark.parametrize("in_answer", [False, True], ids=["request", "answer"])
def test_a_reset_at_any_byte_of_any_request_is_survived(
    in_answer: bool, proxy: FaultProxy, plain_server: DockerRegistry, name: str
) -> None:
    """The same push again and again, each time with another request cut at another byte, of its head or its body."""
    images = images_for(Break.CUT_REQUEST)
    requests = count_requests(proxy, images, name)
    chosen = random.Random(in_answer)  # noqa: S311  # the same bytes each time
    for number in range(1, requests + 1):
        # Heads have 100 to 700 bytes, bodies up to 2300: among these some bytes of each.
        for after in (0, chosen.randrange(1, 400), *chosen.sample(range(400, 2600), 2)):
            cut = Cut(in_answer, after)
            proxy.restart(lambda count, number=number, cut=cut: cut if count == number else None)  # type: ignore[misc]
            target = Reference.parse(f"{proxy.host}/{name}/{number}-{after}:1")
            make_client().push(images, [target])
            direct = Reference.parse(f"{plain_server.host}/{name}/{number}-{after}:1")
            assert make_client().head_manifest(direct) == images.root.descriptor


class ImpatientTransport(Transport):
    """Waits for an answer as long as a test can."""

    def send(self, request: Request, **options: Any) -> Response:
        return super().send(replace(request, read_seconds=0.25), **options)


def test_a_server_that_falls_silent_in_any_answer_is_given_up_and_asked_again(proxy: FaultProxy, name: str) -> None:
    images = images_for(Break.CUT_ANSWER)
    requests = count_requests(proxy, images, name)
    client = RegistryClient(ImpatientTransport(clock=HeldClock(), certs=()), AnonymousKeychain())
    targets = [Reference.parse(f"{proxy.host}/{name}/{number}:1") for number in range(1, requests + 1)]
    for number, target in enumerate(targets, start=1):
        proxy.restart(lambda count, number=number: Stall() if count == number else None)  # type: ignore[misc]
        client.push(images, [target])
        assert client.head_manifest(target) == images.root.descriptor
    for number in range(1, 4):
        proxy.restart(lambda count, number=number: Stall() if count == number else None)  # type: ignore[misc]
        assert read_whole(client, targets[0]) > 0


@pytest.mark.parametrize("seed", range(3))
def test_two_pushes_of_the_same_image_at_once_end_whole(seed: int, plain_server: DockerRegistry, name: str) -> None:
    """Both find the blobs missing, and both send them."""
    images = gather([random_image(20 + seed, count=6)])
    target = Reference.parse(f"{plain_server.host}/{name}:1")
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(make_client(clock=SystemClock()).push, images, [target]) for _ in range(3)]
        assert [job.result().descriptor for job in jobs] == [images.descriptor] * 3
    assert read_whole(make_client(), target) > 0


def push_large(
    proxy: FaultProxy, name: str, plan: Callable[[str, int], Break | None]
) -> tuple[Image, PushResult, RecordingReporter]:
    """Push a layer of several chunks; `plan` sees each request that writes it, and its number."""
    data = random.Random(1).randbytes(1280 * 1024)  # noqa: S311  # test data
    image = make_image([make_layer(make_tar({"big/": b"", "big/file": data}))])
    writes = itertools.count(1)

    def plan_all(_: int) -> Break | None:
        line = proxy.lines[-1]
        is_write = line.startswith("PATCH") or (
            line.startswith("PUT") and image.layers[0].descriptor.digest.hex in line
        )
        return plan(line, next(writes)) if is_write else None

    reporter = RecordingReporter()
    proxy.restart(plan_all)
    result = make_client(reporter=reporter).push(gather([image]), [Reference.parse(f"{proxy.host}/{name}:1")])
    return image, result, reporter


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "CHUNK_BYTES", 256 * 1024)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("cuts", [{1}, {1, 2, 3}, {1, 2, 5, 9}], ids=str)
def test_a_large_layer_goes_on_after_cuts(
    cuts: set[int], proxy: FaultProxy, plain_server: DockerRegistry, name: str
) -> None:
    image, result, reporter = push_large(proxy, name, lambda _, number: Break.CUT_REQUEST if number in cuts else None)
    assert any(line.startswith("PATCH") for line in proxy.lines)
    assert result.uploaded == 2
    assert len(reporter.notices) >= len(cuts)
    client = make_client()
    assert client.get_manifest(Reference.parse(f"{plain_server.host}/{name}:1")).raw == image.manifest.raw
    with client.open_blob(
        Reference.parse(f"{plain_server.host}/{name}").repository, image.layers[0].descriptor
    ) as blob:
        assert len(blob.read()) == image.layers[0].descriptor.size


@pytest.mark.usefixtures("small_chunks")
def test_a_registry_that_forgets_uploads_is_not_fed_for_ever(proxy: FaultProxy, name: str) -> None:
    with pytest.raises(RegistryError, match="push blob"):
        push_large(proxy, name, lambda line, number: Break.CUT_REQUEST if "PUT" in line or number % 3 == 0 else None)
    assert len(proxy.lines) < 400


_PUSH = """
import sys
from kobuild.image.mutate import gather
from kobuild.interrupts import attend_interrupts
from kobuild.oci.reference import Reference
from kobuild.registry import AnonymousKeychain, RegistryClient
from kobuild.transport import Transport
from tests.support.images import random_image
attend_interrupts()
RegistryClient(Transport(), AnonymousKeychain()).push(gather([random_image(1)]), [Reference.parse(sys.argv[1])])
"""


def test_an_interrupt_ends_a_push_at_once_and_leaves_no_tag(
    proxy: FaultProxy, plain_server: DockerRegistry, name: str
) -> None:
    arrived, release = threading.Event(), threading.Event()

    def hold(_: int) -> Break | None:
        if proxy.lines[-1].startswith("PUT") and name in proxy.lines[-1]:  # an earlier test's may still come
            arrived.set()
            release.wait(60)
        return None

    proxy.restart(hold)
    command = [sys.executable, "-c", _PUSH, f"{proxy.host}/{name}:1"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        assert arrived.wait(30)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=20)
    release.set()
    assert "KeyboardInterrupt" in complaint
    assert make_client().head_manifest(Reference.parse(f"{plain_server.host}/{name}:1")) is None
