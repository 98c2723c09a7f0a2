"""Results on standard output, where nothing else goes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any


def print_json(value: Mapping[str, Any]) -> None:
    """Write a result for machines."""
    print(json.dumps(value, indent=2))


def print_text(text: str) -> None:
    """Write a result for a person; what the terminal's encoding lacks is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))
