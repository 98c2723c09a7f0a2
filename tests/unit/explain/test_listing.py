"""The files of layers: the same from a tar and from tables of contents, ours and other programs'."""

from __future__ import annotations

import gzip
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kobuild.errors import ArchiveError, DigestMismatch, MalformedDocument
from kobuild.explain.entries import printable
from kobuild.explain.listing import list_layer
from kobuild.image.blobs import BytesSource, Layer
from kobuild.image.mutate import gather
from kobuild.layers.entries import EMPTY_DIGEST, Kind, clean_path
from kobuild.layers.entries import Entry as Listed
from kobuild.layers.toc import ESTARGZ_DIGEST, read_table, table_form
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Compression, Family
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient, RegistryStore
from kobuild.store.layout import Layout
from tests.support.archives import Entry, folder, hard_link, symlink
from tests.support.archives import make_tar as pack
from tests.support.images import layout_of, make_image, make_layer
from tests.support.programs import require_program
from tests.support.registry import DockerRegistry
from tests.support.toolimages import base_image, tool, tool_image

ZSTD_CHECKSUM = "io.github.containers.zstd-chunked.manifest-checksum"
ZSTD_POSITION = "io.github.containers.zstd-chunked.manifest-position"
LARGE = bytes(range(256)) * 40_000
MEMBERS = [
    folder("go/"),
    folder("go/bin/", 0o700),
    Entry("go/bin/go", LARGE, mode=0o755, uid=7, gid=8),
    Entry("go/VERSION", b"go1.27.3\n"),
    Entry("go/empty"),
    Entry("go/caps", b"x", pax={"SCHILY.xattr.user.k": "v"}),
    symlink("go/link", "../x/./y"),
    hard_link("go/hard", "go/VERSION"),
    Entry("go/ünï code", b"1"),
]


def listed(layer: Layer, folder_path: Path) -> tuple[Listed, ...]:
    """The layer's files by its tar, from a layout."""
    path = layout_of(folder_path, make_image([layer]))
    return list_layer(Layout.folder(path), layer.descriptor, digests=True).entries


def table_of(layer: Layer) -> tuple[tuple[Listed, ...], int]:
    """The layer's files by its table of contents, as far as it is read."""
    with layer.source.open() as file:
        blob = file.read()
    table = read_table(layer.descriptor, lambda start, size: blob[start : start + size], "layer")
    assert table.form == table_form(layer.descriptor)
    return table.entries, table.bytes_read


@pytest.mark.parametrize("compression", [Compression.ESTARGZ, Compression.ZSTD_CHUNKED])
def test_a_table_says_what_the_tar_says(compression: Compression, tmp_path: Path) -> None:
    layer = tool("go", "1.27.3", MEMBERS, compression=compression, prioritized=["/usr/local/go/bin/go"]).layer
    entries, count = table_of(layer)
    assert 0 < count < layer.descriptor.size
    visible = {entry.path: entry for entry in entries if "landmark" not in entry.path}
    assert visible == {entry.path: entry for entry in listed(layer, tmp_path / "layout")}
    assert visible["usr/local/go/empty"].digest == EMPTY_DIGEST
    assert visible["usr/local/go/bin/go"].digest == str(Digest.of(LARGE))
    assert visible["usr/local/go/hard"].link == "usr/local/go/VERSION"
    assert visible["usr/local/go/link"].link == "../x/./y"
    assert visible["usr/local/go/caps"].xattrs == (("user.k", "dg=="),)
    assert (visible["usr/local/go/bin"].kind, visible["usr/local/go/bin"].mode) == (Kind.DIRECTORY, 0o700)


@pytest.mark.parametrize("compression", [Compression.ESTARGZ, Compression.ZSTD_CHUNKED])
def test_from_a_registry_only_the_table_is_read(
    compression: Compression, registry: DockerRegistry, client: RegistryClient
) -> None:
    addition = tool("go", "1.27.3", MEMBERS, compression=compression)
    reference = Reference.parse(f"{registry.host}/toc/{compression.name.lower()}:1")
    client.push(gather([tool_image(base_image(), [addition])]), [reference])
    registry.forget()
    listing = list_layer(RegistryStore(client, reference), addition.layer.descriptor, digests=True)
    assert {entry.path for entry in listing.entries} >= {"usr/local/go/bin/go", "usr/local/go/VERSION"}
    assert not any("landmark" in entry.path or "stargz" in entry.path for entry in listing.entries)
    assert listing.bytes_read < 2000 < addition.layer.descriptor.size
    answers = registry.requests()
    assert len(answers) <= 3
    assert {status for _, target, status in answers if "/blobs/" in target} == {206}


