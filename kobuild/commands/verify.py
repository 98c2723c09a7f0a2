"""`kobuild verify`: check an image against settings and lock."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kobuild.commands.attested import add_policy_options, judge_attestations, judgement_json, require_policy
from kobuild.commands.output import print_json
from kobuild.commands.reading import parse_count
from kobuild.commands.running import run_tools, runs_json, runs_table
from kobuild.commands.shared import add_platform_option, chosen_platforms, opened, tell
from kobuild.engines.choosing import ENGINES
from kobuild.errors import LockError
from kobuild.expectations import expect, expect_index, open_subject, rebuild
from kobuild.lock import Lock, load
from kobuild.lockcheck import compare_spelling
from kobuild.report import format_size, format_table
from kobuild.store.layoutwriter import DEFAULT_NAME
from kobuild.store.locations import OCI, Location
from kobuild.verify import VerifyReport, verify
from kobuild.workshop import Workshop


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    add_platform_option(parser)
    parser.add_argument(
        "image",
        nargs="?",
        default="oci:dist/image",
        metavar="REF",
        help="oci:DIR, oci-archive:FILE, docker-archive:FILE or a reference (default: %(default)s)",
    )
    parser.add_argument("--rebuild", action="store_true", help="build again from the lock and compare image IDs")
    add_policy_options(parser)
    group = parser.add_argument_group("running the tools")
    group.add_argument(
        "--run", dest="run_tests", action="store_true", help="run each tool's test inside the image, without network"
    )
    group.add_argument("--engine", choices=ENGINES, help="by this program (default: the first that works)")
    group.add_argument(
        "--timeout", type=parse_count, default=120, metavar="SECONDS", help="for each test (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check an image against settings and lock."""
    with opened(arguments) as workshop:
        require_policy(arguments, workshop)
        lock = _require_lock(workshop)
        platforms = chosen_platforms(arguments, workshop.settings)
        store = open_subject(workshop, arguments.image)
        expectations = expect(workshop, lock, platforms)
        report = verify(
            store,
            expectations,
            index=expect_index(workshop, lock),
            names=own_names(arguments.image),
            rebuild=(lambda platform: rebuild(workshop, lock, platform)) if arguments.rebuild else None,
            reporter=workshop.reporter,
        )
        report = replace(report, findings=(*compare_spelling(workshop.settings.lock_path, lock), *report.findings))
        judgement = judge_attestations(arguments, workshop, lock, report.digest)
        if judgement is not None:
            report = replace(report, findings=(*report.findings, *judgement.findings))
        ran = run_tools(arguments, workshop, store, platforms, report) if arguments.run_tests else None
        for note in report.notes:
            workshop.reporter.warning(str(note))
    if ran is not None:
        report = replace(report, findings=(*report.findings, *ran.findings))
    if arguments.json:
        more = {"runs": runs_json(ran)} if ran is not None else {}
        more |= {"provenance": judgement_json(judgement)} if judgement is not None else {}
        print_json({**verify_json(report), **more})
    report.raise_for_findings()
    tell(arguments, verify_table(report))
    if judgement is not None:
        tell(arguments, f"provenance signed by {judgement.signer}: {judgement.place}")
    if ran is not None:
        tell(arguments, runs_table(ran))
    if not arguments.json:
        print(f"{arguments.image}@{report.digest}" if "@" not in arguments.image else arguments.image)
    return 0


def own_names(image: str) -> Sequence[str] | None:
    """What a layout of our own making calls its image; None for what others may have named."""
    location = Location.parse(image)
    if location is None or location.transport != OCI or location.digest is not None:
        return None
    return (location.name or DEFAULT_NAME,)


def _require_lock(workshop: Workshop) -> Lock:
    path = workshop.settings.lock_path
    lock = load(path)
    if lock is None:
        raise LockError(f"{path} is missing, so there is nothing to verify against", hint="run `kobuild resolve`")
    return lock


def verify_table(report: VerifyReport) -> str:
    """What was looked at, a line a layer, and a line that sums it up."""
    rows = [
        (f"{tool.name} [{platform.platform}]", format_size(tool.size), str(tool.members), tool.digest.short)
        for platform in report.platforms
        for tool in platform.tools
    ]
    table = format_table(("layer", "size", "members", "digest"), rows, right=frozenset({1, 2}))
    rebuilt = ", made again with the same image ID" if any(item.rebuilt for item in report.platforms) else ""
    amount = f"{report.blobs} blobs, {format_size(report.size)}, {format_size(report.uncompressed_size)} unpacked"
    return f"{table}\n{report.subject}: as settings and lock say ({amount}){rebuilt}"


def verify_json(report: VerifyReport) -> dict[str, Any]:
    """The result of verify for machines."""
    return {
        "subject": report.subject,
        "digest": str(report.digest) if report.digest is not None else None,
        "ok": not report.findings,
        "blobs": report.blobs,
        "size": report.size,
        "uncompressed_size": report.uncompressed_size,
        "platforms": [
            {
                "platform": str(item.platform),
                "digest": str(item.digest),
                "image_id": str(item.image_id),
                "base_layers": item.base_layers,
                "rebuilt": item.rebuilt,
                "tools": [
                    {"name": tool.name, "digest": str(tool.digest), "size": tool.size, "members": tool.members}
                    for tool in item.tools
                ],
            }
            for item in report.platforms
        ],
        "findings": [
            {"place": item.place, "expected": item.expected, "actual": item.actual, "remedy": item.remedy}
            for item in report.findings
        ],
    }
