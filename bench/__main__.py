"""`python -m bench`: measure kobuild beside whichever peers are on PATH, and print ratios, sizes and peak memory.

Inputs are kept between runs in the folder that KOBUILD_TEST_LOADS names.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.plan import PARTS, Options, groups
from bench.table import to_json, to_text


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small inputs, one round: only to see that it runs")
    parser.add_argument("--large", action="store_true", help="also 2 GB, 200,000 members and one member of 1 GB")
    parser.add_argument(
        "--rounds", type=int, default=5, help="measured rounds after the warm-up (default: %(default)s)"
    )
    parser.add_argument("--only", action="append", choices=PARTS, default=[], help="only this part; may be repeated")
    parser.add_argument(
        "--in-memory",
        action="store_true",
        help="keep the registry's storage in memory, where that has room: on a disk its fsync is a part of every push",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything measured to a file")
    parser.add_argument(
        "--original",
        action="append",
        default=[],
        metavar="[COMPRESSION=]PROGRAM",
        help="a build of the program that kobuild replaces (gzip unless said); it takes -base and -target, and its "
        "upstream from KOBUILD_GO_URL and GITHUB_API_URL; may be repeated",
    )
    return parser.parse_args(argv)


def _originals(values: list[str]) -> Iterator[tuple[str, Path]]:
    for value in values:
        compression, equals, program = value.partition("=")
        yield (compression, Path(program).absolute()) if equals else ("gzip", Path(value).absolute())


def main(argv: list[str] | None = None) -> int:
    """Run the parts that are asked for; returns the exit code."""
    arguments = _parse(argv)
    kept = os.environ.get("KOBUILD_TEST_LOADS")
    with tempfile.TemporaryDirectory(prefix="kobuild-bench-") as scratch:
        options = Options(
            inputs=Path(kept) if kept else Path(scratch) / "inputs",
            folder=Path(scratch),
            rounds=1 if arguments.quick else arguments.rounds,
            quick=arguments.quick,
            large=arguments.large,
            only=tuple(arguments.only),
            in_memory=arguments.in_memory,
            originals=tuple(_originals(arguments.original)),
        )
        done = []
        try:
            for group in groups(options, lambda text: print(text, file=sys.stderr, flush=True)):
                print(to_text(group), flush=True)
                done.append(group)
        except pytest.skip.Exception as reason:
            print(f"bench: {reason}", file=sys.stderr)
            return 1
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(to_json(done), indent=1) + "\n")
    return 1 if any(row.failure for group in done for row in group.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
