"""`python -m kobuild`, and the entry point of the `kobuild` program."""

from __future__ import annotations

import sys

from kobuild import cli


def main() -> int:
    """Run the command line."""
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
