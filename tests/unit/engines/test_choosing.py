"""Which programs a machine runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kobuild.engines.choosing import can_run
from kobuild.oci.platforms import Platform


@pytest.mark.parametrize(
    ("machine", "platform", "expected"),
    [
        ("x86_64", "linux/amd64", True),
        ("x86_64", "linux/amd64/v2", True),
        ("x86_64", "linux/386", True),
        ("x86_64", "linux/arm64", False),
        ("x86_64", "linux/riscv64", True),
        ("x86_64", "linux/s390x", False),
        ("aarch64", "linux/arm64", True),
        ("aarch64", "linux/amd64", False),
        ("armv7l", "linux/arm/v7", False),
        ("x86_64", "windows/amd64", False),
        ("x86_64", "linux/nosuch", False),
    ],
)
def test_the_processor_and_its_emulators_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, platform: str, expected: bool
) -> None:
    (tmp_path / "qemu-riscv64").write_text("enabled\ninterpreter /usr/bin/qemu-riscv64\n")
    (tmp_path / "qemu-s390x").write_text("disabled\n")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert can_run(Platform.parse(platform), emulators=tmp_path) is expected


def test_engines_on_a_mac_bring_a_machine_that_emulates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    found = [can_run(Platform.parse(f"linux/{name}"), emulators=tmp_path) for name in ("amd64", "arm64", "s390x")]
    assert found == [True, True, False]
