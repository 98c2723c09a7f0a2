"""The error for a library that is not installed."""

from __future__ import annotations

from typing import Final

from kobuild.errors import ProgramError

PROOF_EXTRA: Final = "proof"
"""Has `cryptography`: signatures by minisign, and by cosign with a key."""
SIGN_EXTRA: Final = "sign"
"""Has `sigstore`: signatures without a key, and attestations."""


def missing_library(
    name: str, extra: str, error: ImportError, action: str = "verify a publisher's signature"
) -> ProgramError:
    """What to raise where a library of an extra cannot be imported."""
    install = f"python3 -m pip install 'kobuild[{extra}]'; in the action: extras: {extra}"
    return ProgramError(
        f"{action}: the library {name} is not installed ({error})", hint=f"install kobuild with its extra: {install}"
    )
