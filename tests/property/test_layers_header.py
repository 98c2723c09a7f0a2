"""The header codec against the standard library and GNU tar, and the reader against whatever bytes come."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kobuild.errors import ArchiveError
from kobuild.layers import members, pax, tarheader
from kobuild.layers.members import Member
from kobuild.layers.tarreader import TarReader
from tests.support.programs import require_program

part = st.binary(min_size=1, max_size=60).filter(lambda data: not set(b"/\0") & set(data) and data not in (b".", b".."))
name = st.lists(part, min_size=1, max_size=8).map(b"/".join)
owner = st.one_of(st.integers(0, 2**21 + 5), st.integers(0, 2**31 - 1))
text = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=40)
record = st.tuples(
    st.text(st.characters(codec="ascii", exclude_characters="=\0\n \r"), min_size=1, max_size=20).map(
        lambda key: b"SCHILY.xattr.user." + key.encode()
    ),
    st.binary(min_size=1, max_size=80),
)


@st.composite
def regular_members(draw: st.DrawFn) -> tuple[Member, bytes]:
    content = draw(st.binary(max_size=1200))
    records = dict(draw(st.lists(record, max_size=2)))
    member = Member(
        name=draw(name),
        kind=members.REGULAR,
        mode=draw(st.integers(0, 0o7777)),
        size=len(content),
        mtime=draw(st.one_of(st.integers(-(2**31), 2**40), st.integers(0, 2**33 + 2))),
        uid=draw(owner),
        gid=draw(owner),
        uname=draw(text).encode(),
        gname=draw(text).encode(),
        records=records or None,
    )
    return member, content


@st.composite
def links(draw: st.DrawFn) -> tuple[Member, bytes]:
    kind = draw(st.sampled_from([members.SYMLINK, members.HARD_LINK]))
    return Member(draw(name), kind, draw(st.integers(0, 0o7777)), 0, draw(st.integers(0, 2**32)), link=draw(name)), b""


@st.composite
def folders(draw: st.DrawFn) -> tuple[Member, bytes]:
    return Member(draw(name), members.DIRECTORY, draw(st.integers(0, 0o7777)), 0, draw(st.integers(0, 2**32))), b""


any_member = st.one_of(regular_members(), links(), folders())


def pack(entries: list[tuple[Member, bytes]]) -> bytes:
    parts = []
    for member, content in entries:
        parts += [tarheader.encode_header(member), content, bytes(tarheader.padding(len(content)))]
    return b"".join(parts) + bytes(1024)


def read(tar: bytes, *, piece: int = 2**20, sealed: bool = False) -> list[tuple[Member, bytes]]:
    chunks = (tar[start : start + piece] for start in range(0, len(tar), piece))
    reader = TarReader(chunks, "test.tar", sealed=sealed, max_members=1000)
    found = []
    for member in reader:
        found.append((member, b"".join(bytes(part) for part in reader.content())))
        if member.kind == members.DIRECTORY:
            member.name = member.name.rstrip(b"/")
    return found


@settings(deadline=None)
@given(st.lists(any_member, max_size=5), st.integers(1, 3000))
def test_what_is_written_is_read_again(entries: list[tuple[Member, bytes]], piece: int) -> None:
    assert read(pack(entries), piece=piece) == entries


@settings(deadline=None)
@given(st.lists(any_member, max_size=4))
def test_the_standard_library_reads_it_alike(entries: list[tuple[Member, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(entries)), encoding="utf-8", errors="surrogateescape") as tar:
        for info, (member, content) in zip(tar.getmembers(), entries, strict=True):
            assert info.name.encode("utf-8", "surrogateescape").rstrip(b"/") == member.name
            assert (info.mode, info.uid, info.gid, info.mtime) == (member.mode, member.uid, member.gid, member.mtime)
            assert info.type == member.kind
            assert info.linkname.encode("utf-8", "surrogateescape") == member.link
            assert (info.uname.encode(), info.gname.encode()) == (member.uname, member.gname)
            kept = {key.encode() for key in info.pax_headers if key.startswith("SCHILY.")}
            assert kept == set(member.records or {})
            if info.isreg():
                file = tar.extractfile(info)
                assert file is not None
                assert file.read() == content


@settings(deadline=None)
@given(st.lists(any_member, max_size=4), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_what_the_standard_library_writes_is_read_alike(entries: list[tuple[Member, bytes]], tar_format: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format, encoding="utf-8", errors="surrogateescape") as tar:
        for member, content in entries:
            info = tarfile.TarInfo(member.name.decode("utf-8", "surrogateescape"))
            info.type, info.mode, info.size, info.mtime = member.kind, member.mode, len(content), member.mtime or 0
            info.uid, info.gid = member.uid, member.gid
            info.linkname = member.link.decode("utf-8", "surrogateescape")
            tar.addfile(info, io.BytesIO(content))
    for (found, data), (member, content) in zip(read(buffer.getvalue()), entries, strict=True):
        assert (found.name, found.kind, found.link, data) == (member.name, member.kind, member.link, content)
        assert (found.mode, found.mtime, found.uid, found.gid) == (member.mode, member.mtime, member.uid, member.gid)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(any_member, min_size=1, max_size=6))
def test_gnu_tar_lists_the_same_names(entries: list[tuple[Member, bytes]]) -> None:
    program = require_program("tar")
    command = [program, "--list", "--quoting-style=escape", "-f", "-"]
    done = subprocess.run(command, input=pack(entries), capture_output=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(entries)
    for line, (member, _) in zip(lines, entries, strict=True):
        if all(32 < byte < 127 and byte != ord("\\") for byte in member.name):
            assert line.rstrip(b"/") == member.name


@settings(deadline=None)
@given(st.lists(any_member, min_size=1, max_size=3), st.data())
def test_a_cut_archive_is_an_error_wherever_it_is_cut(entries: list[tuple[Member, bytes]], data: st.DataObject) -> None:
    tar = pack(entries)
    length = data.draw(st.integers(0, len(tar) - 1024))
    try:
        read(tar[:length], sealed=data.draw(st.booleans()))
    except ArchiveError:
        return
    # Only an archive that ends between two members, within a stream known to be whole, is let through.
    assert length % 512 == 0
    assert tar[:length] in [pack(entries[:count])[:-1024] for count in range(len(entries) + 1)]


@settings(deadline=None)
@given(st.lists(any_member, min_size=1, max_size=3), st.data())
def test_damage_is_an_error_or_lies_in_content(entries: list[tuple[Member, bytes]], data: st.DataObject) -> None:
    tar = bytearray(pack(entries))
    position = data.draw(st.integers(0, len(tar) - 1))
    tar[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = read(bytes(tar))
    except ArchiveError:
        return
    # Headers are summed, and the end must be zeros: what is let through is in content, padding or a pax value.
    assert len(found) == len(entries)


@settings(deadline=None)
@given(st.binary(max_size=3000), st.integers(1, 2000))
def test_any_bytes_are_an_archive_or_a_clear_error(data: bytes, piece: int) -> None:
    with contextlib.suppress(ArchiveError):
        read(data, piece=piece)


@settings(deadline=None)
@given(st.binary(min_size=512, max_size=512).map(bytearray), st.binary(max_size=1500))
def test_any_header_with_a_right_sum_is_read_or_refused(block: bytearray, rest: bytes) -> None:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with contextlib.suppress(ArchiveError):
        read(bytes(block) + rest)


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.binary(max_size=200)), max_size=5))
def test_pax_records_round_trip(records: list[tuple[bytes, bytes]]) -> None:
    clean = [(key.replace(b"=", b"-"), value) for key, value in records]
    assert pax.parse_records(pax.format_records(clean), "test") == clean


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_pax_records_or_a_clear_error(data: bytes) -> None:
    with contextlib.suppress(ArchiveError):
        pax.parse_records(data, "test")
