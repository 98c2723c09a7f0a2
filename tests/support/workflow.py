"""Runs a workflow's jobs as GitHub does, as far as a fleet's workflow needs it: each on a machine of its own.

This project's action runs by its own steps; checkout, and uploading and downloading artifacts, are played; shell steps
are run.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.expressions import as_text, condition, evaluate, interpolate
from tests.support.runner import Ran, Runner, read_outputs

_FROM_JSON = re.compile(r"\$\{\{\s*fromJSON\((.*)\)\s*\}\}")


@dataclass
class Workflow:
    """One run of one workflow."""

    document: Mapping[str, Any]
    folder: Path
    """Where the machines are."""
    new_runner: Callable[[Path], Runner]
    """A machine in that folder, with what is checked out."""
    contexts: Mapping[str, Any]
    """`github` and `secrets`."""
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of each job that has run."""
    ran: list[tuple[str, Mapping[str, str], Ran]] = field(default_factory=list)
    """Each run of the action: the job, its part of the matrix, and how it went."""

    def run(self) -> None:
        """Run all jobs, in the file's order, which must be one that their needs allow."""
        for name, job in self.document["jobs"].items():
            needed = [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
            needs = {other: {"outputs": self.outputs[other]} for other in needed if other in self.outputs}
            contexts = {**self.contexts, "needs": needs}
            if len(needs) == len(needed) and condition(job.get("if", "true"), contexts):
                self.outputs[name] = {}
                for part in self._parts(job, contexts):
                    self.outputs[name] = self._job(name, job, {**contexts, "matrix": part})

    def _parts(self, job: Mapping[str, Any], contexts: Mapping[str, Any]) -> list[dict[str, str]]:
        matrix = job.get("strategy", {}).get("matrix")
        if matrix is None:
            return [{}]
        expression = _FROM_JSON.fullmatch(matrix)
        assert expression is not None, matrix
        parts: list[dict[str, str]] = json.loads(evaluate(expression[1], contexts))["include"]
        return parts

    def _job(self, name: str, job: Mapping[str, Any], contexts: Mapping[str, Any]) -> dict[str, str]:
        runner = self.new_runner(self.folder / f"{name}-{len(self.ran)}")
        local = {**contexts, "steps": {}, "runner": {"os": "Linux", "temp": str(runner.temporary)}}
        for step in job["steps"]:
            outputs = self._step(name, step, local, runner)
            if "id" in step:
                local["steps"][step["id"]] = {"outputs": outputs}
        return {key: interpolate(value, local) for key, value in job.get("outputs", {}).items()}

    def _step(self, job: str, step: Mapping[str, Any], contexts: Mapping[str, Any], runner: Runner) -> dict[str, str]:
        inputs = {key: interpolate(as_text(value), contexts) for key, value in step.get("with", {}).items()}
        action = step.get("uses", "").partition("@")[0]
        if action == "kobuild/kobuild":
            ran = runner.run(**inputs)
            self.ran.append((job, contexts["matrix"], ran))
            assert ran.code == 0, ran.log
            return ran.outputs
        if action == "actions/upload-artifact":
            place = self.folder / "artifacts" / inputs["name"]
            place.mkdir(parents=True)
            shutil.copy(inputs["path"], place)
        elif action == "actions/download-artifact":
            for artifact in sorted((self.folder / "artifacts").iterdir()):
                if fnmatch.fnmatchcase(artifact.name, inputs["pattern"]):
                    shutil.copytree(artifact, Path(inputs["path"]) / artifact.name)
        elif action != "actions/checkout":
            return _shell(step, contexts, runner)
        return {}


def _shell(step: Mapping[str, Any], contexts: Mapping[str, Any], runner: Runner) -> dict[str, str]:
    output = runner.temporary / "shell-output"
    output.write_text("")
    environ = {key: interpolate(as_text(value), contexts) for key, value in step.get("env", {}).items()}
    subprocess.run(
        ["bash", "-eo", "pipefail", "-c", interpolate(step["run"], contexts)],
        env={**os.environ, "RUNNER_TEMP": str(runner.temporary), "GITHUB_OUTPUT": str(output), **environ},
        cwd=runner.workspace,
        check=True,
    )
    return read_outputs(output.read_text())
