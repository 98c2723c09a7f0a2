"""`kobuild matrix`: the jobs of many images, for a workflow's matrix."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from kobuild.commands.output import print_json
from kobuild.commands.shared import open_cache, tell
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
    news = parser.add_mutually_exclusive_group()
    news.add_argument(
        "--since", default="", metavar="REV", help="leave out images whose inputs are as they were in this git revision"
    )
    news.add_argument(
        "--pushed", action="store_true", help="leave out images whose targets hold what settings and lock make"
    )
    parser.add_argument("--layer-cache", metavar="REPOSITORY", help="with --pushed: where layers are known")
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
    cache = open_cache(arguments)
    images = find_images(arguments.patterns or [arguments.file])
    if arguments.pushed:
        # Here, not above: without it no network is asked, and nobody pays for the import.
        from kobuild.commands.staleness import find_stale  # noqa: PLC0415

        reasons = find_stale(arguments, images, cache)
    else:
        reasons = _since(arguments, images)
    chosen = [image for image in images if image.file in reasons]
    matrix = make_matrix(chosen, dict(arguments.runner))
    _tell(arguments, images, chosen, reasons)
    if arguments.json:
        print_json({**matrix, "changed": reasons})
    else:
        print(json.dumps(matrix))
    return 0


def _since(arguments: argparse.Namespace, images: Sequence[FleetImage]) -> dict[str, str]:
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


def _tell(
    arguments: argparse.Namespace,
    images: Sequence[FleetImage],
    chosen: Sequence[FleetImage],
    reasons: Mapping[str, str],
) -> None:
    if chosen:
        tell(arguments, format_table(("image", "file", "platforms", "because of"), list(job_lines(chosen, reasons))))
    jobs = sum(len(image.settings.image.platforms) for image in chosen)
    tell(arguments, f"{len(chosen)} of {len(images)} images, {jobs} jobs")
