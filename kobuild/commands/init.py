"""`kobuild init`: write the first files of a project."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from kobuild.commands.output import print_json
from kobuild.commands.shared import tell
from kobuild.errors import UsageError
from kobuild.frozen import frozen
from kobuild.oci.reference import Reference
from kobuild.scaffold.detect import DEFAULT_BASE, find_base, find_platforms, find_target, local_target
from kobuild.scaffold.files import NOXFILE, WORKFLOW, Start
from kobuild.streams import atomic_write

_NOXFILE_LINES: Final = "add `from kobuild import noxsessions` and `noxsessions.register()` to it"


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument("--base", metavar="REF", help="what the image starts from (default: as the Dockerfile has it)")
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="REF",
        help="where it is pushed to (default: by the git remote)",
    )
    parser.add_argument(
        "--platform", action="append", default=[], metavar="OS/ARCH", help="what it is for; may be repeated"
    )
    parser.add_argument("--force", action="store_true", help="also replace files that are there already")


def run(arguments: argparse.Namespace) -> int:
    """Write what is not there yet."""
    folder = Path(arguments.directory or ".")
    if not folder.is_dir():
        raise UsageError(f"--directory {folder}: not a folder")
    start = _start(arguments, folder)
    done = _write(start.files(), folder, force=arguments.force)
    tell(arguments, "\n".join([*done.lines(), "", *_next_steps(start, done, arguments)]))
    if arguments.json:
        print_json({"written": done.written, "kept": done.kept, "base": start.base, "target": list(start.targets)})
    else:
        print("\n".join(done.written))
    return 0


def _start(arguments: argparse.Namespace, folder: Path) -> Start:
    path = PurePosixPath(arguments.file)
    if path.is_absolute() or ".." in path.parts or "${{" in arguments.file:
        raise UsageError(f"--file {arguments.file}: expected a path in the project, which its workflow can name too")
    targets = arguments.target or [find_target(folder) or local_target(folder)]
    for target in targets:
        Reference.parse(target)
    return Start(
        settings=arguments.file,
        base=arguments.base or find_base(folder) or DEFAULT_BASE,
        targets=targets,
        platforms=arguments.platform or find_platforms(),
    )


@frozen
class _Done:
    written: list[str]
    kept: list[str]

    def lines(self) -> list[str]:
        kept = [f"kept {name}, which was there already{_advice(name)}" for name in self.kept]
        return [*(f"wrote {name}" for name in self.written), *kept]


def _advice(name: str) -> str:
    return f": {_NOXFILE_LINES}" if name == NOXFILE else ""


def _write(files: Mapping[str, str], folder: Path, *, force: bool) -> _Done:
    done = _Done([], [])
    for name, text in files.items():
        path = folder / name
        if (path.exists() or path.is_symlink()) and not force:
            done.kept.append(name)
            continue
        atomic_write(path, text.encode())
        done.written.append(name)
    return done


def _next_steps(start: Start, done: _Done, arguments: argparse.Namespace) -> list[str]:
    """What is left to do, for a person."""
    if not done.written:
        return ["nothing to do; --force would replace these files"]
    steps = ["`nox -s build` builds the image into dist/image, and writes kobuild.lock: commit that too."]
    if (
        start.settings in done.written
        and not arguments.target
        and Reference.parse(start.targets[0]).registry.is_loopback
    ):
        steps.append(
            f"{start.settings}: no git remote tells where the image belongs; set `target` before `nox -s push`."
        )
    else:
        steps.append(f"`nox -s push` pushes it to {' and '.join(start.targets)}.")
    if WORKFLOW in done.written and start.needs_login:
        steps.append("The workflow logs in with the secrets REGISTRY_USERNAME and REGISTRY_PASSWORD of the repository.")
    steps.append("`.nox/` and `dist/` belong into .gitignore.")
    return ["Next:", *(f"  {step}" for step in steps)]
