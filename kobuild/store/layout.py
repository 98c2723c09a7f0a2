"""OCI image layouts, read: image-spec, image-layout.md.

    oci-layout              the version
    index.json              what the layout holds: one descriptor a name
    blobs/ALGORITHM/HEX     manifests, indexes, configs and layers

The same reader serves a folder (`oci:`) and a tar of one (`oci-archive:`); `layoutwriter` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from kobuild.errors import LayoutError, LayoutMissing, MalformedDocument, SizeMismatch
from kobuild.frozen import frozen
from kobuild.image.blobs import BlobSource, BytesSource
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.annotations import REF_NAME
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest, document_media_type
from kobuild.store.files import Files, FolderFiles, MemberSource, TarFiles
from kobuild.streams import Readable, read_bounded

LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
LAYOUT_VERSION: Final = "1.0.0"


def blob_name(digest: Digest) -> str:
    """Where a layout keeps a blob, relative to its root."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


@frozen
class Layout:
    """A layout as an ImageStore: one image or index of it, chosen by name or digest."""

    name: str
    """In containers/image's spelling, such as `oci:dist/image:latest`."""
    files: Files
    tag: str | None = None
    """The `org.opencontainers.image.ref.name` to look for; None takes the only image there is."""
    digest: Digest | None = None
    """The manifest or index to take, whatever `index.json` says of it."""

    @classmethod
    def folder(cls, path: Path, *, tag: str | None = None, digest: Digest | None = None) -> Layout:
        """The layout in a folder; nothing is read yet."""
        return cls(_spell("oci", path, tag, digest), FolderFiles(path), tag, digest)

    @classmethod
    def archive(cls, path: Path, *, tag: str | None = None, digest: Digest | None = None) -> Layout:
        """The layout in a tar; nothing is read yet."""
        return cls(_spell("oci-archive", path, tag, digest), TarFiles(path), tag, digest)

    def index(self) -> Index:
        """`index.json`; raises LayoutError where this is no layout, MalformedDocument where it is a broken one."""
        place = f"{self.name}: {LAYOUT_FILE}"
        if self.files.size(LAYOUT_FILE) is None:
            raise LayoutMissing(
                f"read {self.name}: not an OCI image layout: it has no file {LAYOUT_FILE}",
                hint="is this the folder that build wrote? `kobuild build` makes dist/image",
            )
        marker = jsonio.parse_object(self._read(LAYOUT_FILE), place)
        version = jsonio.get_str(marker, "imageLayoutVersion", place)
        if version != LAYOUT_VERSION:
            raise LayoutError(f"read {place}: version {version!r} is not known (expected {LAYOUT_VERSION})")
        return Index.from_bytes(
            self._read(INDEX_FILE), media_type=mediatypes.OCI_INDEX, what=f"{self.name}: {INDEX_FILE}"
        )

    def root(self) -> Manifest | Index:
        """The image or index that name, tag or digest choose; raises LayoutError, listing what there is."""
        with _naming(f"{self.name}: {INDEX_FILE}", INDEX_FILE):
            index = self.index()
            if self.digest is not None:
                return self._by_digest(self.digest)
            entries = [item for item in index.manifests if self.tag in (None, item.annotations.get(REF_NAME))]
            if len({item.digest for item in entries}) == 1:
                # Each of them is looked at: one image may have several names, and any entry may be wrong.
                documents = [self._by_entry(entry) for entry in entries]
                return documents[0]
            if self.tag is None and _is_one_image(index):
                return index
            raise self._ambiguous(index, len(entries))

    def child(self, descriptor: Descriptor) -> Manifest | Index:
        """A manifest or index by descriptor; raises LayoutError (missing) or IntegrityError (other bytes)."""
        with self.open(descriptor) as file:
            raw = read_bounded(file, jsonio.MAX_DOCUMENT_BYTES, f"{self.name}: {descriptor.digest}")
        return parse_document(raw, descriptor.media_type, f"{self.name}: {descriptor.digest}")

    def source(self, descriptor: Descriptor) -> BlobSource:
        """A way to a blob's bytes; bytes that the descriptor embeds are used where the layout leaves them out."""
        name = blob_name(descriptor.digest)
        if descriptor.data is not None and self.files.size(name) is None:
            return BytesSource(descriptor.data)
        return MemberSource(self.files, name, descriptor, self.name)

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """Open a blob, verified as it is read."""
        return self.source(descriptor).open()

    def _by_entry(self, entry: Descriptor) -> Manifest | Index:
        try:
            document = self.child(entry)
        except SizeMismatch as error:
            place = f"{error.place}, whose size {INDEX_FILE} lists"
            raise SizeMismatch(place, expected=error.expected, actual=error.actual, hint=error.hint) from error
        if document.media_type != entry.media_type:
            raise MalformedDocument(
                f"{self.name}: {INDEX_FILE} says that {entry.digest} is {entry.media_type}, and it is "
                f"{document.media_type}"
            )
        return document

    def _by_digest(self, digest: Digest) -> Manifest | Index:
        size = self.files.size(blob_name(digest))
        if size is None:
            raise LayoutError(f"read {self.name}: there is no manifest {digest}")
        return self.child(Descriptor("", digest, size))

    def _read(self, name: str) -> bytes:
        with self.files.open(name) as file:
            return read_bounded(file, jsonio.MAX_DOCUMENT_BYTES, f"{self.name}: {name}")

    def _ambiguous(self, index: Index, found: int) -> LayoutError:
        names = sorted({item.annotations[REF_NAME] for item in index.manifests if REF_NAME in item.annotations})
        listed = f"it has {', '.join(names)}" if names else f"it has {len(index.manifests)} images without a name"
        if self.tag is not None and not found:
            return LayoutError(f"read {self.name}: no image is named {self.tag!r}; {listed}")
        return LayoutError(
            f"read {self.name}: {found} images to choose from; {listed}",
            hint="name one: oci:DIR:NAME, or oci:DIR@sha256:…",
        )


@contextmanager
def _naming(place: str, file: str) -> Iterator[None]:
    """Let an error name the file that led to it: of a blob that is not there, only that tells which byte was wrong."""
    try:
        yield
    except LayoutMissing:
        raise
    except (LayoutError, MalformedDocument) as error:
        if file in error.message:
            raise
        raise type(error)(f"{error.message} (by {place})", hint=error.hint) from error


def parse_document(raw: bytes, media_type: str | None, what: str) -> Manifest | Index:
    """Bytes of yet unknown kind as a manifest or an index; raises MalformedDocument."""
    kind = document_media_type(jsonio.parse_object(raw, what), media_type, what)
    parse: Callable[..., Manifest | Index] = Index.from_bytes if kind in mediatypes.INDEXES else Manifest.from_bytes
    return parse(raw, media_type=media_type, what=what)


def _is_one_image(index: Index) -> bool:
    """Whether `index.json` is itself the index of one image: an entry a platform, which some tools write so."""
    platforms = [item.platform for item in index.manifests if item.platform and item.platform.is_known]
    return bool(platforms) and len(set(platforms)) == len(platforms) and all(item.platform for item in index.manifests)


def _spell(transport: str, path: Path, tag: str | None, digest: Digest | None) -> str:
    return f"{transport}:{path}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
