"""What docs/action.md gives for Renovate and pre-commit, run against real settings files."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.action.conftest import ROOT, write_project
from tests.support.commandline import Kobuild

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
