"""The commands that explain an image, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kobuild import cli
from kobuild.image.mutate import gather
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
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
