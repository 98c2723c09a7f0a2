"""The layer engine in a process of its own: `python -m bench.engine ARCHIVE LAYER COMPRESSION ROOT`."""

from __future__ import annotations

import sys
from pathlib import Path

from kobuild.layers.engine import make_layer
from kobuild.layers.plan import FileInput, LayerPlan
from kobuild.oci.mediatypes import Compression


def main(archive: str, layer: str, compression: str, root: str) -> None:
    """Read the archive from disk, write the layer to disk."""
    plan = LayerPlan(root=root, compression=Compression(compression))
    with Path(layer).open("wb") as sink:
        make_layer(FileInput(Path(archive)), plan, sink)


if __name__ == "__main__":
    main(*sys.argv[1:])
