"""What docs/action.md gives for Renovate and pre-commit, run against real settings files."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.action.conftest import ROOT, write_project
from tests.action.test_workflows import check_schema
from tests.support.commandline import Kobuild
from tests.support.programs import require_program

GUIDE = ROOT / "docs" / "action.md"


@pytest.fixture(scope="module")
def managers() -> list[dict[str, Any]]:
    block = re.search(r"```json renovate\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert block is not None
    found: list[dict[str, Any]] = json.loads(block[1])["customManagers"]
    return found


def matches(manager: dict[str, Any], text: str) -> list[tuple[str, str]]:
    """What the manager finds: RE2's named groups are Python's, but for one letter."""
    expression = manager["matchStrings"][0].replace("(?<dep", "(?P<dep").replace("(?<cur", "(?P<cur")
    return [(found["depName"], found["currentValue"]) for found in re.finditer(expression, text)]


SETTINGS = """
[image]
target = "ghcr.io/a/b:1"
base = "localhost:5000/debian:bookworm"  # a comment

[tools.go]
source = "go"
version = "==1.27.3"

[tools.ko]
source = "github:ko-build/ko"
only = ["ko"]
version = "0.18.0"
root = "/usr/local/bin"

[tools.range]
source = "github:a/range"
version = ">=1,<2"

[tools.exact]
# a comment
source  = "github:a/exact"
version = "==2.1.0"

[tools.tag]
source = "github:a/tag"
version = "v3.0"

[tools.none]
source = "github:a/none"

[tools.other]
source = "url:https://example.test/{version}.tar.gz"
version = "9.9"
"""


def test_renovate_finds_exact_pins_and_the_base(managers: list[dict[str, Any]]) -> None:
    tools, base = managers
    assert matches(tools, SETTINGS) == [("ko-build/ko", "0.18.0"), ("a/exact", "2.1.0"), ("a/tag", "3.0")]
    assert matches(base, SETTINGS) == [("localhost:5000/debian", "bookworm")]
    real = (ROOT / "examples" / "cloud-run" / "kobuild.toml").read_text()
    assert matches(base, real) == [("gcr.io/google.com/cloudsdktool/cloud-sdk", "alpine")]
    assert matches(base, (ROOT / "kobuild.toml").read_text()) == []


NODE = """
const [expression, text] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const found = [...text.matchAll(new RegExp(expression, "g"))];
console.log(JSON.stringify(found.map((match) => [match.groups.depName, match.groups.currentValue])));
"""


def test_renovates_own_engine_finds_the_same(managers: list[dict[str, Any]]) -> None:
    node = require_program("node")
    texts = [SETTINGS, *(path.read_text() for path in [*ROOT.glob("examples/*/kobuild.toml"), ROOT / "kobuild.toml"])]
    for manager in managers:
        for text in texts:
            given = json.dumps([manager["matchStrings"][0], text])
            done = subprocess.run([node, "-e", NODE], input=given, capture_output=True, text=True, check=True)
            assert [tuple(pair) for pair in json.loads(done.stdout)] == matches(manager, text)


def test_the_configuration_fits_renovates_schema(managers: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "renovate.json"
    path.write_text(json.dumps({"customManagers": managers}))
    assert check_schema("vendor.renovate", path) == 0


def test_renovate_finds_the_base_that_init_writes(managers: list[dict[str, Any]], tmp_path: Path) -> None:
    tools, base = managers
    Kobuild(tmp_path, tmp_path / "cache").ok("init", "--base", "debian:12")
    text = (tmp_path / "kobuild.toml").read_text()
    assert matches(base, text) == [("debian", "12")]
    assert matches(tools, text) == []


def test_renovate_has_no_look_around_that_re2_lacks(managers: list[dict[str, Any]]) -> None:
    for manager in managers:
        assert not re.search(r"\(\?[=!]|\(\?<[=!]", manager["matchStrings"][0])


@pytest.mark.parametrize(
    ("name", "is_meant"),
    [("kobuild.toml", True), ("a/kobuild.toml", True), ("images/ci.toml", True), ("pyproject.toml", False)],
)
def test_renovate_looks_at_settings_files(managers: list[dict[str, Any]], name: str, is_meant: bool) -> None:
    for manager in managers:
        assert any(re.search(pattern.strip("/"), name) for pattern in manager["managerFilePatterns"]) is is_meant


def test_the_pre_commit_hook_refuses_a_lock_that_does_not_fit(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert f"id: {hook['id']}" in GUIDE.read_text()
    program, *words = shlex.split(hook["entry"])
    assert program == "kobuild"
    assert [bool(re.search(hook["files"], name)) for name in ("kobuild.toml", "a/kobuild.lock", "x.toml")] == [
        True,
        True,
        False,
    ]
    kobuild = Kobuild(write_project(tmp_path / "project"), tmp_path / "cache")
    kobuild.ok("resolve")
    assert kobuild.run(*words).code == 0
    (kobuild.folder / "hello.txt").write_text("changed\n")
    assert kobuild.run(*words).code == 4
