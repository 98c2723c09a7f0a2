"""The action's logic: inputs from the environment to nox sessions, their JSON results to the step's outputs.

It stands here, and not in `action.yml`, so that it can be tested. It uses the standard library alone: when it runs,
nothing is installed yet.

    plan   where the cache is, and under which key, for actions/cache
    run    the sessions, in an environment of their own
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import secrets
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMANDS = ("resolve", "build", "push", "verify", "all", "matrix", "index")
ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / ".github" / "constraints.txt"
NOXFILE = ROOT / ".github" / "action_noxfile.py"
EXTRAS = ("google", "proof", "sbom", "sign")
"""The extras of pyproject.toml, each with the versions of constraints-EXTRA.txt; Python 3.10 cannot read TOML."""
PIP_OPTIONS = ("--quiet", "--no-compile", "--disable-pip-version-check", "--no-input")
PREFIX = "KOBUILD_ACTION_"
CACHE_VERSION = 1
"""Raised when the cache's own format changes, so that old ones are not restored."""
EXIT_USAGE = 2


class InputError(Exception):
    """An input that cannot be meant."""


def lines(text: str) -> list[str]:
    """The non-empty lines of a multi-line input."""
    return [line.strip() for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class Inputs:
    """The action's inputs, by their names in `action.yml`."""

    values: Mapping[str, str]

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Inputs:
        """Take them from the environment; raises InputError for what cannot be meant."""
        given = {name: value.strip() for name, value in environ.items() if name.startswith(PREFIX)}
        inputs = cls({name.removeprefix(PREFIX).lower().replace("_", "-"): value for name, value in given.items()})
        if inputs.command not in COMMANDS:
            raise InputError(f"input command: expected one of {', '.join(COMMANDS)}, got {inputs.command!r}")
        for name in ("locked", "check", "by-digest", "pushed", "cache"):
            inputs.flag(name)
        if bool(inputs.get("username")) != bool(inputs.get("password")):
            raise InputError("inputs username and password: one of them is missing")
        if inputs.get("password") and not inputs.get("registry"):
            raise InputError("input registry: say which registry username and password are for")
        unknown = [extra for extra in inputs.extras if extra not in EXTRAS]
        if unknown:
            raise InputError(f"input extras: expected some of {', '.join(EXTRAS)}, one a line, got {unknown[0]!r}")
        return inputs

    def get(self, name: str, default: str = "") -> str:
        """One input's text."""
        return self.values.get(name) or default

    def flag(self, name: str) -> bool:
        """One input that is true or false."""
        text = self.get(name, "false")
        if text not in ("true", "false"):
            raise InputError(f"input {name}: expected true or false, got {text!r}")
        return text == "true"

    def each(self, name: str, option: str) -> list[str]:
        """An option for each line of an input, in one word, so that no line is taken for another option."""
        return [f"{option}={line}" for line in lines(self.get(name))]

    @property
    def command(self) -> str:
        """What to run."""
        return self.get("command", "push")

    @property
    def extras(self) -> tuple[str, ...]:
        """Which of kobuild's extras are installed with it."""
        return tuple(sorted(set(lines(self.get("extras")))))

    def folder(self, environ: Mapping[str, str]) -> Path:
        """The folder to work in; the workspace is what workflows mean by a relative one."""
        workspace = Path(environ.get("GITHUB_WORKSPACE") or ".")
        return (workspace / self.get("working-directory", ".")).absolute()


def session_arguments(command: str, inputs: Inputs, folder: Path, pushed: str = "") -> list[str]:
    """The arguments of one session; `pushed` is what an `all` has pushed, for its verify."""
    result = ["--json", f"--directory={folder}"]
    if command == "matrix":
        since = [f"--since={inputs.get('since')}"] if inputs.get("since") else []
        held = ["--pushed"] if inputs.flag("pushed") else []
        options = [*since, *held, *_layer_cache(inputs), *inputs.each("runners", "--runner")]
        return [*result, *options, "--", *lines(inputs.get("file", "kobuild.toml"))]
    result.append(f"--file={inputs.get('file', 'kobuild.toml')}")
    if command == "index":
        return [*result, *_destinations(inputs), "--", *lines(inputs.get("digests"))]
    result += inputs.each("platforms", "--platform") if command != "resolve" else []
    if command == "verify":
        image = pushed or inputs.get("image")
        return [*result, "--", image] if image else result
    result += inputs.each("versions", "--pin")
    result += ["--locked"] if inputs.flag("locked") else []
    if command == "resolve":
        return [*result, *_resolve_options(inputs)]
    result += _layer_cache(inputs)
    if command == "build":
        return [*result, f"--output={inputs.get('output')}"] if inputs.get("output") else result
    return [*result, *_destinations(inputs), *(["--by-digest"] if inputs.flag("by-digest") else [])]


def _layer_cache(inputs: Inputs) -> list[str]:
    # Workflows write `github.repository` into it, which may have capitals; no registry's repository has.
    return [f"--layer-cache={inputs.get('layer-cache').lower()}"] if inputs.get("layer-cache") else []


def _destinations(inputs: Inputs) -> list[str]:
    return [*inputs.each("target", "--target"), *inputs.each("tags", "--tag")]


def _resolve_options(inputs: Inputs) -> list[str]:
    check = ["--markdown", *(["--check"] if inputs.flag("check") else [])]
    tools = lines(inputs.get("upgrade"))
    if not tools or tools == ["false"]:
        return check
    if any(tool.startswith("-") for tool in tools):
        raise InputError(f"input upgrade: not tools: {' '.join(tools)!r}")
    return [*check, "--upgrade", *([] if tools == ["true"] else tools)]


def commands_of(inputs: Inputs) -> list[str]:
    """The sessions that the input asks for, in order."""
    if inputs.command != "all":
        return [inputs.command]
    return ["resolve", *(["build"] if inputs.get("output") else []), "push", "verify"]


def cache_plan(inputs: Inputs, environ: Mapping[str, str]) -> dict[str, str]:
    """Where the cache is and its key: what decides the layers, after what decides how they are compressed."""
    folder = environ.get("KOBUILD_CACHE_DIR") or str(Path(environ["RUNNER_TEMP"]) / "kobuild-cache")
    if not inputs.flag("cache") or inputs.command in ("matrix", "index"):
        return {"cache-dir": folder}
    settings = inputs.folder(environ) / inputs.get("file", "kobuild.toml")
    hasher = hashlib.sha256()
    for path in (settings, settings.with_suffix(".lock")):
        data = path.read_bytes() if path.is_file() else b""
        hasher.update(b"%d\n%b" % (len(data), data))
    prefix = f"kobuild-{CACHE_VERSION}-{environ.get('RUNNER_OS', '')}-{environ.get('RUNNER_ARCH', '')}-"
    # One prefix a settings file: what another image has left is a start, but this image's own is a better one.
    image = hashlib.sha256(inputs.get("file", "kobuild.toml").encode()).hexdigest()[:8]
    own = f"{prefix}{image}-"
    key = f"{own}{hasher.hexdigest()[:32]}"
    return {"cache-dir": folder, "cache-key": key, "restore-keys": f"{own}\n{prefix}"}


@dataclass
class Outputs:
    """The step's outputs, gathered from the sessions' results."""

    values: dict[str, str] = field(default_factory=dict)

    def add(self, command: str, result: Mapping[str, Any], inputs: Inputs, folder: Path) -> None:
        """Take over what a session has told."""
        platforms = result.get("platforms") or []
        if command == "matrix":
            self.values["matrix"] = json.dumps({"include": result["include"]})
            self.values["images"] = json.dumps({"include": result["images"]})
            self.values["changed"] = _boolean(bool(result["include"]))
        elif command == "resolve":
            self._add_versions({name: tool["version"] for name, tool in result.get("tools", {}).items()})
            self.values["changed"] = _boolean(bool(result["changes"]))
        elif command != "verify" or inputs.command == "verify":
            self._add_image(result, platforms, by_digest=command == "push" and inputs.flag("by-digest"))
            self._add_versions(
                {layer["tool"]: layer["version"] for item in platforms for layer in item.get("layers", ())}
            )
        if command == "build":
            output = inputs.get("output", "oci:dist/image")
            self.values["layout"] = str(folder / output.partition(":")[2])
        if command != "verify" or inputs.command == "verify":
            self.values["result"] = json.dumps(result)

    def _add_image(
        self, result: Mapping[str, Any], platforms: Sequence[Mapping[str, Any]], *, by_digest: bool = False
    ) -> None:
        images = [str(image) for image in result.get("images") or [f"{result.get('subject')}@{result.get('digest')}"]]
        tags = [image.rpartition("@")[0] for image in images]
        self.values |= {
            "digest": str(result.get("digest", "")),
            "image": images[0],
            "name": _without_tag(tags[0]),
            "tags": "" if by_digest else "\n".join(tags),
        }
        if platforms:
            self.values["image-id"] = str(platforms[0].get("image_id", ""))
        if "changed" in result:
            self.values["changed"] = _boolean(bool(result["changed"]))

    def _add_versions(self, versions: Mapping[str, str]) -> None:
        if versions:
            self.values["versions"] = json.dumps(versions)


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _without_tag(reference: str) -> str:
    """A reference's repository: a colon after the last slash begins a tag, one before it a port."""
    head, slash, last = reference.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def write_outputs(environ: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Append to the step's output file, each value between delimiters that it cannot contain.

    A lone surrogate, which JSON may name but UTF-8 cannot write, becomes a question mark.
    """
    name = environ.get("GITHUB_OUTPUT")
    if not name:
        return
    with Path(name).open("a", encoding="utf-8", errors="replace") as file:
        for key, value in outputs.items():
            delimiter = f"kobuild-{secrets.token_hex(16)}"
            file.write(f"{key}<<{delimiter}\n{value}\n{delimiter}\n")


def environment_folder(environ: Mapping[str, str], extras: Sequence[str] = ()) -> Path:
    """Where the environment is: one for each place that the action is run from, since a job may use two releases."""
    place = hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:8]
    return Path(environ["RUNNER_TEMP"]) / "-".join(["kobuild-action", place, *extras])


def environment_python(folder: Path, extras: Sequence[str] = ()) -> Path:
    """The Python of an environment that holds nox, kobuild and its extras; made once a job."""
    python = folder / "venv" / "bin" / "python"
    done = folder / "ready"
    if not done.is_file():
        alone = not own_pip_is_enough()
        venv.create(folder / "venv", with_pip=alone, clear=True, symlinks=True)
        pip = (
            [str(python), "-I", "-m", "pip"] if alone else [sys.executable, "-I", "-m", "pip", "--python", str(python)]
        )
        for wanted in requirements(extras):
            # In a folder of our own: Python and pip would take modules and files from a checkout's.
            subprocess.run(
                [*pip, "install", *PIP_OPTIONS, *wanted], check=True, cwd=folder, env=install_environ(os.environ)
            )
        done.touch()
    return python


def install_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip sees: the index that the job is configured for, and none of kobuild's secrets, by input or not."""
    return {
        name: value for name, value in environ.items() if name != "GITHUB_TOKEN" and not name.startswith("KOBUILD_")
    }


def own_pip_is_enough() -> bool:
    """Whether the pip of this Python can install into another environment, which it can since 22.3."""
    try:
        found = re.match(r"(\d+)\.(\d+)", importlib.metadata.version("pip"))
    except importlib.metadata.PackageNotFoundError:
        return False
    return found is not None and (int(found[1]), int(found[2])) >= (22, 3)


def requirements(extras: Sequence[str] = ()) -> Iterator[list[str]]:
    """What pip is given, a run each: the versions that were tested together; Python 3.10 has older ones of its own.

    Nothing is resolved or built but kobuild itself, by the build backend that is among those versions.
    """
    if tuple(sys.version_info) < (3, 11):
        yield ["pip", "nox", f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)]
        return
    files = [CONSTRAINTS, *(CONSTRAINTS.with_name(f"constraints-{extra}.txt") for extra in extras)]
    # A package that two extras need stands in both files, and pip wants to be told once.
    listed = dict.fromkeys(line for file in files for line in lines(file.read_text(encoding="utf-8")))
    yield ["--no-deps", "--only-binary=:all:", *(line for line in listed if not line.startswith("#"))]
    yield ["--no-deps", "--no-build-isolation", str(ROOT)]


def session_environ(inputs: Inputs, environ: Mapping[str, str]) -> dict[str, str]:
    """What sessions see: nothing of the inputs but what they need, and no login where none was given."""
    result = {name: value for name, value in environ.items() if not name.startswith(PREFIX)}
    if inputs.get("cache-dir"):
        result["KOBUILD_CACHE_DIR"] = inputs.get("cache-dir")
    if inputs.get("layer-cache-key"):
        result["KOBUILD_LAYER_CACHE_KEY"] = inputs.get("layer-cache-key")
    if inputs.get("password"):
        result["KOBUILD_REGISTRY"] = inputs.get("registry")
        result["KOBUILD_REGISTRY_USERNAME"] = inputs.get("username")
        result["KOBUILD_REGISTRY_PASSWORD"] = inputs.get("password")
    return result


def run_session(
    python: Path, command: str, arguments: Sequence[str], folder: Path, environ: Mapping[str, str]
) -> tuple[int, dict[str, Any]]:
    """Run a nox session; its exit code (nox knows only 0 and 1) and its result, empty where it told none."""
    nox = [str(python), "-I", "-m", "nox", "--noxfile", str(NOXFILE), "--envdir", str(folder / "nox")]
    done = subprocess.run(
        [*nox, "--session", command, "--", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=environ,
        cwd=folder,
    )
    if done.stdout.strip():
        show(done.stdout)
    return done.returncode, json.loads(done.stdout) if done.stdout.startswith("{") else {}


def show(text: str) -> None:
    """Write a result to the log, where the runner must not take it for commands."""
    token = secrets.token_hex(16)
    sys.stdout.write(f"::stop-commands::{token}\n{text.rstrip()}\n::{token}::\n")
    sys.stdout.flush()


def masks(inputs: Inputs) -> Iterator[str]:
    """Commands that keep secrets out of the log, though they are marked as such already as a rule."""
    for name in ("password", "layer-cache-key"):
        for line in lines(inputs.get(name)):
            yield f"::add-mask::{line.replace('%', '%25')}"


def run(environ: Mapping[str, str]) -> int:
    """Run the sessions that the inputs ask for, and write the outputs; returns the exit code."""
    inputs = Inputs.read(environ)
    for line in masks(inputs):
        print(line, flush=True)
    folder = inputs.folder(environ)
    temporary = environment_folder(environ, inputs.extras)
    python = environment_python(temporary, inputs.extras)
    outputs, code = Outputs(), 0
    for command in commands_of(inputs):
        arguments = session_arguments(command, inputs, folder, outputs.values.get("image", ""))
        code, result = run_session(python, command, arguments, temporary, session_environ(inputs, environ))
        # What `resolve --check` has found is its result, not a failure.
        if code != 0 and not (inputs.flag("check") and result.get("changes")):
            break
        outputs.add(command, result, inputs, folder)
    else:
        code = 0
    # Also where a later command failed: what was pushed is pushed, and steps with `if: always()` may need its digest.
    write_outputs(environ, outputs.values)
    return code


def plan(environ: Mapping[str, str]) -> int:
    """Tell actions/cache where the cache is."""
    if environ.get("RUNNER_OS") == "Windows":
        raise InputError("kobuild runs on Linux and macOS runners; it builds images for either there")
    write_outputs(environ, cache_plan(Inputs.read(environ), environ))
    return 0


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the part that the step asks for."""
    try:
        return {"plan": plan, "run": run}[words[0]](environ)
    except InputError as error:
        text = str(error).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        print(f"::error title=kobuild::{text}")
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
