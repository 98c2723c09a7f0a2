"""The JSON Schema of `kobuild.toml`, which editors complete and check with.

It says what a schema can say; the parser says the rest, and tests hold the two to the same keys. Its dialect is
draft-07, the newest that the TOML language servers of editors read, and only `if`, `propertyNames` and `examples` are
newer than draft-04: an older reader passes over them and checks everything else.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

SCHEMA_NAME: Final = "kobuild.schema.json"


def schema_text() -> str:
    """The schema as it ships with the package."""
    return resources.files("kobuild.resources").joinpath(SCHEMA_NAME).read_text(encoding="utf-8")


def load_schema() -> dict[str, Any]:
    """The schema as a value."""
    schema: dict[str, Any] = json.loads(schema_text())
    return schema
