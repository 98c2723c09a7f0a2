"""Blocks in flight: as many as are quick where one layer is made, few for each where there are many."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import threading
import weakref
from collections.abc import Iterator

import pytest

from kobuild.layers import threads
from kobuild.layers.budget import Budget, limit_arenas
from kobuild.layers.plainwriter import GzipWriter, ZstdWriter
from kobuild.layers.plan import LayerPlan
from kobuild.layers.threads import Block, Pipeline
from kobuild.layers.writer import LayerWriter
from kobuild.layers.zstdchunked import ZstdChunkedWriter
from kobuild.oci.mediatypes import Compression
from tests.support.archives import Entry, make, make_tar_gz

KB = 1024


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch) -> Budget:
    """A budget for two blocks beyond each pipeline's own."""
    budget = Budget(2 * KB)
    monkeypatch.setattr(threads, "SPARE_BUFFERS", budget)
    return budget


def open_pipeline(gate: threading.Event, blocks: int = 6) -> Pipeline:
    """One whose blocks stay in it until the gate opens."""
    return Pipeline(block_bytes=KB, blocks=blocks, digest=lambda _: None, collect=lambda _: _wait(gate))


def _wait(gate: threading.Event) -> None:
    assert gate.wait(10)


@pytest.mark.usefixtures("spare")
def test_a_pipeline_makes_blocks_as_it_needs_them() -> None:
    gate = threading.Event()
    gate.set()
    pipeline = open_pipeline(gate, blocks=3)
    seen: set[int] = set()
    for _ in range(20):
        block = pipeline.take()
        seen.add(id(block))
        pipeline.submit(block)
    pipeline.close()
    assert len(seen) <= 3


def test_all_pipelines_share_what_is_spare(spare: Budget) -> None:
    gate = threading.Event()
    first, second = open_pipeline(gate), open_pipeline(gate)
    for _ in range(4):
        first.submit(first.take())
    for _ in range(2):
        second.submit(second.take())  # its own
    assert not spare.try_take(1)
    took = threading.Thread(target=lambda: second.submit(second.take()))
    took.start()
    took.join(0.05)
    assert took.is_alive()  # waits for one of its own
    gate.set()
    took.join(10)
    first.close()
    assert spare.try_take(2 * KB)
    second.close()


def test_blocks_that_were_never_used_cost_nothing(spare: Budget) -> None:
    open_pipeline(threading.Event()).close()
    assert spare.try_take(2 * KB)


def test_what_went_wrong_gives_back_everything(spare: Budget) -> None:
    def fail(_: Block) -> None:
        raise OSError("disk full")

    pipeline = Pipeline(block_bytes=KB, blocks=6, digest=lambda _: None, collect=fail)

    def fill() -> None:
        for _ in range(100):
            pipeline.submit(pipeline.take())

    with pytest.raises(OSError, match="disk full"):
        fill()
    pipeline.abort(OSError())
    pipeline.abort(OSError())
    assert spare.try_take(2 * KB)


@pytest.mark.parametrize("compression", list(Compression))
def test_a_layer_is_the_same_with_nothing_to_spare(compression: Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_tar_gz([Entry("a", os.urandom(3_000_000)), Entry("b", b"b" * 5_000_000), Entry("c", b"c")])
    plan = LayerPlan(root="/r", compression=compression)
    usual = make(archive, plan)
    for place in ("threads", "plainwriter"):
        monkeypatch.setattr(f"kobuild.layers.{place}.SPARE_BUFFERS", Budget(0))
    assert make(archive, plan).blob == usual.blob


def test_a_third_zstd_layer_waits_for_one_of_two() -> None:
    first, second = ZstdWriter(io.BytesIO()), ZstdWriter(io.BytesIO())
    third: list[ZstdWriter] = []
    opening = threading.Thread(target=lambda: third.append(ZstdWriter(io.BytesIO())))
    opening.start()
    opening.join(0.05)
    assert not third
    for writer in (first, second):
        writer.finish()
        writer.close()
    opening.join(10)
    third[0].finish()
    third[0].close()


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("kind", [GzipWriter, ZstdWriter, ZstdChunkedWriter])
@pytest.mark.parametrize("ends_well", [True, False])
def test_a_writer_is_freed_without_the_garbage_collector(kind: type[LayerWriter], *, ends_well: bool) -> None:
    """A short run of kobuild collects garbage rarely, and has a writer of many megabytes for each layer."""
    writer = kind(io.BytesIO())
    if ends_well:
        writer.finish()
    else:
        writer.abort(OSError())
    writer.close()
    watched = weakref.ref(writer)
    del writer
    assert watched() is None


def test_arenas_are_limited_without_harm() -> None:
    limit_arenas()
    assert hashlib.sha256(bytes(10_000_000)).digest_size == 32
