"""The parser on any input: settings or SettingsError, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from kobuild.errors import Fault, SettingsError
from kobuild.settings.images import IMAGE_KEYS
from kobuild.settings.parse import SOURCES_KEYS, parse_text
from kobuild.settings.tools import TOOL_KEYS

TEXTS = st.text(st.characters(codec="utf-8"), max_size=10) | st.sampled_from(
    ["go", "github:a/b", "url:https://example.com/{version}", "path:x", "/usr", "linux/amd64", "scratch", ">=1", "ko"],
)
VALUES = st.recursive(
    st.booleans() | st.integers(-5, 70000) | st.floats() | TEXTS | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def tables(keys: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys) | TEXTS, VALUES, max_size=6)


DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "image": tables(IMAGE_KEYS) | VALUES,
        "tools": st.dictionaries(TEXTS, tables(TOOL_KEYS) | VALUES, max_size=3) | VALUES,
        "sources": tables(SOURCES_KEYS) | VALUES,
        "other": VALUES,
    },
)


def faults_of(raw: bytes) -> tuple[Fault, ...]:
    try:
        parse_text(raw, Path("kobuild.toml"))
    except SettingsError as error:
        return error.faults
    return ()


def check_places(raw: bytes) -> None:
    places = [fault.line or 0 for fault in faults_of(raw)]
    assert places == sorted(places)
    assert all(0 <= line <= raw.count(b"\n") + 1 for line in places)


@given(document=DOCUMENTS)
def test_any_document_is_settings_or_faults(document: dict[str, Any]) -> None:
    check_places(tomli_w.dumps(document).encode())


@given(raw=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_settings_or_faults(raw: bytes) -> None:
    check_places(raw)
