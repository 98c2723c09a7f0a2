"""Runners that share nothing but a registry: each has a cache of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kobuild import cli
from kobuild.layercache.waiting import Pace
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
from kobuild.registry.tagged import TaggedArtifacts
from tests.support.registry import DockerRegistry

KEY = "a key that nobody could guess"


@dataclass
class Shop:
    """One project, as many runners see it, and the layer cache that they share."""

    folder: Path
    registry: DockerRegistry
    client: RegistryClient
    capsys: pytest.CaptureFixture[str]
    room: str
    err: str = field(default="", init=False)
    """What the last run wrote to standard error."""

    @property
    def layers(self) -> str:
        return f"{self.room}/layers"

    @property
    def artifacts(self) -> TaggedArtifacts:
        return self.client.artifacts(Reference.parse(self.layers).repository)

    def write(self, *, image: str = "", sources: str = "", tools: int = 2, cache: str | None = None) -> None:
        """The settings: some one-file tools on nothing."""
        tables = ""
        for number in range(tools):
            (self.folder / f"tool{number}").write_text(f"#!/bin/sh\necho {number}\n" * 200)
            tables += f'\n[tools.t{number}]\nsource = "path:tool{number}"\nroot = "/opt"\n'
        (self.folder / "kobuild.toml").write_text(
            f'[image]\nbase = "scratch"\ntarget = "{self.room}/app:1"\n{image}\n{tables}\n'
            f'[sources]\nlayer-cache = "{cache or self.layers}"\n{sources}\n'
        )

    def run(self, command: str, runner: str, *words: str, code: int = 0) -> dict[str, Any]:
        """Run a command as one of the runners."""
        self.capsys.readouterr()
        common = ["--json", "-f", str(self.folder / "kobuild.toml"), f"--cache-dir={self.folder / runner}"]
        where = ["-o", f"oci:{self.folder / runner}-image"] if command == "build" else []
        assert cli.main([command, *common, *where, *words]) == code
        out, self.err = self.capsys.readouterr()
        return dict(json.loads(out)) if code == 0 else {}

    def push(self, runner: str, *words: str, code: int = 0) -> dict[str, Any]:
        return self.run("push", runner, *words, code=code)

    def sent(self, repository: str) -> list[str]:
        """Blobs that were sent to one of the room's repositories since the registry's log was begun anew."""
        wanted = f"/v2/{self.room.partition('/')[2]}/{repository}/blobs/uploads/"
        return [target for method, target, _ in self.registry.requests() if method == "PUT" and wanted in target]

    def read(self) -> list[str]:
        """Blobs that were read."""
        seen = self.registry.requests()
        return [target for method, target, status in seen if method == "GET" and "/blobs/" in target and status == 200]


def kinds(result: dict[str, Any]) -> list[str]:
    """How each layer came: new, cached or shared."""
    layers = [layer for item in result["platforms"] for layer in item["layers"]]
    return ["shared" if layer["shared"] else "cached" if layer["cached"] else "new" for layer in layers]


@pytest.fixture
def shop(
    tmp_path: Path,
    docker_registry: DockerRegistry,
    client: RegistryClient,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Shop:
    monkeypatch.setenv("KOBUILD_LAYER_CACHE_KEY", KEY)
    # What two machines on a slow line need, nobody waits for here.
    monkeypatch.setattr("kobuild.layercache.shared.Pace", lambda: Pace(settle=0.01, poll=0.02, poll_most=0.1))
    made = Shop(
        tmp_path, docker_registry, client, capsys, f"{docker_registry.host}/{tmp_path.name.replace('_', '-').lower()}"
    )
    made.write()
    made.run("resolve", "a")
    docker_registry.forget()
    return made
