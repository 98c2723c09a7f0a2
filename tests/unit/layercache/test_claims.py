"""Many machines want one layer at once: one makes it, the others wait, and none waits for a machine that is gone."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from kobuild.image.blobs import BytesSource
from kobuild.layercache.records import RECORD_TYPE, Claim, Notary, claim_manifest, read, tag_of
from kobuild.layercache.shared import LayerCache, Mode
from kobuild.layercache.waiting import Pace, Patience
from kobuild.layers.plan import LayerPlan, LayerResult
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Compression
from kobuild.oci.reference import Reference, Repository
from kobuild.progress import NullReporter
from kobuild.registry import AnonymousKeychain, RegistryClient
from kobuild.registry.tagged import EMPTY_BLOB
from kobuild.store.cache import Cache
from kobuild.streams import Readable, StoppedError, stoppable
from kobuild.transport import Transport
from tests.support.fakeregistry import FakeRegistry, Fault, run_fake
from tests.support.images import compress, make_tar
from tests.support.registry import DockerRegistry
from tests.support.scripted import Reply, Seen
from tests.unit.layercache.conftest import KEY

PLAN = LayerPlan()
NEVER = threading.Event()
QUICK = Pace(settle=0.2, poll=0.02, poll_most=0.1)


@pytest.fixture
def place(docker_registry: DockerRegistry, tmp_path: Path) -> Repository:
    name = tmp_path.name.replace("_", "-").lower()
    return Reference.parse(f"{docker_registry.host}/claims/{name}").repository


@pytest.fixture(params=[QUICK])
def caches(
    request: pytest.FixtureRequest, place: Repository, client: RegistryClient, tmp_path: Path
) -> Iterator[list[LayerCache]]:
    """Eight machines."""
    made = [
        LayerCache(client, place, Cache(tmp_path / str(number)), NullReporter(), notary=Notary(KEY), pace=request.param)
        for number in range(8)
    ]
    yield made
    for cache in made:
        cache.close()


def recipe(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that others do."""
    for _ in range(1000):
        if is_so():
            return
        NEVER.wait(0.02)
    raise AssertionError("it never was so")


def claim_of(client: RegistryClient, place: Repository) -> Claim:
    manifest = client.artifacts(place).find(tag_of(recipe("go")), writing=False)
    assert manifest is not None
    claim = read(manifest, recipe("go"), Notary(KEY))
    assert isinstance(claim, Claim)
    return claim


def make(cache: LayerCache, name: str) -> None:
    """Make a layer, and put it there."""
    tar = make_tar({"opt/tool": name.encode() * 100})
    data = compress(tar, Compression.GZIP)
    result = LayerResult(Digest.of(tar), Digest.of(data), len(data), len(tar), members=1, newest_mtime=None)
    assert cache.keep(recipe(name), PLAN, result, BytesSource(data)) is not None


def test_who_comes_while_it_is_made_waits_for_it(caches: list[LayerCache], docker_registry: DockerRegistry) -> None:
    first, *others = caches
    docker_registry.forget()
    assert first.obtain(recipe("go"), NEVER) is None
    with ThreadPoolExecutor(len(others)) as pool:
        waiting = [pool.submit(other.obtain, recipe("go"), NEVER) for other in others]
        # Each has looked for it, has seen the claim, and has looked again.
        until(lambda: sum(tag_of(recipe("go")) in target for _, target, _ in docker_registry.requests()) > 2 * 7 + 3)
        assert not any(job.done() for job in waiting)
        make(first, "go")
        taken = [job.result(10) for job in waiting]
    assert all(layer is not None for layer in taken)
    assert [cache.taken for cache in others] == [1] * 7


@pytest.mark.parametrize("caches", [Pace(settle=1, poll=0.02, poll_most=0.1)], indirect=True)  # for a busy machine
def test_who_come_together_agree_on_one(caches: list[LayerCache]) -> None:
    names = ["go", "ko", "node"]
    makers: dict[str, list[int]] = {name: [] for name in names}

    def run(number: int) -> None:
        for name in names[number % 3 :] + names[: number % 3]:
            if caches[number].obtain(recipe(name), NEVER) is None:
                makers[name].append(number)
                make(caches[number], name)

    with ThreadPoolExecutor(len(caches)) as pool:
        list(pool.map(run, range(len(caches))))
    assert {name: len(found) for name, found in makers.items()} == dict.fromkeys(names, 1)


def test_what_went_wrong_is_left_to_others_at_once(caches: list[LayerCache]) -> None:
    first, second, *_ = caches
    assert first.obtain(recipe("go"), NEVER) is None
    first.give_up(recipe("go"))
    assert second.obtain(recipe("go"), NEVER) is None
    second.close()  # as a run that was interrupted ends
    assert caches[2].obtain(recipe("go"), NEVER) is None


def test_nobody_waits_for_a_machine_that_is_gone(place: Repository, client: RegistryClient, tmp_path: Path) -> None:
    client.artifacts(place).push(
        tag_of(recipe("go")), claim_manifest(recipe("go"), "dead", 0, Notary(KEY)), (EMPTY_BLOB,)
    )
    impatient = Pace(settle=0.01, poll=0.02, poll_most=0.05, stale=0.3)
    waiter = LayerCache(client, place, Cache(tmp_path / "w"), NullReporter(), notary=Notary(KEY), pace=impatient)
    began = time.monotonic()
    assert waiter.obtain(recipe("go"), NEVER) is None
    assert 0.3 <= time.monotonic() - began < 5
    waiter.close()


def test_a_machine_at_work_says_so(place: Repository, client: RegistryClient, tmp_path: Path) -> None:
    lively = Pace(settle=0.01, beat=0.02)
    worker = LayerCache(client, place, Cache(tmp_path / "w"), NullReporter(), notary=Notary(KEY), pace=lively)
    assert worker.obtain(recipe("go"), NEVER) is None
    until(lambda: claim_of(client, place).beat >= 3)
    make(worker, "go")
    assert worker.find(recipe("go")) is not None
    worker.close()


def test_patience_is_with_machines_at_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("kobuild.layercache.waiting.time.monotonic", lambda: now[0])
    patience = Patience(Pace(stale=90, longest=1000))
    waits = []
    for moment, nonce, beat in ((0, "a", 0), (80, "a", 1), (160, "a", 2), (249, "a", 2), (251, "a", 2), (252, "b", 2)):
        now[0] = moment
        waits.append(patience.waits_for(Claim(recipe("go"), nonce, beat, is_proved=True)))
    assert waits == [True, True, True, True, False, True]
    now[0] = 1001
    assert not patience.waits_for(Claim(recipe("go"), "b", 99, is_proved=True))


def test_a_claim_without_proof_holds_up_nobody(
    caches: list[LayerCache], place: Repository, client: RegistryClient
) -> None:
    manifest = claim_manifest(recipe("go"), "stranger", 0, Notary("the key of somebody else"))
    client.artifacts(place).push(tag_of(recipe("go")), manifest, (EMPTY_BLOB,))
    began = time.monotonic()
    assert caches[0].obtain(recipe("go"), NEVER) is None
    assert time.monotonic() - began < 5


def test_a_layer_that_cannot_be_kept_holds_up_nobody(caches: list[LayerCache]) -> None:
    first, second, *_ = caches
    assert first.obtain(recipe("go"), NEVER) is None
    landing = tuple(f"{number:09}" for number in range(100_000))  # no registry takes a manifest of that size
    result = LayerResult(Digest.of(b"x"), Digest.of(b"x"), 1, 1, members=1, newest_mtime=None, landing=landing)
    assert first.keep(recipe("go"), PLAN, result, BytesSource(b"x")) is None
    assert second.obtain(recipe("go"), NEVER) is None
    second.give_up(recipe("go"))


def test_a_machine_says_so_while_it_sends_the_layer(place: Repository, client: RegistryClient, tmp_path: Path) -> None:
    lively = Pace(settle=0.01, beat=0.02)
    worker = LayerCache(client, place, Cache(tmp_path / "w"), NullReporter(), notary=Notary(KEY), pace=lively)
    assert worker.obtain(recipe("go"), NEVER) is None
    seen: list[int] = []

    class Slow:
        repository = None

        def open(self) -> AbstractContextManager[Readable]:
            before = claim_of(client, place).beat
            until(lambda: claim_of(client, place).beat > before + 1)
            seen.append(before)
            return BytesSource(b"x").open()

    result = LayerResult(Digest.of(b"x"), Digest.of(b"x"), 1, 1, members=1, newest_mtime=None)
    assert worker.keep(recipe("go"), PLAN, result, Slow()) is not None
    assert seen
    assert worker.find(recipe("go")) == result
    worker.close()


def test_an_interrupt_ends_the_wait(caches: list[LayerCache]) -> None:
    assert caches[0].obtain(recipe("go"), NEVER) is None
    interrupted = threading.Event()
    interrupted.set()
    with pytest.raises(StoppedError):
        caches[1].obtain(recipe("go"), interrupted)


