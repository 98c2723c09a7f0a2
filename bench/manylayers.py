"""`kobuild push` of more and more layers of one size."""

from __future__ import annotations

from pathlib import Path

from bench.generated import Shape, make_archive
from bench.measure import Command, Trial
from bench.pushes import Push, environ_of, new_folder
from bench.world import World
from tests.support.commandline import Kobuild


class LayersPush(Push):
    """Each tool is a copy of one archive under a root of its own: as much work, and not one byte shared."""

    def __init__(self, world: World, count: int, archive: Path) -> None:
        super().__init__(world)
        self.count = count
        self.archive = archive

    def begin(self) -> Command:
        folder = new_folder(self.world, "layers")
        (folder / self.archive.name).symlink_to(self.archive)
        kobuild = Kobuild(folder, folder / "cache", environ_of(self.world))
        kobuild.settings(f'[image]\nbase = "{self.world.base}"\ntarget = "{self.renew()}"\n' + self._tools())
        return Command(kobuild.command("push"), folder, kobuild.variables())

    def _tools(self) -> str:
        return "".join(
            f'[tools.t{number}]\nsource = "path:{self.archive.name}"\nroot = "/opt/t{number}"\n'
            for number in range(self.count)
        )

    def trial(self) -> Trial:
        return Trial(f"{self.count} layers", self.begin, self.size_bytes)


def growth(world: World, counts: tuple[int, ...], shape: Shape, inputs: Path) -> list[Trial]:
    """One row a number of layers."""
    archive = make_archive(inputs, shape)
    return [LayersPush(world, count, archive).trial() for count in counts]
