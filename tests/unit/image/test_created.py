"""The one rule for `created`."""

from __future__ import annotations

import pytest

from kobuild.errors import UsageError
from kobuild.image.created import choose_created, read_source_date_epoch
from kobuild.oci.config import format_time
from tests.support.images import make_image


def created(base: str | None, mtimes: list[int | None], epoch: int | None = None) -> str:
    members = {} if base is None else {"created": base}
    return format_time(choose_created(make_image(members=members).config, mtimes, epoch))


@pytest.mark.parametrize(
    ("base", "mtimes", "expected"),
    [
        ("2024-05-01T00:00:00Z", [1_700_000_000], "2024-05-01T00:00:00Z"),
        ("2020-05-01T00:00:00Z", [1_700_000_000, 1_600_000_000], "2023-11-14T22:13:20Z"),
        ("2024-05-01T00:00:00.987654321Z", [], "2024-05-01T00:00:00Z"),
        ("2024-05-01T02:00:00+02:00", [None], "2024-05-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", [1_700_000_000], "2023-11-14T22:13:20Z"),
        ("1969-12-31T00:00:00Z", [], "1970-01-01T00:00:00Z"),
        (None, [1_700_000_000], "2023-11-14T22:13:20Z"),
        (None, [0, -5, None], "1970-01-01T00:00:00Z"),
        (None, [], "1970-01-01T00:00:00Z"),
        ("2999-01-01T00:00:00Z", [1_700_000_000], "2999-01-01T00:00:00Z"),
        (None, [2**40], "1970-01-01T00:00:00Z"),
    ],
)
def test_the_newest_known_time_counts(base: str | None, mtimes: list[int | None], expected: str) -> None:
    assert created(base, mtimes) == expected


def test_source_date_epoch_decides_alone() -> None:
    assert created("2999-01-01T00:00:00Z", [1_700_000_000], 0) == "1970-01-01T00:00:00Z"
    assert created("0001-01-01T00:00:00Z", [], 1_600_000_000) == "2020-09-13T12:26:40Z"


def test_the_variable_is_read() -> None:
    assert read_source_date_epoch({}) is None
    assert read_source_date_epoch({"SOURCE_DATE_EPOCH": ""}) is None
    assert read_source_date_epoch({"SOURCE_DATE_EPOCH": "1600000000"}) == 1_600_000_000


@pytest.mark.parametrize("text", ["-1", "1.5", "now", "1e9", " 1", "٣", "9" * 5000, "253402300800"])
def test_anything_else_is_the_users_mistake(text: str) -> None:
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        read_source_date_epoch({"SOURCE_DATE_EPOCH": text})
