"""The keys of a tool that say which proof of its publisher's is looked for, and which is required."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from kobuild.errors import SignatureError
from kobuild.settings import values
from kobuild.settings.faults import Unfit, did_you_mean, quoted
from kobuild.settings.model import ToolSettings

REQUIREMENTS: Final = ("checksum", "signature")
SUM_KEYS: Final = ("require",)
"""For sources whose index says the sums, and signs nothing that can be had here."""
SIGNATURE_KEYS: Final = ("require", "minisign-key", "cosign-key", "identity", "issuer")
IDENTITY_PLACEHOLDERS: Final = ("version", "tag")
_SIGNING_KINDS: Final = ("github", "url")
_GITHUB: Final = "https://github.com/"
_ANY_OWNER: Final = re.compile(r"https://git(?:hub|lab)\.com(/[^/]*)?\*")
"""A workflow of whoever has an account there."""


def requirement(value: object) -> str:
    """One of REQUIREMENTS."""
    wanted = values.string(value)
    if wanted not in REQUIREMENTS:
        raise Unfit(f"unknown proof {quoted(wanted)}", did_you_mean(wanted, REQUIREMENTS))
    return wanted


def minisign_key(value: object) -> str:
    """A minisign public key: its base64, without the comment."""
    # Here, not above: few files name a key, and every run reads the settings.
    from kobuild.signatures.minisign import parse_public_key  # noqa: PLC0415

    wanted = values.text(value)
    try:
        parse_public_key(wanted)
    except SignatureError as error:
        raise Unfit(error.message, "the publisher shows it as RW… and 54 more letters") from error
    return wanted.strip().splitlines()[-1].strip()


def cosign_key(value: object) -> str:
    """A public key as cosign writes it: PEM, or the base64 in it."""
    from kobuild.signatures.cosign import parse_public_key  # noqa: PLC0415

    wanted = values.text(value)
    try:
        parse_public_key(wanted)
    except SignatureError as error:
        raise Unfit(error.message, "put the text of cosign.pub between ''' and '''") from error
    return wanted.strip()


def identity(value: object) -> str:
    """Whom a certificate must name; `*` stands for anything, but not for everything."""
    return not_anybodys(values.template(value, IDENTITY_PLACEHOLDERS).strip())


def not_anybodys(wanted: str) -> str:
    """An identity that is not so wide that anybody has it; raises Unfit."""
    if re.search(r"\s", wanted):
        raise Unfit(f"an identity has no white space: {quoted(wanted)}")
    is_wide = not re.search(r"[A-Za-z0-9]", re.sub(r"^https?://|\{\w+\}", "", wanted))
    if is_wide or _ANY_OWNER.match(wanted):
        raise Unfit(f"this identity is anybody's: {quoted(wanted)}", f"such as {_GITHUB}OWNER/REPO/.github/workflows/*")
    return wanted


def check_issuer(identities: Sequence[str], issuer: str) -> Iterator[tuple[str, Unfit]]:
    """Whether it is known who vouches for the identities, and whether that one can; `issuer` is empty for GitHub's."""
    if all(name.startswith(_GITHUB) for name in identities):
        return
    if not issuer:
        yield "identity", Unfit("nothing says who vouches for this identity", 'write issuer = "https://…", too')
        return
    from kobuild.signatures.keyless import GITHUB_ISSUER  # noqa: PLC0415  # few files name an issuer

    if issuer == GITHUB_ISSUER:
        hint = f"such as {_GITHUB}OWNER/REPO/.github/workflows/*"
        yield "identity", Unfit("this issuer, GitHub's, vouches for workflows on GitHub alone", hint)


def check_proofs(tool: ToolSettings) -> Iterator[tuple[str, Unfit]]:
    """What does not go together: the key at fault, and why."""
    if tool.issuer and not tool.identity:
        yield "issuer", Unfit("an issuer alone says nothing about who signed", "write identity, too, or leave it out")
    if tool.identity:
        yield from check_issuer((tool.identity,), tool.issuer)
    if tool.require == "signature":
        yield from _check_signature(tool)
    says_sum = tool.checksums or tool.sha256 or tool.looks_for_signatures
    if tool.require == "checksum" and tool.source.kind == "url" and not says_sum:
        yield "require", Unfit("nothing says the sum of this file", "write checksums or sha256, too")


def _check_signature(tool: ToolSettings) -> Iterator[tuple[str, Unfit]]:
    kind = tool.source.kind
    if kind not in _SIGNING_KINDS:
        hint = f'signatures are for {" and ".join(_SIGNING_KINDS)} sources; write require = "checksum"'
        yield "require", Unfit(f"signatures of a {kind} source cannot be verified", hint)
    elif kind == "url" and not tool.looks_for_signatures:
        yield "require", Unfit("nothing says who signs this file", "write minisign-key, cosign-key or identity, too")
    elif tool.attestations is False and not tool.looks_for_signatures:
        yield (
            "attestations",
            Unfit("no proof is left that could be found", "write true, or leave it out"),
        )