@pytest.mark.parametrize("compression", [Compression.ESTARGZ, Compression.ZSTD_CHUNKED])
def test_a_table_that_hides_a_file_does_not_hide_it_from_the_whole(
    compression: Compression, registry: DockerRegistry, client: RegistryClient
) -> None:
    """The manifest vouches for a table of another layer, with which the tar does not agree."""
    honest = tool("go", "1", MEMBERS, compression=compression).layer
    other = tool("go", "1", MEMBERS[:3], compression=compression).layer
    with honest.source.open() as one, other.source.open() as two:
        blob, table_blob = one.read(), two.read()
    notes = dict(other.descriptor.annotations)
    if compression is Compression.ESTARGZ:
        own, others = (int(data[-35:-19], 16) for data in (blob, table_blob))
        joined = blob[:own] + table_blob[others:-51] + footer(own)
    else:
        start, size, rest = notes[ZSTD_POSITION].split(":", 2)
        joined = blob + table_blob[int(start) - 8 : int(start) + int(size)]
        notes[ZSTD_POSITION] = f"{len(blob) + 8}:{size}:{rest}"
    descriptor = replace(honest.descriptor, digest=Digest.of(joined), size=len(joined), annotations=notes)
    layer = Layer(descriptor, BytesSource(joined), honest.diff_id)
    reference = Reference.parse(f"{registry.host}/toc/liar-{compression.name.lower().replace('_', '-')}:1")
    client.push(gather([make_image([layer])]), [reference])
    store = RegistryStore(client, reference)
    hidden = "usr/local/go/VERSION"
    assert hidden not in {entry.path for entry in list_layer(store, descriptor).entries}
    assert hidden in {entry.path for entry in list_layer(store, descriptor, whole=True).entries}


def test_skopeo_s_own_zstd_chunked_is_read_by_its_table(
    registry: DockerRegistry, client: RegistryClient, tmp_path: Path
) -> None:
    skopeo = require_program("skopeo")
    layout = layout_of(tmp_path / "layout", make_image([make_layer(pack(MEMBERS))]))
    reference = Reference.parse(f"{registry.host}/skopeo/chunked:1")
    flags = ["--dest-tls-verify=false", "--dest-compress-format=zstd:chunked"]
    subprocess.run([skopeo, "copy", "-q", *flags, f"oci:{layout}", f"docker://{reference}"], check=True)
    store = RegistryStore(client, reference)
    root = store.root()
    assert isinstance(root, Manifest)
    (descriptor,) = root.layers
    assert table_form(descriptor) == "zstd:chunked"
    listing = list_layer(store, descriptor, digests=True)
    assert listing.bytes_read < descriptor.size
    plain = list_layer(Layout.folder(layout), Layout.folder(layout).root().layers[0], digests=True)  # type: ignore[union-attr]
    assert sorted(listing.entries, key=lambda entry: entry.path) == sorted(plain.entries, key=lambda entry: entry.path)


@pytest.mark.parametrize("digits", [b"-000000000000001", b"+000000000000001", b" 00000000000_001", b"000000000000000x"])
def test_a_footer_whose_offset_is_no_number_is_none(digits: bytes) -> None:
    layer = tool("go", "1", MEMBERS, compression=Compression.ESTARGZ).layer
    with layer.source.open() as file:
        blob = file.read()
    blob = blob[:-35] + digits + blob[-19:]
    with pytest.raises(ArchiveError, match="no eStargz footer"):
        read_table(layer.descriptor, lambda start, size: blob[start : start + size], "layer")


def with_notes(layer: Layer, notes: dict[str, str]) -> Layer:
    return replace(layer, descriptor=layer.descriptor.with_annotations(notes))


WRONG = str(Digest.of(b"something else"))


@pytest.mark.parametrize(
    ("compression", "notes", "error", "text"),
    [
        (Compression.ESTARGZ, {ESTARGZ_DIGEST: WRONG}, DigestMismatch, "table of contents"),
        (Compression.ZSTD_CHUNKED, {ZSTD_CHECKSUM: WRONG}, DigestMismatch, "table of contents"),
        (Compression.ZSTD_CHUNKED, {ZSTD_POSITION: "1:2"}, ArchiveError, "cannot be read"),
        (Compression.ZSTD_CHUNKED, {ZSTD_POSITION: "1:2:3:9"}, ArchiveError, "cannot be read"),
        (Compression.ZSTD_CHUNKED, {ZSTD_POSITION: "1:99999999:3:1"}, ArchiveError, "99999999 bytes at 1"),
        (Compression.GZIP, {ESTARGZ_DIGEST: WRONG}, ArchiveError, "no eStargz footer"),
        (Compression.ESTARGZ, {ESTARGZ_DIGEST: "sha256:short"}, MalformedDocument, "not a digest"),
    ],
)
def test_a_table_that_does_not_keep_its_promise_is_refused(
    compression: Compression, notes: dict[str, str], error: type[Exception], text: str
) -> None:
    layer = with_notes(tool("go", "1", MEMBERS, compression=compression).layer, notes)
    with pytest.raises(error, match=text):
        table_of(layer)


