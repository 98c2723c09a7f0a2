"""`python -m kobuild`, and the entry point of the `kobuild` program."""

from __future__ import annotations

import gc
import sys

# A run is short and leaves few cycles behind; looking for them every 700 objects would cost 6% of starting up.
gc.set_threshold(50_000)

from kobuild import cli  # noqa: E402


def main() -> int:
    """Run the command line."""
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
