"""`kobuild resolve`: turn the pins into the lock."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kobuild import github
from kobuild.commands.output import print_json
from kobuild.commands.shared import add_lock_options, opened, resolve_with, tell
from kobuild.errors import NewsFound
from kobuild.lock import LockedTool
from kobuild.report import group
from kobuild.resolve import Resolution, ResolveOptions
from kobuild.workshop import Workshop


def configure(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    add_lock_options(parser)
    parser.add_argument("--upgrade", nargs="*", metavar="TOOL", help="move these tools' pins, or all pins and the base")
    parser.add_argument("--markdown", action="store_true", help="write the changes as Markdown, for a pull request")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 4 if the lock would change")
    parser.add_argument("--prove", action="store_true", help="look for signatures again, instead of believing the lock")


def run(arguments: argparse.Namespace) -> int:
    """Bring the lock up to date."""
    options = ResolveOptions(
        upgrade=None if arguments.upgrade is None else frozenset(arguments.upgrade),
        locked=arguments.locked,
        frozen=arguments.frozen,
        check=arguments.check,
        prove=arguments.prove,
    )
    with opened(arguments) as workshop:
        with group("Resolve the pins", quiet=arguments.quiet):
            resolution = _resolve(arguments, workshop, options)
        path = workshop.settings.lock_path
        table = _markdown(arguments, workshop, resolution)
    lines = (*resolution.changes, *_proof_lines(resolution), _last_line(resolution, path))
    tell(arguments, "\n".join(map(str, lines)))
    if arguments.json:
        print_json({**resolve_json(resolution, path), **({"markdown": table} if arguments.markdown else {})})
    elif arguments.markdown:
        print(table)
    else:
        print(path)
    return 0


def _resolve(arguments: argparse.Namespace, workshop: Workshop, options: ResolveOptions) -> Resolution:
    """Resolve; what --check finds is told to machines too, before it ends the run."""
    try:
        return resolve_with(workshop, options)
    except NewsFound as news:
        if arguments.json:
            print_json({"lock": str(workshop.settings.lock_path), "written": False, "changes": list(news.changes)})
        raise


def _markdown(arguments: argparse.Namespace, workshop: Workshop, resolution: Resolution) -> str:
    """The changes as Markdown, where somebody reads them; they go to the job's summary too."""
    if not arguments.markdown and not github.is_github(workshop.environ):
        return ""
    # Here, not above: nobody else pays for the import.
    from kobuild.jobsummary import lock_markdown  # noqa: PLC0415

    table = lock_markdown(workshop, resolution)
    github.append_summary(table, workshop.environ)
    return table


def _last_line(resolution: Resolution, path: Path) -> str:
    return f"{path.name}: {'written' if resolution.written else 'unchanged'}"


def _proof_lines(resolution: Resolution) -> Iterator[str]:
    """What was proven of the tools that are new or have changed."""
    changed = {change.subject for change in resolution.changes}
    for tool in resolution.lock.tools.values():
        proofs = sorted({proof for artifact in tool.artifacts.values() for proof in artifact.proofs})
        if proofs and tool.name in changed:
            yield f"{tool.name}: proven by {', '.join(proofs)}"


def resolve_json(resolution: Resolution, path: Path) -> dict[str, Any]:
    """The result of resolve for machines."""
    lock = resolution.lock
    return {
        "lock": str(path),
        "written": resolution.written,
        "changes": [str(change) for change in resolution.changes],
        "base": None if lock.base is None else {"name": lock.base.name, "digest": lock.base.digest},
        "tools": {tool.name: _tool_json(tool) for tool in lock.tools.values()},
    }


def _tool_json(tool: LockedTool) -> dict[str, Any]:
    proofs = {str(platform): list(artifact.proofs) for platform, artifact in sorted(tool.artifacts.items())}
    return {"version": tool.version, "source": tool.source, "proofs": proofs}