def footer(offset: int) -> bytes:
    """An eStargz footer as the specification draws it."""
    extra = b"SG\x16\x00" + b"%016x" % offset + b"STARGZ"
    head = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff" + len(extra).to_bytes(2, "little") + extra
    return head + b"\x01\x00\x00\xff\xff" + bytes(8)


def crafted(table: bytes, name: str = "stargz.index.json", *, offset: int | None = None) -> Layer:
    """A layer with nothing but a table of contents."""
    blob = gzip.compress(pack([Entry(name, table)]))
    blob += footer(0 if offset is None else offset)
    descriptor = Descriptor(
        Family.OCI.layer(Compression.GZIP),
        Digest.of(blob),
        len(blob),
        annotations={ESTARGZ_DIGEST: str(Digest.of(table))},
    )
    return Layer(descriptor, BytesSource(blob), Digest.of(b""))


@pytest.mark.parametrize(
    ("layer", "error", "text"),
    [
        (crafted(b"{}", offset=10**9), ArchiveError, "beyond the blob's end"),
        (crafted(b"{}", "other.json"), ArchiveError, "expected stargz.index.json"),
        (crafted(b"[]"), MalformedDocument, "expected a JSON object"),
        (crafted(b"{"), MalformedDocument, "not JSON"),
        (crafted(b'{"entries":[{"type":"reg"}]}'), MalformedDocument, "name: expected a string"),
        (crafted(b'{"entries":[{"name":"a","type":"door"}]}'), MalformedDocument, "type: 'door' is unknown"),
        (crafted(b'{"entries":[{"name":"a","type":"reg","size":-1}]}'), MalformedDocument, "size: expected a non-neg"),
    ],
)
def test_a_table_from_a_hostile_hand_is_an_error(layer: Layer, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        table_of(layer)


def test_a_crafted_table_is_read() -> None:
    file = {"name": "a/b", "type": "reg", "size": 3}
    entries = [{"name": "a/", "type": "dir", "mode": 0o755}, file, {"name": "a/b", "type": "chunk"}]
    table = json.dumps({"version": 1, "entries": entries}).encode()
    assert table_of(crafted(table))[0] == (Listed("a", Kind.DIRECTORY, mode=0o755), Listed("a/b", Kind.FILE, 3))


def test_whiteouts_are_told_apart_from_files(tmp_path: Path) -> None:
    members = [
        folder("./"),
        Entry("./etc/.wh.passwd"),
        Entry(".wh.gone"),
        Entry("var/.wh..wh..opq"),
        Entry(".wh..wh..opq"),
        Entry("var/kept", b"1"),
    ]
    image = make_image([make_layer(pack(members))])
    listing = list_layer(Layout.folder(layout_of(tmp_path / "l", image)), image.layers[0].descriptor)
    assert [entry.path for entry in listing.entries] == ["", "var/kept"]
    assert listing.removed == ("etc/passwd", "gone")
    assert listing.opaque == ("var", "")
    assert listing.entries[1].digest == ""
    assert listing.size == 1


def test_what_follows_the_tar_still_counts_for_the_digest(tmp_path: Path) -> None:
    image = make_image([make_layer(pack(MEMBERS))])
    path = layout_of(tmp_path / "l", image)
    descriptor = image.layers[0].descriptor
    blob = path / "blobs" / "sha256" / descriptor.digest.hex
    data = bytearray(blob.read_bytes())
    data[-9] ^= 1  # within the compressed end of the archive
    blob.chmod(0o644)
    blob.write_bytes(data)
    with pytest.raises((DigestMismatch, ArchiveError)):
        list_layer(Layout.folder(path), descriptor)


def test_names_are_cleaned_and_printed_safely() -> None:
    assert clean_path("./usr//bin/") == "usr/bin"
    assert printable("a\x1b[31m\nb") == "a\\x1b[31m\\nb"
    assert printable("caf\udce9") == "caf\\xe9"
    assert printable("ünï") == "ünï"
    assert printable("\ud800") == "\\ud800"
