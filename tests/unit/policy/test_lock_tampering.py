"""A changed byte of the lock is found: by the lock alone, by the image, or by the provenance that signs its sum."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.support.pushedproject import PushedProject
from tests.support.signingkeys import as_pem, make_key, public_pem, write_key

KEY = make_key()
POLICY = f'[verify]\nrequire = ["provenance"]\nkey = """{public_pem(KEY)}"""\n'
NAMED = re.compile(r"kobuild\.lock\b|error: the lock\b")


def verified(project: PushedProject, data: bytes, *more: str) -> tuple[int, str]:
    """Exit code and errors of verify with a lock of those bytes."""
    path = project.folder / "kobuild.lock"
    kept = path.read_bytes()
    path.write_bytes(data)
    try:
        code, _, err = project.run("verify", *more)
    finally:
        path.write_bytes(kept)
    return code, err


def changed(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def test_with_provenance_any_byte_counts(project: PushedProject, tmp_path: Path) -> None:
    project.settings(POLICY)
    name = write_key(tmp_path / "k.pem", as_pem(KEY))
    project.ok("provenance", str(project.reference), "--attach", "--key", name)
    data = (project.folder / "kobuild.lock").read_bytes()
    assert verified(project, data, str(project.reference)) == (0, "")
    source = random.Random(11)  # noqa: S311 - test data
    for place in sorted(source.sample(range(len(data)), 60)):
        code, err = verified(project, changed(data, place, source.randrange(8)), str(project.reference))
        assert code in (2, 3), (place, err)
        assert NAMED.search(err), (place, err)


def test_without_it_any_byte_counts_too(project: PushedProject) -> None:
    project.ok("build")
    data = (project.folder / "kobuild.lock").read_bytes()
    for place in range(0, len(data), 5):
        code, err = verified(project, changed(data, place, place % 5), "oci:dist/image")
        assert code in (2, 3), (place, err)
        assert NAMED.search(err), (place, err)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("# Made", "# made", "kobuild.lock:1: expected '# Made by"),
        ("version = 1\n", "version = 1 \n", "kobuild.lock:2: expected 'version = 1', found 'version = 1 '"),
        ('tag = ""', 'tag = ""\n# a remark', "found '# a remark'; restore the file from version control"),
        ("size = ", "size = 1", """, the sum of the tool's lines, found 'sum = """),
        ('version = ""', 'version = "1.2"', 'kobuild: files 1.2 under /opt, found "kobuild: files under /opt"'),
    ],
)
def test_what_was_edited_by_hand_is_shown(project: PushedProject, old: str, new: str, expected: str) -> None:
    text = (project.folder / "kobuild.lock").read_text()
    assert old in text, text
    code, err = verified(project, text.replace(old, new, 1).encode(), str(project.reference))
    assert code == 3
    assert expected in err


def test_line_ends_of_windows_are_no_difference(project: PushedProject) -> None:
    data = (project.folder / "kobuild.lock").read_bytes()
    assert verified(project, data.replace(b"\n", b"\r\n"), str(project.reference)) == (0, "")
