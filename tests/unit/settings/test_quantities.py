"""Sizes and spans of time, as people write them."""

from __future__ import annotations

import pytest

from kobuild.settings.faults import Unfit
from kobuild.settings.quantities import parse_size, parse_span


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("10GB", 10**10), ("1.5 GiB", 3 << 29), ("10mb", 10**7), (" 2 kB ", 2000), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "span"), [("30d", 2_592_000), ("12 h", 43_200), ("2w", 1_209_600), ("0", 0)])
def test_spans(text: str, span: int) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize("text", ["", "GB", "-1", "1,5GB", "10 parsec", "1e9", "9" * 20])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Unfit):
        parse_size(text)


@pytest.mark.parametrize("text", ["30", "d", "30 days ago", "1y"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(Unfit):
        parse_span(text)
