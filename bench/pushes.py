"""kobuild's whole job, done by kobuild and by the program that it began as."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import Command, Trial, python_environ, run
from bench.world import World
from tests.support.commandline import Kobuild

_SETTINGS = """
[image]
base        = "{base}"
target      = "{target}"
compression = "{compression}"
workdir     = "/workspace"
path        = ["/usr/local/go/bin"]
env         = {{ CGO_ENABLED = "0", GOFLAGS = "-trimpath" }}

[tools.go]
source  = "go"
root    = "/usr/local"

[tools.ko]
source  = "github:ko-build/ko"
root    = "/usr/local/bin"
only    = ["ko"]
"""


def environ_of(world: World) -> dict[str, str]:
    """The person's own environment, without their logins, pointed at loopback."""
    dropped = ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "GITHUB_TOKEN", "KOBUILD_GITHUB_TOKEN")
    kept = {name: value for name, value in python_environ(world.folder).items() if name not in dropped}
    return {**kept, **world.upstream.environ}


@dataclass
class Push:
    """What all pushes share: a new target for each run, and the size of the layer that came there."""

    world: World
    target: str = field(default="", init=False)

    def renew(self) -> str:
        self.target = self.world.new_target()
        return self.target

    def size_bytes(self) -> int:
        return self.world.go_layer_bytes(self.target)


def new_folder(world: World, name: str) -> Path:
    """An empty folder of that name."""
    folder = world.folder / name.replace(":", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class KobuildPush(Push):
    """`kobuild push` in a project of its own."""

    def __init__(self, world: World, compression: str) -> None:
        super().__init__(world)
        self.compression = compression

    def begin(self) -> Command:
        """Without cache and lock, to a new target."""
        folder = new_folder(self.world, f"kobuild-{self.compression}")
        kobuild = Kobuild(folder, folder / "cache", environ_of(self.world))
        text = _SETTINGS.format(base=self.world.base, target=self.renew(), compression=self.compression)
        kobuild.settings(text)
        return Command(kobuild.command("push"), folder, kobuild.variables())

    def trial(self) -> Trial:
        return Trial(f"kobuild {self.compression}", self.begin, self.size_bytes)


class OriginalPush(Push):
    """The program in whose place kobuild stands: a build of it that reads its addresses from the same variables."""

    def __init__(self, world: World, program: Path) -> None:
        super().__init__(world)
        self.program = program

    def begin(self) -> Command:
        """With no litter of earlier runs: it leaves its temporary files behind."""
        folder = new_folder(self.world, "original")
        argv = [str(self.program), "-base", self.world.base, "-target", self.renew()]
        return Command(argv, folder, {**environ_of(self.world), "TMPDIR": str(folder)})

    def trial(self) -> Trial:
        return Trial(self.program.name, self.begin, self.size_bytes)


def again(push: KobuildPush | OriginalPush) -> Trial:
    """The same push once more, nothing having changed since the first, which is not timed."""
    commands: list[Command] = []

    def begin() -> Command:
        if not commands:
            commands.append(push.begin())
            run(commands[0])
        return commands[0]

    return Trial(push.trial().name, begin, push.size_bytes)