def test_an_upload_that_is_interrupted_leaves_the_layer_to_others(caches: list[LayerCache]) -> None:
    assert caches[0].obtain(recipe("go"), NEVER) is None
    result = LayerResult(Digest.of(b"tar"), Digest.of(b"layer"), 5, 3, members=1, newest_mtime=None)
    with pytest.raises(StoppedError):
        caches[0].keep(recipe("go"), PLAN, result, _Interrupted())
    caches[0].give_up(recipe("go"))
    assert caches[1].obtain(recipe("go"), NEVER) is None


class _Interrupted:
    """A layer whose reading stops."""

    repository = None

    def open(self) -> AbstractContextManager[Readable]:
        stopped = threading.Event()
        stopped.set()
        return stoppable(BytesSource(b"layer").open(), stopped)


@pytest.mark.parametrize("ever", [False, True])
def test_a_repository_that_may_not_be_looked_into_before_it_is_there(tmp_path: Path, ever: bool) -> None:
    """Some registries answer 403 for what does not exist yet; some logins may write and not read."""

    def is_refused(seen: Seen) -> bool:
        return seen.method == "GET" and "/layers/manifests/" in seen.path and (ever or not fake.manifests)

    with run_fake() as fake:
        fake.faults.append(Fault(is_refused, Reply(403), times=99))
        transport = Transport()
        client = RegistryClient(transport, AnonymousKeychain())
        place = Reference.parse(f"{fake.host}/team/layers").repository
        one, two = (
            LayerCache(client, place, Cache(tmp_path / name), NullReporter(), notary=Notary(KEY), pace=QUICK)
            for name in ("one", "two")
        )
        assert one.obtain(recipe("go"), NEVER) is None
        make(one, "go")
        assert (two.obtain(recipe("go"), NEVER) is None) is ever
        one.close()
        two.close()
        transport.close()


@pytest.fixture
def scripted() -> Iterator[FakeRegistry]:
    with run_fake() as registry:
        yield registry


@pytest.fixture
def machine(client: RegistryClient, scripted: FakeRegistry, tmp_path: Path) -> Iterator[Callable[[str], LayerCache]]:
    """Makes machines that share a layer cache in the scripted registry."""
    place = Reference.parse(f"{scripted.host}/team/layers").repository
    made: list[LayerCache] = []

    def make_one(name: str) -> LayerCache:
        made.append(LayerCache(client, place, Cache(tmp_path / name), NullReporter(), notary=Notary(KEY), pace=QUICK))
        return made[-1]

    yield make_one
    for cache in made:
        cache.close()


def test_a_registry_that_stores_something_else_stops_no_build(
    machine: Callable[[str], LayerCache], scripted: FakeRegistry
) -> None:
    scripted.behaviour.digest_header = lambda _digest: f"sha256:{'0' * 64}"
    cache = machine("one")
    assert cache.obtain(recipe("go"), NEVER) is None
    assert cache.place is None


def test_a_record_that_is_refused_holds_up_nobody(machine: Callable[[str], LayerCache], scripted: FakeRegistry) -> None:
    scripted.faults.append(
        Fault(lambda seen: seen.method == "PUT" and RECORD_TYPE.encode() in seen.body, Reply(400), times=9)
    )
    one = machine("one")
    assert one.obtain(recipe("go"), NEVER) is None
    result = LayerResult(Digest.of(b"x"), Digest.of(b"x"), 1, 1, members=1, newest_mtime=None)
    assert one.keep(recipe("go"), PLAN, result, BytesSource(b"x")) is None
    assert machine("two").obtain(recipe("go"), NEVER) is None


def test_who_writes_claims_again_and_again_holds_up_nobody_for_good(
    place: Repository, client: RegistryClient, tmp_path: Path
) -> None:
    """Whoever can write to the repository can write any claim that he has seen over ours."""
    over = threading.Event()

    def disturb() -> None:
        beat = 0
        while not over.wait(0.01):
            beat += 1
            manifest = claim_manifest(recipe("go"), "other", beat, Notary(KEY))
            client.artifacts(place).push(tag_of(recipe("go")), manifest, (EMPTY_BLOB,))

    pace = Pace(settle=0.2, poll=0.02, poll_most=0.05, longest=0.5)
    waiter = LayerCache(client, place, Cache(tmp_path / "w"), NullReporter(), notary=Notary(KEY), pace=pace)
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(waiter.obtain, recipe("go"), NEVER).result(10) is None
    finally:
        over.set()
        thread.join()
    waiter.close()


def test_only_a_cache_that_is_written_to_has_a_place(place: Repository, client: RegistryClient, tmp_path: Path) -> None:
    places = [
        LayerCache(client, place, Cache(tmp_path), NullReporter(), notary=Notary(KEY), mode=mode).place for mode in Mode
    ]
    assert places == [place, None, None]
