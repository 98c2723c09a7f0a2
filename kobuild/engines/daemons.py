"""docker and podman, whose command lines are the same as far as they are needed here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kobuild.engines.model import EngineUnfit, Outcome
from kobuild.engines.programs import CHECK_SECONDS, FAILED_ITSELF, last_lines, must_run, must_work, run_program
from kobuild.frozen import frozen
from kobuild.oci.platforms import Platform

_CANNOT_INVOKE: Final = (126, 127)
_RUNTIME_SAID: Final = re.compile(r"^(?:Error|docker): .*\b(?:crun|runc|OCI)\b", re.MULTILINE)
_ABOUT_THE_PROGRAM: Final = re.compile(r"\bexec|executable", re.IGNORECASE)


@frozen
class RunEngine:
    """An engine with `load`, `run` and `rmi`."""

    name: str
    environ: Mapping[str, str]

    def check(self) -> None:
        """Raise EngineUnfit where it is not installed, or where its service does not answer."""
        must_work(self.name, self.environ)

    @contextmanager
    def take(self, archive: Path, name: str, platform: Platform) -> Iterator[LoadedImage]:
        """Hand an image over; it loses its name again at the end, and goes where it has no other."""
        must_run([self.name, "load", "--input", str(archive)], self.environ, f"load the image into {self.name}")
        try:
            yield LoadedImage(self, name, platform)
        finally:
            run_program([self.name, "rmi", name], self.environ, CHECK_SECONDS)


@frozen
class LoadedImage:
    """An image that docker or podman holds."""

    engine: RunEngine
    name: str
    platform: Platform

    def run(self, command: Sequence[str], seconds: float) -> Outcome:
        """Run a program in a container without network; raises EngineUnfit where none can be started."""
        engine = self.engine
        container = self.name.replace("/", "-").replace(":", "-")
        options = ["--rm", "--name", container, "--pull", "never", "--network", "none"]
        options += ["--platform", str(self.platform), "--entrypoint", command[0]]
        done = run_program([engine.name, "run", *options, self.name, *command[1:]], engine.environ, seconds)
        if done.code is None:
            # The client was stopped; its container is the service's, and may live on.
            run_program([engine.name, "rm", "--force", container], engine.environ, CHECK_SECONDS)
        if done.code == FAILED_ITSELF or (done.code in _CANNOT_INVOKE and _is_runtimes_fault(done.output)):
            raise EngineUnfit(f"{engine.name} cannot start a container here: {last_lines(done.output, 1)}")
        return done


def _is_runtimes_fault(output: str) -> bool:
    """Whether the low-level runtime complains of the machine: then 126 and 127 are not about the program."""
    said = _RUNTIME_SAID.search(output)
    return said is not None and _ABOUT_THE_PROGRAM.search(output[said.start() :]) is None
