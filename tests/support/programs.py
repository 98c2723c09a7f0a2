"""Real programs that tests run: missing ones skip a test on a laptop and fail it in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def require_program(name: str) -> str:
    """The program's path; where it is missing the test skips, and in CI it fails."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is not None:
        return found
    reason = f"{name} is not installed; .ci/run says from which package it comes"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def optional_program(name: str) -> str:
    """The path of a program that is tried where somebody has it; elsewhere, and in CI too, the test skips."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed, and is not asked for")
    return found
