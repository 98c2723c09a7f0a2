"""Coverage-guided fuzzing of the layer engine: any bytes are a layer or an ArchiveError, in bounded memory and time.

    python -m tests.fuzz.fuzz_layers [CORPUS…] -max_total_time=300

Needs atheris (`pip install atheris`). The corpus starts from archives of every kind.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from kobuild.errors import ArchiveError
from kobuild.oci.mediatypes import Compression

atheris: Any = importlib.import_module("atheris")

with atheris.instrument_imports(include=["kobuild.layers", "kobuild.decompress"]):
    from kobuild.layers.engine import make_layer
    from kobuild.layers.plan import LayerPlan, Limits

from tests.support.archives import Entry, MemoryInput, folder, hard_link, make_tar, make_zip, symlink  # noqa: E402

_LIMITS = Limits(members=1000, total_bytes=32 * 1024 * 1024, ratio_grace_bytes=1024 * 1024)
_FOLDER = Path(tempfile.mkdtemp(prefix="kobuild-fuzz-"))
_PLANS = (
    LayerPlan(root="/r", compression=Compression.NONE, limits=_LIMITS, rename="bare"),
    LayerPlan(compression=Compression.NONE, limits=_LIMITS, rename="bare", allow_devices=True),
    LayerPlan(strip=1, only=("a", "**/b"), compression=Compression.ESTARGZ, limits=_LIMITS, rename="bare"),
    LayerPlan(root="/r", compression=Compression.ZSTD_CHUNKED, limits=_LIMITS, rename="bare"),
)


def fuzz_one(data: bytes) -> None:
    """The first byte chooses the plan, the rest is the archive."""
    if not data:
        return
    plan = _PLANS[data[0] % len(_PLANS)]
    sink = io.BytesIO()
    with contextlib.suppress(ArchiveError):
        make_layer(MemoryInput(data[1:], "fuzz", _FOLDER), plan, sink)
        if plan.compression is Compression.NONE:
            check_layer(sink.getvalue(), plan.root.strip("/"))


def check_layer(tar: bytes, root: str) -> None:
    """What was written is a tar to others, too, and nothing in it lies outside the root."""
    with tarfile.open(fileobj=io.BytesIO(tar), encoding="utf-8", errors="surrogateescape") as archive:
        for info in archive:
            inside = info.name.startswith(root)
            if not inside or info.name.startswith("/") or ".." in info.name.split("/"):
                raise AssertionError(info.name)


def write_seeds(corpus: Path) -> None:
    """Archives of every kind to start from."""
    entries = [folder("a"), Entry("a/b", b"x" * 700), symlink("a/c", "b"), hard_link("a/d", "a/b"), Entry("n" * 120)]
    tars = [make_tar(entries, kind) for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
    tars.append(make_tar([Entry("a", b"1", pax={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"})]))
    seeds = [*tars, gzip.compress(tars[-1]), make_zip([("a/b", b"x" * 99, 0o100755), ("a/", b"", None)])]
    for number, seed in enumerate(seeds):
        for plan in range(len(_PLANS)):
            (corpus / f"seed-{number}-{plan}").write_bytes(bytes([plan]) + seed)


def main() -> None:
    """Fuzz until told to stop."""
    corpus = next((Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")), None)
    if corpus is None:
        corpus = Path(tempfile.mkdtemp(prefix="kobuild-corpus-"))
        sys.argv.append(str(corpus))
    corpus.mkdir(parents=True, exist_ok=True)
    write_seeds(corpus)
    atheris.Setup(sys.argv, fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
