"""Short ways to parse settings in tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from kobuild.errors import Fault, SettingsError
from kobuild.settings.model import Settings, ToolSettings
from kobuild.settings.parse import parse_text

PATH = Path("kobuild.toml")


def parse(text: str) -> Settings:
    """Parse settings from text."""
    return parse_text(text.encode(), PATH)


def parse_image(lines: str) -> Settings:
    """Parse an image table of `base = "scratch"` on line 2 and `lines` from line 3."""
    return parse(f'[image]\nbase = "scratch"\n{lines}\n')


def parse_tool(lines: str) -> ToolSettings:
    """Parse one tool, `tools.t`, whose lines start at line 4."""
    return parse(f'[image]\nbase = "scratch"\n[tools.t]\n{lines}\n').tools[0]


def faults_of(text: str | bytes) -> tuple[Fault, ...]:
    """The faults that settings are refused with."""
    with pytest.raises(SettingsError) as caught:
        parse_text(text.encode() if isinstance(text, str) else text, PATH)
    return caught.value.faults


def fault_of_image(lines: str) -> Fault:
    """The one fault of an image table of `base = "scratch"` on line 2 and `lines` from line 3."""
    (fault,) = faults_of(f'[image]\nbase = "scratch"\n{lines}\n')
    return fault


def fault_of_tool(lines: str) -> Fault:
    """The one fault of `tools.t`, whose lines start at line 4."""
    (fault,) = faults_of(f'[image]\nbase = "scratch"\n[tools.t]\n{lines}\n')
    return fault
