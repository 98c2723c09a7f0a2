"""OCI image layouts, written: blobs first, `index.json` last, and only then the blobs of earlier builds removed.

A reader sees the old image or the new one, at every moment. Blobs are copied, not linked: a layout belongs to its user,
who may edit it, and must not share a file with the cache. A blob that stands there already is read once and kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from kobuild.errors import IntegrityError, KobuildError, LayoutError, MalformedDocument
from kobuild.frozen import frozen
from kobuild.image.blobs import Blob, BytesSource
from kobuild.image.image import ImageSet
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.annotations import REF_NAME
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.progress import NullReporter, Reporter
from kobuild.store.layout import INDEX_FILE, LAYOUT_FILE, LAYOUT_VERSION, Layout, blob_name
from kobuild.streams import CHUNK_BYTES, VerifyingReader, atomic_file, atomic_write, disk_errors, stoppable

DEFAULT_NAME: Final = "latest"
"""What a layout's image is called where nobody says; umoci looks for it by itself."""
_JOBS: Final = 4
_BLOB_FILE: Final = re.compile(r"[0-9a-f]{64,128}|\.[0-9a-f]{64,80}\..*\.tmp")


@frozen
class LayoutContents:
    """Everything that a layout of one image set holds."""

    marker: bytes
    """The file `oci-layout`."""
    index: bytes
    """The file `index.json`."""
    blobs: Mapping[Digest, Blob]
    """Small documents first, then layers in the manifests' order."""


@frozen
class WriteResult:
    """What writing did."""

    descriptor: Descriptor
    """The image or index that was written."""
    written: int
    """Blobs copied."""
    kept: int
    """Blobs that stood there already and were found right."""
    removed: int
    """Blobs of earlier builds that were removed."""
    written_bytes: int


def layout_contents(images: ImageSet, names: Sequence[str] = (DEFAULT_NAME,)) -> LayoutContents:
    """The files of a layout that holds `images`, one entry in `index.json` a name.

    With more than one name, tools that are not told one (`skopeo inspect oci:DIR`) refuse to choose.
    """
    documents: list[Manifest | Index] = [member.manifest for member in images.members]
    if images.index is not None:
        documents.insert(0, images.index)
    blobs = {document.digest: Blob(document.descriptor, BytesSource(document.raw)) for document in documents}
    of_images = [blob for member in images.members for blob in member.blobs if not _stays_away(blob.descriptor)]
    # A stable sort: configs, which are in memory, before layers, which may come from afar.
    for blob in sorted(of_images, key=lambda blob: not isinstance(blob.source, BytesSource)):
        blobs.setdefault(blob.descriptor.digest, blob)
    marker = jsonio.canonical({"imageLayoutVersion": LAYOUT_VERSION})
    return LayoutContents(marker, index_document(images.descriptor, names), blobs)


def index_document(descriptor: Descriptor, names: Sequence[str], others: Sequence[Descriptor] = ()) -> bytes:
    """The `index.json` of a layout that holds one image or index under each of `names`, and `others` as they are."""
    entries = [descriptor.with_annotations({REF_NAME: name}) for name in dict.fromkeys(names)]
    return Index.build(media_type=mediatypes.OCI_INDEX, manifests=(*(entries or [descriptor]), *others)).raw


def write_layout(
    folder: Path,
    images: ImageSet,
    *,
    names: Sequence[str] = (DEFAULT_NAME,),
    reporter: Reporter | None = None,
) -> WriteResult:
    """Put `images` into the layout at `folder`, under `names`; doing it again writes nothing.

    Images of these names, and those without one, are replaced; images under other names stay. Raises LayoutError where
    `folder` holds something else than a layout, IntegrityError where a source's bytes are not the blob's, StorageError
    for the disk. After an error the earlier image stands as it was, still readable.
    """
    contents = layout_contents(images, names)
    with disk_errors("write", folder):
        if folder.exists() and not folder.is_dir():
            raise LayoutError(f"write oci:{folder}: this is a file, not a folder")
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _refuse_others_folder(folder)
        _write_if_other(folder / LAYOUT_FILE, contents.marker)
        others = _other_images(folder, names)
        written = _write_blobs(folder, contents.blobs, reporter or NullReporter())
        _write_if_other(folder / INDEX_FILE, index_document(images.descriptor, names, others))
        keep = _reachable(folder, others)
        removed = 0 if keep is None else _remove_stale(folder, keep | {blob_name(digest) for digest in contents.blobs})
    return WriteResult(
        descriptor=images.descriptor,
        written=len(written),
        kept=len(contents.blobs) - len(written),
        removed=removed,
        written_bytes=sum(blob.descriptor.size for blob in written),
    )


