"""The commands that explain an image, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kobuild import cli
from kobuild.image.mutate import gather
from kobuild.oci.reference import Reference
from kobuild.registry import Artifact, RegistryClient
from tests.support.archives import Entry
from tests.support.images import layout_of
from tests.support.registry import DockerRegistry
from tests.support.toolimages import base_image, tool, tool_image


def test_inspect_needs_no_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout_of(tmp_path / "out", tool_image(base_image(), [tool("go", "1.2", [Entry("go/bin/go", b"12345")])]))
    assert cli.main(["inspect", "-C", str(tmp_path), "oci:out", "--files", "1"]) == 0
    out = capsys.readouterr().out
    assert "go 1.2 under /usr/local" in out
    assert "100 B  /usr/bin/sh  (layer 1)" in out
    assert cli.main(["inspect", "-C", str(tmp_path), "oci:out", "--files", "--layer", "2", "--json", "-q"]) == 0
    (image,) = json.loads(capsys.readouterr().out)["images"]
    assert [item["path"] for item in image["files"]] == ["/usr/local/go/bin/go"]


def test_inspect_of_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", f"oci:{tmp_path}/none"]) == 1
    assert "not an OCI image layout" in capsys.readouterr().err
    assert cli.main(["inspect", "--offline", "registry.test/a:1"]) == 2
    assert "--offline forbids the network" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["inspect", "--files", "0"])


def test_inspect_a_pushed_image(
    registry: DockerRegistry, client: RegistryClient, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = Reference.parse(f"{registry.host}/cli/inspect:1")
    client.push(gather([tool_image(base_image(), [tool("go", "1.2", [Entry("go/bin/go", b"12345")])])]), [reference])
    assert cli.main(["inspect", str(reference)]) == 0
    assert f"docker://{reference}" in capsys.readouterr().out


def test_mirrors_of_the_settings_count_where_there_are_some(
    registry: DockerRegistry, client: RegistryClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirrored = Reference.parse(f"{registry.host}/mirror/team/tool:1")
    client.push(gather([tool_image(base_image(), [tool("go", "1.2", [Entry("go/bin/go", b"12345")])])]), [mirrored])
    settings = f'[image]\nbase = "scratch"\n[sources.mirrors]\n"registry.test" = ["{registry.host}/mirror"]\n'
    (tmp_path / "kobuild.toml").write_text(settings + '[tools.go]\nsource = "go"\n')
    assert cli.main(["inspect", "-q", "-C", str(tmp_path), "registry.test/team/tool:1"]) == 0
    assert "go 1.2 under /usr/local" in capsys.readouterr().out
    (tmp_path / "kobuild.toml").write_text("broken")
    assert cli.main(["inspect", "-q", "-C", str(tmp_path), str(mirrored)]) == 0
    assert "cannot be read, so that no mirrors" in capsys.readouterr().err


def test_inspect_lists_what_the_registry_has_about_an_image(
    registry: DockerRegistry, client: RegistryClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = Reference.parse(f"{registry.host}/cli/artifacts:1")
    images = gather([base_image()])
    client.push(images, [reference])
    assert cli.main(["inspect", "--artifacts", str(reference)]) == 0
    assert "no artifacts" in capsys.readouterr().out
    artifact = Artifact.make(images.descriptor, "application/vnd.example", (), {"note": "x"})
    client.referrers(reference.repository).push(artifact)
    assert cli.main(["inspect", "--artifacts", str(reference)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split() == ["application/vnd.example", "linux/amd64", str(artifact.manifest.digest)]
    assert cli.main(["inspect", "--artifacts", "--json", str(reference)]) == 0
    (item,) = json.loads(capsys.readouterr().out)["artifacts"]
    assert (item["subject"], item["annotations"]) == (str(images.descriptor.digest), {"note": "x"})
    layout_of(tmp_path / "out", base_image())
    assert cli.main(["inspect", "-q", "--artifacts", f"oci:{tmp_path}/out"]) == 2
    assert "is not in a registry" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["inspect", "diff"])
def test_a_settings_file_that_is_named_gives_its_mirrors_and_must_be_whole(
    registry: DockerRegistry, client: RegistryClient, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    mirrored = Reference.parse(f"{registry.host}/{command}/team/tool:1")
    client.push(gather([tool_image(base_image(), [tool("go", "1.2", [Entry("go/bin/go", b"12345")])])]), [mirrored])
    settings = '[image]\nbase = "scratch"\n[sources]\nmirrors-only = true\n[sources.mirrors]\n"registry.test" = '
    (tmp_path / "site.toml").write_text(f'{settings}["{registry.host}/{command}"]\n')
    images = ["registry.test/team/tool:1"] * (2 if command == "diff" else 1)
    assert cli.main([command, "-q", "-C", str(tmp_path), "-f", "site.toml", *images]) == 0
    capsys.readouterr()
    (tmp_path / "site.toml").write_text("broken")
    for file in ("site.toml", "missing.toml"):
        assert cli.main([command, "-q", "-C", str(tmp_path), "-f", file, *images]) == 2
        assert file in capsys.readouterr().err


def test_what_lies_here_is_read_without_the_network_s_code(tmp_path: Path) -> None:
    layout_of(tmp_path / "out", base_image())
    code = "import sys; from kobuild import cli; cli.main(sys.argv[1:]); print('requests' in sys.modules)"
    command = [sys.executable, "-c", code, "inspect", "-q", f"oci:{tmp_path}/out"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("command", ["sbom", "provenance"])
def test_what_is_attached_is_written_to_no_file(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "registry.example.com/a", "--attach", "-o", "x.json"]) == 2
    assert "--attach and --output" in capsys.readouterr().err
