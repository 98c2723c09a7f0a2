"""Archives made on the spot by the standard library and by real programs, and a short way through the layer engine."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kobuild.layers.compressing import zstd_frame
from kobuild.layers.engine import make_layer
from kobuild.layers.plan import LayerPlan, LayerResult
from kobuild.oci.mediatypes import Compression
from kobuild.streams import Readable

MTIME = 1_700_000_000


@dataclass
class MemoryInput:
    """An archive in memory, as an input of the engine; its file appears in `folder` when somebody asks for it."""

    data: bytes
    name: str = "tool.tar.gz"
    folder: Path | None = None
    opened: int = 0
    piece: int | None = None
    """Give at most so many bytes a read."""

    @contextlib.contextmanager
    def stream(self) -> Iterator[Readable]:
        self.opened += 1
        reader = io.BytesIO(self.data)
        yield _SmallReads(reader, self.piece) if self.piece else reader

    def path(self) -> Path:
        folder = self.folder or Path(tempfile.mkdtemp(prefix="kobuild-test-"))
        path = folder / self.name
        path.write_bytes(self.data)
        return path


class _SmallReads:
    def __init__(self, inner: io.BytesIO, piece: int) -> None:
        self._inner = inner
        self._piece = piece

    def read(self, size: int = -1, /) -> bytes:
        return self._inner.read(self._piece if size < 0 else min(size, self._piece))


@dataclass
class Entry:
    """One member to pack."""

    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    link: str = ""
    mtime: float = MTIME
    uid: int = 0
    gid: int = 0
    uname: str = "root"
    gname: str = "root"
    pax: dict[str, str] = field(default_factory=dict)

    def info(self) -> tarfile.TarInfo:
        info = tarfile.TarInfo(self.name)
        info.type = self.kind
        info.mode = self.mode
        info.linkname = self.link
        info.mtime = self.mtime
        info.size = len(self.content)
        info.uid, info.gid, info.uname, info.gname = self.uid, self.gid, self.uname, self.gname
        info.pax_headers = dict(self.pax)
        return info


def folder(name: str, mode: int = 0o755) -> Entry:
    return Entry(name, kind=tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> Entry:
    return Entry(name, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def hard_link(name: str, target: str) -> Entry:
    return Entry(name, kind=tarfile.LNKTYPE, link=target)


def make_tar(
    entries: Iterable[Entry], tar_format: int = tarfile.PAX_FORMAT, pax_globals: dict[str, str] | None = None
) -> bytes:
    """A tar by the standard library."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tar_format, pax_headers=pax_globals, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for entry in entries:
            tar.addfile(entry.info(), io.BytesIO(entry.content))
    return buffer.getvalue()


def make_tar_gz(entries: Iterable[Entry]) -> bytes:
    return gzip.compress(make_tar(entries), mtime=0)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": zstd_frame,
}


def make_zip(members: Iterable[tuple[str, bytes, int | None]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of (name, content, Unix mode with its type; None makes it a DOS member)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10))
            info.create_system = 0 if mode is None else 3
            info.external_attr = 0 if mode is None else mode << 16
            info.compress_type = method
            archive.writestr(info, content)
    return buffer.getvalue()


@dataclass(frozen=True)
class Made:
    """A layer and what a plain tar reader makes of it."""

    result: LayerResult
    blob: bytes
    tar: bytes

    @property
    def infos(self) -> dict[str, tarfile.TarInfo]:
        with self.open() as tar:
            return {info.name: info for info in tar}

    @property
    def names(self) -> list[str]:
        with self.open() as tar:
            return tar.getnames()

    def open(self) -> tarfile.TarFile:
        return tarfile.open(fileobj=io.BytesIO(self.tar), encoding="utf-8", errors="surrogateescape")

    def read(self, name: str) -> bytes:
        with self.open() as tar:
            member = tar.extractfile(name)
            assert member is not None
            return member.read()


def make(source: bytes | MemoryInput, plan: LayerPlan | None = None) -> Made:
    """Make a layer; without a plan it is not compressed and goes to `/`, on an empty base."""
    plan = plan or LayerPlan(compression=Compression.NONE, base_has_standard_dirs=False)
    sink = io.BytesIO()
    archive = MemoryInput(source) if isinstance(source, bytes) else source
    result = make_layer(archive, plan, sink)
    return Made(result, sink.getvalue(), unpack(sink.getvalue(), plan.compression))


def unpack(blob: bytes, compression: Compression) -> bytes:
    """The tar in a layer's bytes, by other code than the engine's."""
    if compression in (Compression.GZIP, Compression.ESTARGZ):
        return gzip.decompress(blob)
    if compression in (Compression.ZSTD, Compression.ZSTD_CHUNKED):
        return subprocess.run(["zstd", "-dc"], input=blob, capture_output=True, check=True).stdout
    return blob