def _stays_away(descriptor: Descriptor) -> bool:
    """Foreign layers are named by their `urls` and never copied (image-spec, layer.md, "Non-Distributable Layers")."""
    return mediatypes.is_foreign(descriptor.media_type) and bool(descriptor.urls)


def _refuse_others_folder(folder: Path) -> None:
    """See that the folder is a layout or empty: nothing that is not ours is ever replaced."""
    with disk_errors("read", folder):
        names = os.listdir(folder)
    remains = f".{LAYOUT_FILE}."  # of a build that was killed at its very start
    if LAYOUT_FILE not in names and not all(name.startswith(remains) for name in names):
        raise LayoutError(
            f"write oci:{folder}: the folder is not empty and is not an OCI image layout",
            hint="choose another folder, or empty this one first",
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process: a second build waits, else it would take our new blobs for stale ones."""
    with disk_errors("lock", folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with disk_errors("lock", folder):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_if_other(path: Path, data: bytes) -> None:
    with disk_errors("read", path):
        if path.is_file() and path.read_bytes() == data:
            return
    atomic_write(path, data)


def _write_blobs(folder: Path, blobs: Mapping[Digest, Blob], reporter: Reporter) -> list[Blob]:
    """Copy what is missing or damaged, several at once; returns what was copied."""
    stopped = threading.Event()

    def write(blob: Blob) -> bool:
        return _write_blob(folder / blob_name(blob.descriptor.digest), blob, reporter, stopped)

    pool = ThreadPoolExecutor(max_workers=_JOBS, thread_name_prefix="kobuild-layout")
    try:
        return [blob for blob, copied in zip(blobs.values(), pool.map(write, blobs.values()), strict=True) if copied]
    except BaseException:
        # After an error, or Ctrl-C, blobs that are being copied stop, and others are not begun.
        stopped.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write_blob(path: Path, blob: Blob, reporter: Reporter, stopped: threading.Event) -> bool:
    if _is_good(path, blob.descriptor):
        return False
    descriptor = blob.descriptor
    transfer = reporter.transfer(f"write {descriptor.digest.short}", descriptor.size)
    # A BlobSource verifies what it hands out, and raises before the file gets its name; here the bytes only pass.
    with stoppable(blob.source.open(), stopped) as source, atomic_file(path) as file:
        while data := source.read(CHUNK_BYTES):
            file.write(data)
            transfer.advance(len(data))
    transfer.done()
    return True


def _is_good(path: Path, descriptor: Descriptor) -> bool:
    """Whether the blob stands there with the right bytes; they are read, since a size alone proves nothing."""
    try:
        if path.stat().st_size != descriptor.size:
            return False
        with path.open("rb") as file:
            reader = VerifyingReader(file, digest=descriptor.digest, size=descriptor.size, place=str(path))
            while reader.read(CHUNK_BYTES):
                pass
    except (OSError, IntegrityError):
        return False
    return True


def _other_images(folder: Path, names: Sequence[str]) -> tuple[Descriptor, ...]:
    """Entries of `index.json` under other names; none where there is no index yet, or a broken one."""
    try:
        entries = Layout.folder(folder).index().manifests
    except (LayoutError, MalformedDocument, IntegrityError):
        return ()
    return tuple(entry for entry in entries if entry.annotations.get(REF_NAME, "") not in ("", *names))


def _reachable(folder: Path, entries: Sequence[Descriptor]) -> set[str] | None:
    """Names of all blobs that `entries` need; None where that cannot be told, and so nothing may be removed."""
    layout, pending, found = Layout.folder(folder), list(entries), set[str]()
    while pending:
        entry = pending.pop()
        if blob_name(entry.digest) in found:
            continue
        found.add(blob_name(entry.digest))
        try:
            document = layout.child(entry)
        except KobuildError:
            return None
        if isinstance(document, Index):
            pending += document.manifests
        else:
            found |= {blob_name(blob.digest) for blob in (document.config, *document.layers)}
        pending += (document.subject,) if document.subject is not None else ()
    return found


def _remove_stale(folder: Path, keep: set[str]) -> int:
    """Remove blobs that nothing needs, and the remains of killed builds.

    Only files that are named as blobs are, or as our temporary ones, and none behind a link to some other folder.
    """
    removed = 0
    with disk_errors("remove stale blobs of", folder):
        for path in sorted(folder.glob("blobs/*/*")):
            is_ours = _BLOB_FILE.fullmatch(path.name) is not None
            is_linked = path.parent.is_symlink() or path.parent.parent.is_symlink()
            if is_ours and not is_linked and path.relative_to(folder).as_posix() not in keep:
                path.unlink()
                removed += 1
    return removed
