"""A small project whose image was just pushed to a real registry from here, so that it can be attested."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kobuild import cli
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
from tests.support.registry import DockerRegistry

SETTINGS = """
[image]
base = "scratch"
target = "{target}"
platforms = {platforms}
[tools.files]
source = "path:files"
root = "/opt"
{more}
"""


@dataclass
class PushedProject:
    """Its folder, its image's reference, and ways to run commands on it in this process."""

    folder: Path
    reference: Reference
    client: RegistryClient
    capsys: pytest.CaptureFixture[str]
    platforms: str = '["linux/amd64", "linux/arm64"]'

    def settings(self, more: str = "") -> None:
        """Write the settings, with more tables at the end."""
        text = SETTINGS.format(target=self.reference, platforms=self.platforms, more=more)
        (self.folder / "kobuild.toml").write_text(text)

    def run(self, command: str, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        self.capsys.readouterr()
        code = cli.main([command, "-q", "-C", str(self.folder), *arguments])
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err

    def ok(self, command: str, *arguments: str) -> str:
        """Run, insist that it went well, and return the standard output."""
        code, out, err = self.run(command, *arguments)
        assert code == 0, err
        return out

    @property
    def digest(self) -> Digest:
        """Of what the reference points at."""
        return self.client.get_manifest(self.reference).digest

    def attached(self, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """What refers to the image."""
        return self.client.referrers(self.reference.repository).find(self.digest, artifact_type)

    def artifact(self, descriptor: Descriptor) -> tuple[Manifest, bytes]:
        """An artifact's manifest and its only blob."""
        manifest = self.client.get_manifest(self.reference.with_digest(descriptor.digest))
        assert isinstance(manifest, Manifest)
        (layer,) = manifest.layers
        with self.client.open_blob(self.reference.repository, layer) as file:
            return manifest, file.read()


def push_project(
    tmp_path: Path, registry: DockerRegistry, client: RegistryClient, capsys: pytest.CaptureFixture[str], more: str = ""
) -> PushedProject:
    """A project in `tmp_path`, pushed."""
    folder = tmp_path / "project"
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "a").write_text("a")
    name = tmp_path.name.replace("_", "-").lower()
    project = PushedProject(folder, Reference.parse(f"{registry.host}/{name}/ci:1"), client, capsys)
    project.settings(more)
    project.ok("push")
    return project


def parse(text: str) -> Any:
    """JSON that a command printed."""
    return json.loads(text)
