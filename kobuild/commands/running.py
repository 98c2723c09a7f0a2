"""How `kobuild verify --run` runs the tools' tests, and how it tells of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from kobuild.image.store import ImageStore
from kobuild.oci.platforms import Platform
from kobuild.report import format_table
from kobuild.toolruns import RunReport, Trial, run_tests
from kobuild.verify import VerifyReport
from kobuild.workshop import Workshop


def run_tools(
    arguments: argparse.Namespace,
    workshop: Workshop,
    store: ImageStore,
    platforms: Sequence[Platform],
    report: VerifyReport,
) -> RunReport | None:
    """Run the tests, unless the image already is not what it should be: nobody knows what would run."""
    if report.findings:
        workshop.reporter.warning("the tools' tests are not run in an image that differs from settings and lock")
        return None
    trial = Trial(
        tools=workshop.settings.tools,
        engine=arguments.engine,
        seconds=float(arguments.timeout),
        environ=workshop.environ,
        reporter=workshop.reporter,
        cache=workshop.cache,
    )
    ran = run_tests(trial, store, platforms)
    for platform in ran.skipped:
        workshop.reporter.warning(f"the tools' tests are not run for {platform}: this machine cannot run its programs")
    return ran


def runs_table(report: RunReport) -> str:
    """A line a test."""
    rows = [
        (f"{run.tool} [{run.platform}]", run.command, f"{run.outcome.seconds:.1f} s", run.engine) for run in report.runs
    ]
    return format_table(("test", "command", "time", "engine"), rows, right=frozenset({2}))


def runs_json(report: RunReport) -> dict[str, Any]:
    """The tests for machines."""
    return {
        "tests": [
            {
                "platform": str(run.platform),
                "tool": run.tool,
                "command": run.command,
                "engine": run.engine,
                "ok": run.is_good,
                "exit_code": run.outcome.code,
                "seconds": round(run.outcome.seconds, 3),
                "output": run.outcome.output,
            }
            for run in report.runs
        ],
        "skipped": [str(platform) for platform in report.skipped],
    }
