"""The action's logic: inputs from the environment to one nox session, its JSON result to the step's outputs.

It stands here, and not in `action.yml`, so that it can be tested; it uses the standard library alone.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMANDS = ("resolve", "build", "push", "verify")
ROOT = Path(__file__).resolve().parent.parent


def lines(text: str) -> list[str]:
    """The non-empty lines of a multi-line input."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def arguments(environ: Mapping[str, str]) -> list[str]:
    """The command and its arguments; raises ValueError for an input that cannot be meant."""

    def get(name: str) -> str:
        return environ.get(f"KOBUILD_ACTION_{name}", "").strip()

    command = get("COMMAND") or "push"
    if command not in COMMANDS:
        raise ValueError(f"input command: expected one of {', '.join(COMMANDS)}, got {command!r}")
    locked = get("LOCKED") or "false"
    if locked not in ("true", "false"):
        raise ValueError(f"input locked: expected true or false, got {locked!r}")
    result = [command, "--json"]
    result += [f"--directory={get('WORKING_DIRECTORY') or '.'}", f"--file={get('FILE') or 'kobuild.toml'}"]
    if locked == "true":
        result.append("--locked")
    if command in ("build", "push"):
        result += [f"--platform={platform}" for platform in lines(get("PLATFORMS"))]
    if command == "push":
        result += [f"--target={target}" for target in lines(get("TARGET"))]
        result += [f"--tag={tag}" for tag in lines(get("TAGS"))]
    if command == "build" and get("OUTPUT"):
        result.append(f"--output={get('OUTPUT')}")
    return result


def run_session(session: list[str], workspace: Path) -> tuple[int, str]:
    """Run a nox session; returns its exit code and what it wrote to standard output."""
    command, *rest = session
    # Relative folders are meant from the workspace, while nox works from the action's own folder.
    directory = next(item for item in rest if item.startswith("--directory="))
    absolute = workspace / directory.partition("=")[2]
    rest = [f"--directory={absolute}" if item is directory else item for item in rest]
    nox = [sys.executable, "-m", "nox", "--noxfile", str(ROOT / "noxfile.py"), "--session", command, "--", *rest]
    done = subprocess.run(nox, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout


def write_outputs(path: Path, outputs: Mapping[str, str]) -> None:
    """Append to the step's output file, each value between delimiters that it cannot contain."""
    with path.open("a", encoding="utf-8") as file:
        for name, value in outputs.items():
            delimiter = f"kobuild-{secrets.token_hex(16)}"
            file.write(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def outputs_of(result: Mapping[str, Any]) -> dict[str, str]:
    """What the step gives: the digest and the first reference."""
    images = result.get("images") or [""]
    return {"digest": str(result.get("digest", "")), "image": str(images[0])}


def main() -> int:
    """Run the session that the inputs ask for; returns the exit code."""
    try:
        session = arguments(os.environ)
    except ValueError as error:
        print(f"::error::{error}")
        return 2
    code, text = run_session(session, Path(os.environ.get("GITHUB_WORKSPACE") or "."))
    if code == 0 and "GITHUB_OUTPUT" in os.environ:
        write_outputs(Path(os.environ["GITHUB_OUTPUT"]), outputs_of(json.loads(text)))
    sys.stdout.write(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
