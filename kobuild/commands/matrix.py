"""`kobuild matrix`: the jobs of many images, for a workflow's matrix."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from kobuild.commands.output import print_json
from kobuild.commands.shared import enter_folder, tell
from kobuild.errors import KobuildError
from kobuild.fleet.inputs import input_paths
from kobuild.fleet.jobs import FleetImage, find_images, job_lines, make_matrix
from kobuild.fleet.revisions import find_changes
from kobuild.oci.platforms import Platform
from kobuild.report import format_table, reporting


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="settings files, such as 'images/*.toml' (default: --file)"
    )
    parser.add_argument(
        "--since", default="", metavar="REV", help="leave out images whose inputs are as they were in this git revision"
    )
    parser.add_argument(
        "--runner",
        action="append",
        default=[],
        type=_parse_runner,
        metavar="PLATFORM=LABEL",
        help="the runner that makes a platform's images; may be repeated",
    )


def _parse_runner(text: str) -> tuple[Platform, str]:
    name, sign, label = text.partition("=")
    if not sign or not label.strip():
        raise argparse.ArgumentTypeError(f"expected PLATFORM=LABEL, such as linux/arm64=ubuntu-24.04-arm, got {text!r}")
    try:
        return Platform.parse(name.strip()), label.strip()
    except KobuildError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(arguments: argparse.Namespace) -> int:
    """Find the images, leave out those without news, and print the jobs."""
    enter_folder(arguments)
    images = find_images(arguments.patterns or [arguments.file])
    reasons = _reasons(arguments, images)
    chosen = [image for image in images if image.file in reasons]
    matrix = make_matrix(chosen, dict(arguments.runner))
    if chosen:
        tell(arguments, format_table(("image", "file", "platforms", "because of"), list(job_lines(chosen, reasons))))
    tell(arguments, f"{len(chosen)} of {len(images)} images, {len(matrix['include'])} jobs")
    if arguments.json:
        print_json({**matrix, "changed": reasons})
    else:
        print(json.dumps(matrix))
    return 0


def _reasons(arguments: argparse.Namespace, images: tuple[FleetImage, ...]) -> dict[str, str]:
    """Why each image is made, by its file; those that are not made are left out."""
    if not arguments.since:
        return dict.fromkeys((image.file for image in images), "")
    since, why_all = find_changes(arguments.since, Path())
    if since is None:
        with reporting(quiet=arguments.quiet) as reporter:
            reporter.notice(f"--since {arguments.since[:12]}: {why_all}; every image counts as changed")
        return dict.fromkeys((image.file for image in images), why_all)
    found = {image.file: since.reason(input_paths(image.settings)) for image in images}
    return {file: reason for file, reason in found.items() if reason is not None}
