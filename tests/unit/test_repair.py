"""Going on where the cache has lost something."""

from __future__ import annotations

import pytest

from kobuild.errors import LostEntry
from kobuild.progress import NullReporter
from kobuild.repair import with_repairs


def test_each_lost_entry_is_worth_one_more_attempt() -> None:
    lost = ["sha256:a", "sha256:b"]

    def attempt() -> str:
        if lost:
            raise LostEntry("gone", entry=lost.pop())
        return "done"

    assert with_repairs(attempt, NullReporter()) == "done"


def test_an_entry_that_is_lost_again_is_an_error() -> None:
    calls = []

    def attempt() -> None:
        calls.append(1)
        raise LostEntry("gone", entry="sha256:a")

    with pytest.raises(LostEntry) as caught:
        with_repairs(attempt, NullReporter())
    assert len(calls) == 2
    assert "--cache-dir" in (caught.value.hint or "")
