"""Which files differ from a git revision: what was pushed from it is out of date where an input is among them.

The working tree is compared, not the newest commit, so that a person sees what is not committed yet. What git does not
keep, it cannot compare: such an input counts as changed, since an image too many costs less than one too few.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kobuild.errors import ProgramError, UsageError
from kobuild.frozen import frozen
from kobuild.sources.programs import run

if TYPE_CHECKING:
    import subprocess

_NOTHING: Final = re.compile(r"0{40}|0{64}")
"""What GitHub's `before` is for the first push of a branch (`github.event.before`)."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@frozen
class Since:
    """What differs between a revision and the working tree."""

    top: Path
    """The checkout's uppermost folder, without links."""
    names: frozenset[str]
    """What has changed, come or gone, below `top`."""

    def reason(self, inputs: Sequence[Path]) -> str | None:
        """Why an image of these inputs counts as changed; None where it does not."""
        names = [name for path in inputs for name in self._names_of(path)]
        outside = next((path for path in inputs if not self._names_of(path)), None)
        if outside is not None:
            return f"{outside} lies outside of the checkout"
        unkept = _list_unkept(self.top, names)
        for what, changed in (("changed", self.names), ("not in git", unkept)):
            found = next((item for name in names for item in sorted(changed) if _touches(item, name)), None)
            if found is not None:
                return f"{found} {what}" if what != "changed" else found
        return None

    def _names_of(self, path: Path) -> list[str]:
        """The path below `top`, as it is written and as links lead; empty where either lies outside."""
        written = Path(os.path.realpath(path.parent)) / path.name
        found = []
        for place in dict.fromkeys((written, Path(os.path.realpath(path)))):
            if not place.is_relative_to(self.top):
                return []
            found.append(place.relative_to(self.top).as_posix())
        return found


def _touches(changed: str, name: str) -> bool:
    """Whether a change is the input, lies in it, or is a folder above it that git keeps as one (a submodule)."""
    changed = changed.rstrip("/")
    return name in (".", changed) or changed.startswith(f"{name}/") or name.startswith(f"{changed}/")


def find_changes(revision: str, folder: Path) -> tuple[Since | None, str]:
    """What differs from `revision` in the checkout that `folder` lies in; None with the reason where all does.

    All does on a branch's first push (a revision of zeros), and where a full commit is not in the checkout, which is
    shallow or whose branch was pushed by force. Raises UsageError for any other name that git does not know and for a
    folder without git, ProgramError where git fails.
    """
    if _NOTHING.fullmatch(revision):
        return None, "there was nothing before"
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        raise UsageError(f"--since: {folder} is in no git checkout", hint="check the repository out with git first")
    found = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found is None and _COMMIT.fullmatch(revision):
        return None, f"commit {revision[:12]} is not in this checkout (with actions/checkout, set fetch-depth: 0)"
    if found is None:
        raise UsageError(f"--since {revision}: git knows no such revision here", hint="fetch it first, or name another")
    root = Path(os.path.realpath(top.removesuffix("\n")))
    command = ("diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=none")
    return Since(root, _split(_need(root, *command, found.strip(), "--"))), ""


def _list_unkept(top: Path, names: Iterable[str]) -> frozenset[str]:
    """Files of these inputs that git does not keep: new ones, and those that it is told to ignore."""
    return _split(_need(top, "--literal-pathspecs", "ls-files", "--others", "-z", "--", *names))


def _split(text: str) -> frozenset[str]:
    return frozenset(name for name in text.split("\0") if name)


def _need(folder: Path, *words: str) -> str:
    done = _run(folder, words)
    if done.returncode != 0:
        raise ProgramError(f"git {words[0]}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None where it refuses. Raises ProgramError where the reason is not the question."""
    done = _run(folder, words)
    if done.returncode != 0 and "dubious ownership" in done.stderr:
        raise ProgramError(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else None


def _run(folder: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        return run(["git", *words], folder=folder, environ=environ, errors="surrogateescape")
    except ProgramError as error:
        error.hint = "--since needs git on PATH"
        raise
