"""buildah: runs a program in an image where no container can be started, as in most CI jobs.

Its isolation is `chroot`, which needs neither a daemon nor a low-level runtime, unless BUILDAH_ISOLATION says otherwise
(buildah-run(1), "--isolation"). A chroot shares the machine's network and processes.
"""

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

_CHROOT: Final = "chroot"
_EPILOGUE: Final = re.compile(
    r"(?:subprocess exited (?:with status \d+|on \w+)\n?|process exited with error: exec: not started)"
    r"|^Error: exit status \d+$",
    re.MULTILINE,
)
"""What buildah adds to the output of a program that failed."""
_NOT_STARTED: Final = "process failed to start with error"
_NOT_FOUND: Final = 127
_CANNOT_BE_INVOKED: Final = 126
_NO_RUNTIME: Final = "error running container: from"


@frozen
class Buildah:
    """buildah with the user's own storage."""

    environ: Mapping[str, str]

    @property
    def name(self) -> str:
        """The program's name."""
        return "buildah"

    @property
    def isolation(self) -> str:
        """How programs are kept apart from the machine."""
        return self.environ.get("BUILDAH_ISOLATION") or _CHROOT

    def check(self) -> None:
        """Raise EngineUnfit where it is not installed or cannot use its storage."""
        must_work(self.name, self.environ)

    @contextmanager
    def take(self, archive: Path, name: str, platform: Platform) -> Iterator[WorkingContainer]:
        """Hand an image over; it loses its name again at the end, and goes where it has no other."""
        action = "hand the image to buildah"
        place = ["--platform", str(platform)]
        must_run([self.name, "pull", "--quiet", *place, f"docker-archive:{archive}"], self.environ, action)
        try:
            yield WorkingContainer(self, name, platform)
        finally:
            run_program([self.name, "rmi", name], self.environ, CHECK_SECONDS)


@frozen
class WorkingContainer:
    """An image that buildah holds; each program has a working container of its own."""

    engine: Buildah
    name: str
    platform: Platform

    def run(self, command: Sequence[str], seconds: float) -> Outcome:
        """Run a program in the image's root; raises EngineUnfit where buildah cannot."""
        engine = self.engine
        made = ["from", "--quiet", "--pull-never", "--platform", str(self.platform), self.name]
        said = must_run([engine.name, *made], engine.environ, "make a working container")
        container = said.splitlines()[-1].strip() if said else ""
        # A network of its own is not for a chroot to give: buildah refuses the wish.
        options = ["--isolation", engine.isolation, *(() if engine.isolation == _CHROOT else ("--network", "none"))]
        try:
            done = run_program([engine.name, "run", *options, container, "--", *command], engine.environ, seconds)
        finally:
            run_program([engine.name, "rm", container], engine.environ, CHECK_SECONDS)
        if done.code == FAILED_ITSELF or _NO_RUNTIME in done.output:
            raise EngineUnfit(f"buildah cannot run anything here: {last_lines(done.output, 2)}")
        return _without_epilogue(done)


def _without_epilogue(done: Outcome) -> Outcome:
    """What the program itself said; one that could not be started has the exit code that a shell gives for that."""
    output = _EPILOGUE.sub("", done.output).strip()
    code = done.code
    if code and _NOT_STARTED in output:
        code = _CANNOT_BE_INVOKED if "permission denied" in output else _NOT_FOUND
    return Outcome(code, output, done.seconds)
