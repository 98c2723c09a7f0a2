"""The OCI image specification's JSON schemas, which lie beside the checkout as test data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_FOLDER = Path(__file__).parents[2].parent / "shared" / "oci-schema"


def check_schema(raw: bytes, name: str) -> None:
    """Validate `raw` by the schema file `name`, such as `image-manifest-schema.json`; skips where there are none."""
    if not _FOLDER.is_dir():
        pytest.skip("the OCI schemas do not lie beside this checkout (../shared/oci-schema)")
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    schemas = {path.name: json.loads(path.read_text()) for path in _FOLDER.glob("*.json")}
    draft4 = pytest.importorskip("referencing.jsonschema").DRAFT4
    # The files refer to each other by file name, while each declares an `id` elsewhere: without the ids both agree.
    plain = {file: draft4.create_resource(_without_ids(schema)) for file, schema in schemas.items()}
    registry = referencing.Registry().with_resources(plain.items())
    validator = jsonschema.Draft4Validator(_without_ids(schemas[name]), registry=registry)
    validator.validate(json.loads(raw))


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(item) for key, item in value.items() if key not in ("id", "$schema")}
    return [_without_ids(item) for item in value] if isinstance(value, list) else value
