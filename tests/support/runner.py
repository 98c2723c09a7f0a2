"""Runs a composite action as GitHub's runner does: its shell steps are run, its `uses` steps are recorded."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.expressions import as_text, condition, interpolate
from tests.support.workflowlog import parse_command

_HEREDOC = re.compile(r"(?P<name>[^=<\s]+)<<(?P<delimiter>\S+)\Z")


@dataclass(frozen=True)
class Used:
    """A step that another action would have run."""

    action: str
    inputs: Mapping[str, str]


@dataclass
class Ran:
    """How a run of the action went."""

    code: int
    outputs: dict[str, str]
    """The action's own, as its `outputs` say."""
    log: str
    """What the shell steps wrote, both streams together."""
    summary: str
    used: list[Used]

    @property
    def commands(self) -> list[tuple[str, dict[str, str], str]]:
        """The workflow commands of the log, as the runner takes them."""
        found: list[tuple[str, dict[str, str], str]] = []
        stopped_by: str | None = None
        for line in self.log.splitlines():
            try:
                command = parse_command(line)
            except ValueError:
                continue
            if stopped_by is not None:
                stopped_by = None if command[0] == stopped_by else stopped_by
            elif command[0] == "stop-commands":
                stopped_by = command[2]
            else:
                found.append(command)
        return found


@dataclass
class Runner:
    """One job on one machine."""

    action: Path
    """The folder with `action.yml`."""
    workspace: Path
    temporary: Path
    """RUNNER_TEMP."""
    environ: dict[str, str] = field(default_factory=dict)
    token: str = "ghs_of_the_job"
    given: dict[str, dict[str, str]] = field(default_factory=dict)
    """Outputs of `uses` steps, by the name of the action without its version."""

    def run(self, **inputs: str) -> Ran:
        """Run the action with these inputs, underscores standing for dashes."""
        document = yaml.safe_load((self.action / "action.yml").read_text())
        contexts = self._contexts(document["inputs"], {name.replace("_", "-"): text for name, text in inputs.items()})
        files = self._files()
        ran = Ran(0, {}, "", "", [])
        for step in document["runs"]["steps"]:
            if not condition(step.get("if", "true"), contexts):
                continue
            outputs = self._step(step, contexts, files, ran)
            if "id" in step:
                contexts["steps"][step["id"]] = {"outputs": outputs}
            if ran.code != 0:
                break
        ran.summary = files["GITHUB_STEP_SUMMARY"].read_text()
        ran.outputs = {name: interpolate(item["value"], contexts) for name, item in document["outputs"].items()}
        return ran

    def _contexts(self, declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
        unknown = set(given) - set(declared)
        assert not unknown, f"the action has no inputs {unknown}"
        github = {"token": self.token, "action_path": str(self.action)}
        values = {
            name: given.get(name, interpolate(as_text(item.get("default", "")), {"github": github}))
            for name, item in declared.items()
        }
        return {"inputs": values, "github": github, "steps": {}, "runner": {"os": "Linux", "temp": str(self.temporary)}}

    def _files(self) -> dict[str, Path]:
        """The files that steps write to; new for each run."""
        folder = self.temporary / "_runner_file_commands"
        folder.mkdir(parents=True, exist_ok=True)
        files = {name: folder / name.lower() for name in ("GITHUB_STEP_SUMMARY", "GITHUB_ENV", "GITHUB_PATH")}
        for path in files.values():
            path.write_text("")
        return files

    def _step(
        self, step: Mapping[str, Any], contexts: Mapping[str, Any], files: Mapping[str, Path], ran: Ran
    ) -> dict[str, str]:
        if "uses" in step:
            inputs = {name: interpolate(as_text(value), contexts) for name, value in step.get("with", {}).items()}
            ran.used.append(Used(step["uses"], inputs))
            return self.given.get(step["uses"].partition("@")[0], {})
        assert step["shell"] == "bash"
        output = files["GITHUB_ENV"].with_name("github_output")
        output.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", interpolate(step["run"], contexts)],
            env=self._variables(step, contexts, {**files, "GITHUB_OUTPUT": output}),
            cwd=self.workspace,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        ran.log += done.stdout
        ran.code = done.returncode
        return read_outputs(output.read_text())

    def _variables(
        self, step: Mapping[str, Any], contexts: Mapping[str, Any], files: Mapping[str, Path]
    ) -> dict[str, str]:
        # A runner's Python keeps its bytecode; compiling it anew in each step would be waited for too.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {
            **inherited,
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(self.action),
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(self.temporary),
            "RUNNER_OS": "Linux",
            "RUNNER_ARCH": "X64",
            **self.environ,
            **{name: str(path) for name, path in files.items()},
            **{name: interpolate(as_text(value), contexts) for name, value in step.get("env", {}).items()},
        }


def read_outputs(text: str) -> dict[str, str]:
    """A GITHUB_OUTPUT file, as the runner reads it; raises ValueError for what it would refuse."""
    outputs: dict[str, str] = {}
    lines = iter(text.removesuffix("\n").split("\n") if text else [])
    for line in lines:
        heredoc = _HEREDOC.match(line)
        if heredoc is None:
            name, sign, value = line.partition("=")
            if not sign:
                raise ValueError(f"not an output: {line!r}")
            outputs[name] = value
            continue
        value_lines = []
        for inner in lines:
            if inner == heredoc["delimiter"]:
                break
            value_lines.append(inner)
        else:
            raise ValueError(f"the value of {heredoc['name']} does not end")
        outputs[heredoc["name"]] = "\n".join(value_lines)
    return outputs
