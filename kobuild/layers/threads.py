"""The threads that overlap a layer's stages, and the queues between them.

Every stage works on large buffers inside libraries that release the interpreter's lock. What a stage makes never
depends on timing: blocks are cut by size alone and collected in order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

from kobuild.layers.budget import SPARE_BUFFERS
from kobuild.layers.sparse import Buffer

T = TypeVar("T")

_END: Final = None
_OWN_BLOCKS: Final = 2
"""One is filled while the other is worked on."""


class Prefetch(Generic[T]):
    """An iterator that runs ahead of its consumer in a thread of its own, by at most `depth` items.

    A context manager: leaving it stops the thread and closes the iterator within it.
    """

    def __init__(self, items: Iterator[T], depth: int) -> None:
        self._items = items
        self._ready: SimpleQueue[tuple[T] | None] = SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="kobuild-prefetch", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._consume()

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._room.release()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._room.acquire()
            for item in self._items:
                self._ready.put((item,))
                self._room.acquire()
                if self._stopped:
                    break
        except BaseException as error:  # noqa: BLE001 - it is raised again where the items are used
            self._error = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
            self._ready.put(_END)

    def _consume(self) -> Iterator[T]:
        while (holder := self._ready.get()) is not _END:
            self._room.release()
            yield holder[0]
        if self._error is not None:
            raise self._error


class Block:
    """A buffer that travels through the stages and is used again."""

    __slots__ = ("last", "length", "marks", "output", "ready", "view")

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(size))
        self.length = 0
        self.last = False
        """Whether no other block follows."""
        self.marks: list[Any] = []
        """What the writer notes of places in the buffer, for its own stages."""
        self.output: list[Any] = []
        """What `encode` made of it."""
        self.ready = threading.Event()

    @property
    def filled(self) -> memoryview:
        """The bytes in use."""
        return self.view[: self.length]

    def extend(self, pieces: Iterable[Buffer]) -> None:
        """Add bytes, for which there must be room."""
        view, at = self.view, self.length
        for piece in pieces:
            start, at = at, at + len(piece)
            view[start:at] = piece
        self.length = at


class Pipeline:
    """Blocks through `digest`, then `encode` in several threads (where there is any), then `collect`, in order.

    There are at most `blocks` of them, made as they are needed. Two are the pipeline's own; for each of the others
    there must be room in the budget that all pipelines share. The first error of any stage is raised by the next
    `take`, or by `close`.
    """

    def __init__(
        self,
        *,
        block_bytes: int,
        blocks: int,
        digest: Callable[[Block], None],
        collect: Callable[[Block], None],
        encode: Callable[[Block], None] | None = None,
        workers: int = 0,
    ) -> None:
        self._block_bytes = block_bytes
        self._most_blocks = blocks
        self._blocks: list[Block] = []
        self._free: SimpleQueue[Block] = SimpleQueue()
        self._error: BaseException | None = None
        self._to_digest: SimpleQueue[Block | None] = SimpleQueue()
        self._to_encode: SimpleQueue[Block | None] = SimpleQueue()
        self._to_collect: SimpleQueue[Block | None] = SimpleQueue()
        self._digest = digest
        self._encode = encode or _do_nothing
        self._collect = collect
        self._workers = workers if encode else 0
        runs = [self._run_digest, self._run_collect, *[self._run_encode] * self._workers]
        self._threads = [threading.Thread(target=run, name="kobuild-layer", daemon=True) for run in runs]
        for thread in self._threads:
            thread.start()

    def take(self) -> Block:
        """An empty block; waits for one where no more can be made."""
        block = self._free.get() if self._free.qsize() or not self._may_grow() else self._make_block()
        if self._error is not None:
            raise self._error
        block.length = 0
        block.last = False
        block.marks.clear()
        block.output.clear()
        return block

    def submit(self, block: Block) -> None:
        """Hand a filled block to the stages."""
        self._to_digest.put(block)

    def close(self) -> None:
        """Wait until all is done; raises what went wrong."""
        self.stop()
        if self._error is not None:
            raise self._error

    def abort(self, error: BaseException) -> None:
        """Stop without doing what is still waiting."""
        if self._error is None:
            self._error = error
        self.stop()

    def stop(self) -> None:
        """End and join the threads, and free the blocks; more than once does no harm."""
        self._to_digest.put(_END)
        for thread in self._threads:
            thread.join()
        # The stages are methods of this pipeline's owner: a circle, and the garbage collector may not come soon.
        self._digest = self._collect = self._encode = _do_nothing
        SPARE_BUFFERS.give_back(self._block_bytes * max(0, len(self._blocks) - _OWN_BLOCKS))
        self._blocks.clear()
        self._free = SimpleQueue()

    def _may_grow(self) -> bool:
        count = len(self._blocks)
        return count < _OWN_BLOCKS or (count < self._most_blocks and SPARE_BUFFERS.try_take(self._block_bytes))

    def _make_block(self) -> Block:
        block = Block(self._block_bytes)
        self._blocks.append(block)
        return block

    def _attempt(self, work: Callable[[Block], None], block: Block) -> None:
        if self._error is None:
            try:
                work(block)
            except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
                self._error = error

    def _run_digest(self) -> None:
        while (block := self._to_digest.get()) is not _END:
            block.ready.clear()
            if self._workers:
                self._to_encode.put(block)
            self._attempt(self._digest, block)
            self._to_collect.put(block)
        for _ in range(self._workers):
            self._to_encode.put(_END)
        self._to_collect.put(_END)

    def _run_encode(self) -> None:
        while (block := self._to_encode.get()) is not _END:
            self._attempt(self._encode, block)
            block.ready.set()

    def _run_collect(self) -> None:
        while (block := self._to_collect.get()) is not _END:
            if self._workers:
                block.ready.wait()
            self._attempt(self._collect, block)
            self._free.put(block)


def _do_nothing(_: Block) -> None:
    """The stage of a pipeline that has none, or has ended."""
