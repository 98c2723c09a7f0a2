"""verify's --run: each tool's `test` is run inside the image, by a container engine where there is one."""

from __future__ import annotations

import secrets
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from kobuild.engines.choosing import can_run, find_engines
from kobuild.engines.model import Engine, EngineUnfit, Handed, Outcome
from kobuild.engines.programs import last_lines
from kobuild.errors import Finding, UsageError
from kobuild.frozen import frozen
from kobuild.image.blobs import Layer
from kobuild.image.choose import choose_manifest, read_config
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.image.store import ImageStore
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.progress import Reporter
from kobuild.settings.model import ToolSettings
from kobuild.store.cache import Cache
from kobuild.store.cachedsource import CachedSource
from kobuild.store.dockerarchive import write_docker_archive

DEFAULT_SECONDS: Final = 120.0
"""How long one test may take."""
_SHOWN_LINES: Final = 6
_NAME: Final = "localhost/kobuild-verify"
_REPAIR: Final = "choose another with --engine, or let this one run containers"
_NOT_STARTED: Final = frozenset({126, 127})


@frozen
class ToolRun:
    """One tool's test, as it went on one platform."""

    platform: Platform
    tool: str
    command: str
    """As it stands in the settings."""
    engine: str
    outcome: Outcome

    @property
    def is_good(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.outcome.code == 0


@frozen
class RunReport:
    """What was run, and what could not be."""

    runs: tuple[ToolRun, ...]
    skipped: tuple[Platform, ...]
    """Platforms that this machine cannot run."""
    findings: tuple[Finding, ...]


@frozen
class Trial:
    """How tests are run."""

    tools: tuple[ToolSettings, ...]
    engine: str | None
    """Which engine; None takes the first that works."""
    seconds: float
    environ: Mapping[str, str]
    reporter: Reporter
    cache: Cache
    """What it has of a remote image is not fetched once more."""
    runs_here: Callable[[Platform], bool] = can_run


def run_tests(trial: Trial, store: ImageStore, platforms: Sequence[Platform]) -> RunReport:
    """Run every tool's test in the image of each platform that this machine can run.

    Raises UsageError where no tool has a test or no platform can be run, EngineUnfit where no engine works, and what
    reading the image raises.
    """
    tools = [tool for tool in trial.tools if tool.test]
    if not tools:
        raise UsageError("--run: no tool of the settings has a test", hint='give one, such as test = "go version"')
    fit = [platform for platform in platforms if trial.runs_here(platform)]
    if not fit:
        raise UsageError(
            f"--run: this machine runs no program for {', '.join(map(str, platforms))}",
            hint="run it on such a machine, or install QEMU's emulators for binfmt_misc",
        )
    engines = list(find_engines(trial.engine, trial.environ))
    runs: list[ToolRun] = []
    with tempfile.TemporaryDirectory(prefix="kobuild-run-", ignore_cleanup_errors=True) as folder:
        for platform in fit:
            runs += _run_all(trial, engines, _hand_over(trial, store, platform, Path(folder)), tools)
    skipped = tuple(platform for platform in platforms if platform not in fit)
    return RunReport(tuple(runs), skipped, tuple(find_faults(runs)))


@frozen
class _Archived:
    """One platform's image in a form that engines take."""

    platform: Platform
    archive: Path
    name: str


def _hand_over(trial: Trial, store: ImageStore, platform: Platform, folder: Path) -> _Archived:
    """Write the image for engines to load, every layer verified once more on its way.

    Its name is its own: what the person's engine has under other names is neither used nor touched.
    """
    manifest = choose_manifest(store, store.root(), platform)
    config = read_config(store, manifest)
    pairs = zip(manifest.layers, config.diff_ids, strict=True)
    layers = tuple(
        Layer(item, CachedSource(trial.cache, item, store.source(item), keep=False), diff_id) for item, diff_id in pairs
    )
    name = f"{_NAME}:{secrets.token_hex(8)}"
    images = gather([Image(manifest, config, layers)])
    path = folder / "image.tar"
    write_docker_archive(path, images, references=[Reference.parse(name)], reporter=trial.reporter)
    return _Archived(platform, path, name)


def _run_all(trial: Trial, engines: list[Engine], image: _Archived, tools: Sequence[ToolSettings]) -> list[ToolRun]:
    """Run the tests with the first engine that works; those that do not are taken out of the list."""
    failures: list[str] = []
    while engines:
        engine = engines[0]
        try:
            engine.check()
            with engine.take(image.archive, image.name, image.platform) as handed:
                return [_run_one(trial, engine, handed, image.platform, tool) for tool in tools]
        except EngineUnfit as error:
            failures.append(str(error))
            engines.remove(engine)
            if engines:
                trial.reporter.warning(f"{error}; trying {engines[0].name}")
    raise EngineUnfit(f"run the tools' tests: {'; '.join(failures)}", hint=_REPAIR)


def _run_one(trial: Trial, engine: Engine, handed: Handed, platform: Platform, tool: ToolSettings) -> ToolRun:
    outcome = handed.run(shlex.split(tool.test), trial.seconds)
    run = ToolRun(platform, tool.name, tool.test, engine.name, outcome)
    trial.reporter.notice(f"{tool.name} on {platform}: {tool.test}: {_ending(outcome)}")
    return run


def find_faults(runs: Sequence[ToolRun]) -> Iterator[Finding]:
    """A finding for each test that did not end well."""
    for run in runs:
        if not run.is_good:
            place = f"test of tool {run.tool} on {run.platform}, with {run.engine}"
            found = f"{_ending(run.outcome)}: {last_lines(run.outcome.output, _SHOWN_LINES)}"
            yield Finding(place, f"exit code 0 of `{run.command}`", found, _remedy(run.outcome))


def _ending(outcome: Outcome) -> str:
    if outcome.code is None:
        return f"no end after {outcome.seconds:.0f} s"
    return f"exit code {outcome.code} after {outcome.seconds:.1f} s"


def _remedy(outcome: Outcome) -> str:
    if outcome.code is None:
        return "give the tool a quicker `test`, or more time with --timeout"
    if outcome.code in _NOT_STARTED:
        return (
            "the program is not where the image's PATH leads, or cannot be started: look at the tool's `root` and "
            "`only`, at `image.path`, and whether the base has the libraries and the interpreter that it needs"
        )
    return "see what the tool says; where the test asks too much, change the tool's `test`"
