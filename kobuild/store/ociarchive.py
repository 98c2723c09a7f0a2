"""OCI archives: a layout in one tar, the same bytes for the same image (containers-transports(5), `oci-archive:`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kobuild.image.image import ImageSet
from kobuild.progress import NullReporter, Reporter
from kobuild.store.layout import INDEX_FILE, LAYOUT_FILE, blob_name
from kobuild.store.layoutwriter import DEFAULT_NAME, WriteResult, layout_contents
from kobuild.store.tarwriter import TarWriter
from kobuild.streams import CHUNK_BYTES, atomic_file


def write_oci_archive(
    path: Path,
    images: ImageSet,
    *,
    names: Sequence[str] = (DEFAULT_NAME,),
    reporter: Reporter | None = None,
) -> WriteResult:
    """Write the layout of `images` as one uncompressed tar, which appears at `path` when it is whole.

    Documents come first, so that a reader knows what follows; blobs stream from their sources. Raises IntegrityError
    where a source's bytes are not the blob's, StorageError for the disk.
    """
    contents = layout_contents(images, names)
    report = reporter or NullReporter()
    folders = sorted({f"blobs/{digest.algorithm}" for digest in contents.blobs})
    with atomic_file(path) as file:
        writer = TarWriter(file)
        writer.add_bytes(LAYOUT_FILE, contents.marker)
        writer.add_bytes(INDEX_FILE, contents.index)
        for folder in ("blobs", *folders):
            writer.add_folder(folder)
        for blob in contents.blobs.values():
            descriptor = blob.descriptor
            transfer = report.transfer(f"write {descriptor.digest.short}", descriptor.size)
            with blob.source.open() as source, writer.add_stream(blob_name(descriptor.digest), descriptor.size) as sink:
                while data := source.read(CHUNK_BYTES):
                    sink.write(data)
                    transfer.advance(len(data))
            transfer.done()
        writer.finish()
    written_bytes = sum(blob.descriptor.size for blob in contents.blobs.values())
    return WriteResult(images.descriptor, len(contents.blobs), 0, 0, written_bytes)
