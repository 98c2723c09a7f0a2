"""Whether an image's attestations are what the policy of the settings asks for; what differs, as findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from kobuild.errors import Finding, SignatureError
from kobuild.explain.provenance import BUILD_TYPE, PREDICATE_TYPE
from kobuild.frozen import frozen
from kobuild.oci.digest import Digest
from kobuild.policy.attestations import Attestation, read_statement
from kobuild.policy.signers import Signers
from kobuild.signatures.dsse import PAYLOAD_TYPE
from kobuild.signatures.keyless import matches
from kobuild.signatures.words import printable

_ATTEST: Final = "attest the image where it was pushed: kobuild provenance REF --attach --sign, or --key FILE"
_FOREIGN: Final = "trust nothing of it, and attest the image anew; or change [verify] to who may sign"
_REBUILD: Final = (
    "push and attest the image that these settings and this lock give, or verify with those it was made of"
)


@frozen
class Judgement:
    """What came of holding attestations against the policy."""

    signer: str
    """Who signed the one that is good; empty where none is."""
    place: str
    """Where that is."""
    findings: tuple[Finding, ...]


def judge(
    name: str, subject: Digest, attestations: Iterable[Attestation], signers: Signers, expected: Mapping[str, Any]
) -> Judgement:
    """Look for one attestation that is as the policy asks; else say what differs in the one that is nearest.

    `name` is the image's, for findings; `expected` the predicate that settings and lock would give it.
    """
    best: tuple[Finding, ...] | None = None
    others = 0
    for attestation in attestations:
        if attestation.statement is not None and attestation.claimed_type != PREDICATE_TYPE:
            others += 1  # a bill of materials, or somebody's vulnerability report
            continue
        signer, findings = _judge_one(attestation, subject, signers, expected)
        if not findings:
            return Judgement(signer, attestation.place, ())
        # What is verified and wrong says more than what somebody else attached.
        if best is None or (bool(signer), -len(findings)) > (_is_verified(best), -len(best)):
            best = findings
    if best is None:
        found = f"{others} attestations of other kinds" if others else "no attestation"
        best = (Finding(f"{name}: provenance", f"one signed by {signers.wanted}", found, _ATTEST),)
    return Judgement("", "", best)


def _is_verified(findings: Sequence[Finding]) -> bool:
    return not findings[0].place.endswith((": signature", ": bundle"))


def _judge_one(
    attestation: Attestation, subject: Digest, signers: Signers, expected: Mapping[str, Any]
) -> tuple[str, tuple[Finding, ...]]:
    """Who signed it, empty where that is nobody who may, and what is wrong with it."""
    place, statement = attestation.place, attestation.statement
    if statement is None:
        return "", (
            Finding(f"{place}: bundle", "a bundle with a signed statement", _show(attestation.fault), _FOREIGN),
        )
    try:
        signer = signers.verify(statement, place)
    except SignatureError as error:
        return "", (Finding(f"{place}: signature", f"one by {signers.wanted}", _show(error.message), _FOREIGN),)
    value = read_statement(statement.payload)
    if statement.payload_type != PAYLOAD_TYPE or value is None:
        return signer, (Finding(place, "an in-toto statement", _show(statement.payload_type), _FOREIGN),)
    return signer, tuple(_compare(place, value, subject, signers, expected))


def _compare(
    place: str, statement: Mapping[str, Any], subject: Digest, signers: Signers, expected: Mapping[str, Any]
) -> Iterator[Finding]:
    """What a signed statement says otherwise than settings, lock and policy."""
    subjects = [_at(item, "digest", subject.algorithm) for item in _list(statement.get("subject"))]
    if subject.hex not in subjects:
        found = ", ".join(f"{subject.algorithm}:{item}" for item in subjects) or "nothing"
        yield Finding(f"{place}: subject", str(subject), _show(found), "attest this image, not another one")
    kind = _at(statement, "predicate", "buildDefinition", "buildType")
    if kind != BUILD_TYPE:
        yield Finding(f"{place}: build type", BUILD_TYPE, _show(kind), _ATTEST)
        return
    predicate = statement["predicate"]
    yield from _compare_parameters(place, predicate, expected)
    yield from _compare_dependencies(place, predicate, expected)
    builder = _at(predicate, "runDetails", "builder", "id")
    if signers.policy.builder and not _matches(signers.policy.builder, builder):
        yield Finding(f"{place}: builder", signers.policy.builder, _show(builder), _FOREIGN)
    yield from _compare_source(place, predicate, signers.policy.source)


def _compare_parameters(place: str, found: Any, expected: Mapping[str, Any]) -> Iterator[Finding]:
    ours, theirs = (_at(item, "buildDefinition", "externalParameters") for item in (expected, found))
    for name in ("settings", "lock"):
        want, got = _at(ours, name, "digest", "sha256"), _at(theirs, name, "digest", "sha256")
        if want != got:
            yield Finding(f"{place}: {_at(ours, name, 'name')}", f"sha256 {want}", f"sha256 {_show(got)}", _REBUILD)
    want, got = sorted(_at(ours, "platforms")), _list(_at(theirs, "platforms"))
    if want != sorted(map(str, got)):
        yield Finding(f"{place}: platforms", ", ".join(want), _show(", ".join(map(str, got)) or "none"), _REBUILD)


def _compare_dependencies(place: str, found: Any, expected: Mapping[str, Any]) -> Iterator[Finding]:
    """The base and the files: each by name and platform, with its digest."""
    ours, theirs = (_materials(item) for item in (expected, found))
    for key in dict.fromkeys((*ours, *theirs)):
        if ours.get(key) != theirs.get(key):
            yield Finding(f"{place}: {_show(key)}", _show(ours.get(key)), _show(theirs.get(key)), _REBUILD)


def _materials(predicate: Any) -> dict[str, str]:
    """What went in but for the commit, by name and platform; digests as text."""
    found: dict[str, list[str]] = {}
    for item in _list(_at(predicate, "buildDefinition", "resolvedDependencies")):
        if str(_at(item, "uri") or "").startswith("git+"):
            continue
        platform = _at(item, "annotations", "platform")
        name = f"{_at(item, 'name')}{f' for {platform}' if platform else ''}"
        sums = _at(item, "digest")
        digests = sums.items() if isinstance(sums, dict) else ()
        found.setdefault(name, []).append(", ".join(f"{key} {value}" for key, value in sorted(digests)))
    return {name: "; ".join(sorted(texts)) for name, texts in found.items()}


def _compare_source(place: str, found: Any, wanted: str) -> Iterator[Finding]:
    if not wanted:
        return
    items = _list(_at(found, "buildDefinition", "resolvedDependencies"))
    uris = [str(_at(item, "uri") or "") for item in items]
    sources = [uri.removeprefix("git+") for uri in uris if uri.startswith("git+")]
    if not any(_matches(wanted, source if "@" in wanted else source.rpartition("@")[0]) for source in sources):
        remedy = "attest in a workflow of that repository, or change [verify] source"
        yield Finding(f"{place}: source", wanted, _show(", ".join(sources) or "none"), remedy)


def _matches(pattern: str, text: object) -> bool:
    return isinstance(text, str) and matches(pattern, text)


def _at(value: Any, *keys: str) -> Any:
    """A member of members; None where there is none: a statement may be of any shape."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _show(value: object) -> str:
    return "nothing" if value is None else printable(str(value))
