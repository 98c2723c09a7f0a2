"""How `kobuild verify` holds an image's attestations against the policy of the settings."""

from __future__ import annotations

import argparse
from functools import cache, partial
from pathlib import Path
from typing import Any

from kobuild.commands.attaching import registry_reference
from kobuild.commands.signing import trust_file
from kobuild.errors import ProgramError, SignatureError, UsageError
from kobuild.explain.provenance import find_builder, make_statement
from kobuild.lock import Lock
from kobuild.oci.digest import Digest
from kobuild.policy.attestations import attestation_file, find_attestations
from kobuild.policy.judging import Judgement, judge
from kobuild.policy.signers import Signers
from kobuild.signatures.keyless import Trust, load_trust
from kobuild.workshop import Workshop


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """--attestation."""
    parser.add_argument(
        "--attestation",
        action="append",
        default=[],
        metavar="FILE",
        help="hold this signed provenance against the policy, instead of what is attached; may be repeated",
    )


def require_policy(arguments: argparse.Namespace, workshop: Workshop) -> None:
    """Raise UsageError where attestations are named and nothing would look at them."""
    if arguments.attestation and not workshop.settings.verify.require:
        raise UsageError(
            "--attestation: the settings require no attestation, so nothing would be held against it",
            hint='write [verify] with require = ["provenance"], and whose signature counts',
        )


def judge_attestations(
    arguments: argparse.Namespace, workshop: Workshop, lock: Lock, subject: Digest | None
) -> Judgement | None:
    """Hold what is attached, or what lies in the named files, against the policy; None where nothing is required."""
    policy = workshop.settings.verify
    reference = registry_reference(arguments.image.removeprefix("docker://"))
    if not policy.require or subject is None:
        return None
    if reference is None and not arguments.attestation:
        workshop.reporter.notice(f"{arguments.image}: attestations are required only of images in a registry")
        return None
    files = [attestation_file(Path(name)) for name in arguments.attestation]
    found = files or (find_attestations(workshop.registry, reference, subject) if reference is not None else ())
    signers = Signers(policy, cache(partial(_load_trust, workshop)))
    return judge(arguments.image, subject, found, signers, _expected(workshop, lock, subject))


def _load_trust(workshop: Workshop) -> Trust:
    """Whose certificates count; raises ProgramError: that it cannot be had says nothing of the image."""
    try:
        return load_trust(trust_file(workshop), offline=workshop.offline)
    except SignatureError as error:
        raise ProgramError(error.message, hint=error.hint) from error


def _expected(workshop: Workshop, lock: Lock, subject: Digest) -> dict[str, Any]:
    """The predicate that settings and lock would give the image now."""
    platforms = workshop.settings.image.platforms
    builder = find_builder(workshop.environ)
    statement = make_statement(workshop, lock, name="", digest=subject, platforms=platforms, builder=builder)
    predicate: dict[str, Any] = statement["predicate"]
    return predicate


def judgement_json(judgement: Judgement) -> dict[str, Any]:
    """The judgement for machines; its findings are among the others."""
    return {"signer": judgement.signer or None, "attestation": judgement.place or None, "ok": not judgement.findings}
