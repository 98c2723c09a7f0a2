"""The `verify` table: what an image in a registry must have beside it, and who must have signed that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from kobuild.settings import values
from kobuild.settings.faults import Unfit, did_you_mean, quoted
from kobuild.settings.model import VerifySettings
from kobuild.settings.proofs import check_issuer, cosign_key, not_anybodys
from kobuild.settings.table import Table

VERIFY_KEYS: Final = ("require", "key", "identity", "issuer", "builder", "source")
DOCUMENTS: Final = ("provenance",)
"""What may be required."""
_GITHUB: Final = "https://github.com/"
_ECDSA: Final = bytes.fromhex("06072a8648ce3d0201")
"""The object identifier id-ecPublicKey in DER (RFC 5480, 2.1.1), which stands at the start of a key."""
_ALGORITHM_BYTES: Final = 24
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S*")


def read_verify(table: Table) -> VerifySettings:
    """The table, each fault noted."""
    settings = VerifySettings(
        require=table.take_list("require", document, or_one=True) or (),
        keys=table.take_list("key", public_key, or_one=True) or (),
        identities=table.take_list("identity", signer, or_one=True) or (),
        issuer=table.take("issuer", values.address, ""),
        builder=table.take("builder", address_pattern, ""),
        source=table.take("source", address_pattern, ""),
    )
    for key, unfit in check_policy(settings, set(table.value)):
        table.fault(key, unfit.message, unfit.hint)
    return settings


def document(value: object) -> str:
    """One of DOCUMENTS."""
    wanted = values.string(value)
    if wanted not in DOCUMENTS:
        raise Unfit(f"unknown document {quoted(wanted)}", did_you_mean(wanted, DOCUMENTS))
    return wanted


def signer(value: object) -> str:
    """Whom a certificate must name; `*` stands for anything, but not for everything."""
    return not_anybodys(values.text(value).strip())


def public_key(value: object) -> str:
    """A public key of ECDSA, which is what signs provenance: PEM, or the base64 in it."""
    from kobuild.signatures.cosign import parse_public_key  # noqa: PLC0415  # few files name a key

    wanted = cosign_key(value)
    if _ECDSA not in parse_public_key(wanted)[:_ALGORITHM_BYTES]:
        raise Unfit("not a key of ECDSA", "provenance is signed with those; `cosign generate-key-pair` makes one")
    return wanted


def address_pattern(value: object) -> str:
    """An address in which `*` stands for anything."""
    wanted = values.text(value).strip()
    if _ADDRESS.fullmatch(wanted) is None:
        raise Unfit(f"not an address: {quoted(wanted)}", f"such as {_GITHUB}OWNER/REPO")
    return wanted


def check_policy(settings: VerifySettings, keys: set[str]) -> Iterator[tuple[str, Unfit]]:
    """What does not go together: the key at fault, and why; `keys` are those that stand in the table."""
    if settings.require and not keys & {"key", "identity"}:
        yield "require", Unfit("nothing says whose signature counts", "write key or identity, too")
    if "require" not in keys:
        for key in VERIFY_KEYS[1:]:
            if key in keys and getattr(settings, _FIELDS.get(key, key)):
                yield key, Unfit("nothing is required, so this has no effect", 'write require = ["provenance"], too')
    elif settings.issuer and "identity" not in keys:
        yield "issuer", Unfit("an issuer alone says nothing about who signed", "write identity, too, or leave it out")
    yield from check_issuer(settings.identities, settings.issuer)


_FIELDS: Final = {"key": "keys", "identity": "identities"}
