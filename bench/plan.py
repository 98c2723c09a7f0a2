"""What a run measures, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import layers, manylayers
from bench.generated import Shape, make_archive
from bench.measure import Group, Trial, compare
from bench.peers import peers_on_path
from bench.pushes import KobuildPush, OriginalPush, again
from bench.world import Inputs, World, real_inputs, run_world, small_inputs
from tests.support.loads import Loads

PARTS = ("layer", "push", "again", "bytes", "members", "layers", "large")
_MB = 1_000_000
_LARGE = {
    "a 2 GB archive": Shape(members=2_000, member_bytes=_MB),
    "200,000 members": Shape(members=200_000, member_bytes=500),
    "one member of 1 GB": Shape(members=1, member_bytes=1_000 * _MB),
}
_Part = tuple[str, Sequence[Trial]]


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    inputs: Path
    """Where inputs are made and kept."""
    folder: Path
    """Where runs write."""
    rounds: int
    quick: bool
    large: bool
    only: tuple[str, ...]
    in_memory: bool
    """Whether the registry's storage is in memory."""
    originals: tuple[tuple[str, Path], ...]
    """Compression and program."""

    def wants(self, part: str) -> bool:
        return part in self.only if self.only else (part != "large" or self.large)


def groups(options: Options, say: Callable[[str], None]) -> Iterator[Group]:
    """Measure part by part."""
    say("making the inputs")
    inputs = small_inputs(options.folder / "small") if options.quick else real_inputs(Loads(options.inputs))
    with run_world(inputs, options.folder, on_disk=not options.in_memory) as world:
        for title, trials in _parts(options, inputs, world):
            yield compare(title, trials, options.rounds, say, warm_up=not options.quick)


def _parts(options: Options, inputs: Inputs, world: World) -> Iterator[_Part]:
    if options.wants("layer"):
        yield "the Go layer alone, from disk to disk", layers.beside_igzip(inputs.go_archive, options.folder)
    if options.wants("push"):
        yield from _pushes(options, world)
    if options.wants("again"):
        yield "the same push again, nothing changed", _again(options, world)
    yield from _growth(options, world)
    if options.wants("large"):
        for title, shape in _LARGE.items():
            yield title, layers.each_format(make_archive(options.inputs, shape), options.folder)


def _pushes(options: Options, world: World) -> Iterator[_Part]:
    formats = [KobuildPush(world, compression).trial() for compression in layers.FORMATS]
    originals = _originals(options, world, "gzip")
    yield "push from an empty cache", [formats[0], *originals, *peers_on_path(world), *formats[1:]]
    if others := _originals(options, world, "estargz"):
        yield "push from an empty cache, eStargz", [KobuildPush(world, "estargz").trial(), *others]


def _originals(options: Options, world: World, wanted: str) -> list[Trial]:
    return [OriginalPush(world, program).trial() for compression, program in options.originals if compression == wanted]


def _again(options: Options, world: World) -> list[Trial]:
    originals = [again(OriginalPush(world, program)) for _, program in options.originals]
    return [again(KobuildPush(world, "gzip")), *originals]


def _growth(options: Options, world: World) -> Iterator[_Part]:
    folder = options.folder / "small" if options.quick else options.inputs
    unit = 1_000 if options.quick else _MB
    if options.wants("bytes"):
        shapes = [Shape(256, size * unit) for size in _steps(options, 0, 1, 2, 4)]
        yield "how a layer's cost grows with bytes", layers.growth(shapes, folder, options.folder)
    if options.wants("members"):
        shapes = [Shape(count * unit // 1000, 0) for count in _steps(options, 1, 25, 50, 100)]
        yield "how a layer's cost grows with members", layers.growth(shapes, folder, options.folder)
    if options.wants("layers"):
        shape = Shape(16, unit)
        yield "how a push's cost grows with layers", manylayers.growth(world, _steps(options, 1, 4, 16), shape, folder)


def _steps(options: Options, *steps: int) -> tuple[int, ...]:
    """How far to go: all the steps, and in a quick run the first two."""
    return steps[:2] if options.quick else steps
