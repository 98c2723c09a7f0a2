"""A program named docker that does what a test says, for what no daemon here can show."""

from __future__ import annotations

from pathlib import Path

DOCKER = """#!/bin/sh
# A docker whose service answers, and that notes what it is asked.
echo "$*" >> {folder}/asked
case "$1" in
  info) {info} ;;
  load) {load} ;;
  run) {run} ;;
  rmi|rm) {remove} ;;
esac
"""


class ScriptedDocker:
    """The program, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def does(self, *, info: str = ":", load: str = ":", run: str = ":", remove: str = ":") -> None:
        """Shell words for each of its commands."""
        path = self.folder / "docker"
        path.write_text(DOCKER.format(folder=self.folder, info=info, load=load, run=run, remove=remove))
        path.chmod(0o755)

    @property
    def asked(self) -> list[list[str]]:
        """The words of each call."""
        path = self.folder / "asked"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []
