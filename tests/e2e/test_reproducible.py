"""The same lock gives the same image: on each Python, with and without isal, wherever and by whomever it is built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kobuild.oci.mediatypes import Compression
from tests.support.archives import MTIME, Entry, folder, hard_link, make_tar_gz, make_zip, symlink
from tests.support.commandline import ROOT
from tests.support.images import AMD64, ARM64, layout_of, make_image, make_layer
from tests.support.images import make_tar as plain_tar
from tests.support.programs import require_program
from tests.support.pythons import find_pythons

HOOK = ROOT / "tests" / "support" / "sitehook"
COMPRESSIONS = [item.value for item in Compression if item is not Compression.NONE]
# What this lock gives on every machine. Where a change of kobuild changes it on purpose, say so in CHANGELOG.md.
IMAGE_IDS = {
    "linux/amd64": "sha256:225a1a062ed16dea8ac093d93538b76dd6ebd4371ae802261b9c00c94a1a9aa3",
    "linux/arm64": "sha256:0f72ce3b6d2a758ff3781c5ff5da19123948adffe07bad96555c3f531a9f8b17",
}
SETTINGS = """
[image]
base = "oci:base"
platforms = ["linux/amd64", "linux/arm64"]
compression = "{compression}"
workdir = "/work"
path = ["/opt/tool/bin"]
env = {{ LANG = "C.UTF-8" }}
labels = {{ team = "ci" }}

[tools.tool]
source = "path:tool.tar.gz"
root = "/opt"

[tools.zipped]
source = "path:zipped.zip"
root = "/opt/zipped"

[tools.scripts]
source = "path:scripts"
root = "/opt/scripts"

[tools.single]
source = "path:single"
root = "/usr/local/bin"
"""
TAR = [
    folder("tool"),
    Entry("tool/bin/tool", b"#!tool" * 40_000, mode=0o4755, uid=1234, gid=99, uname="builder", gname="staff"),
    hard_link("tool/bin/again", "tool/bin/tool"),
    symlink("tool/bin/link", "../lib/data"),
    Entry("tool/lib/data", bytes(range(256)) * 5000, mtime=MTIME + 0.25),
    Entry(f"tool/{'long/' * 30}name", b"x", pax={"SCHILY.xattr.user.note": "kept"}),
    Entry("tool/share/käse", b"", mtime=-5),
]
NAMES = ("zebra", "ant", "Bee", "_x", "10", "9")
FILES = {f"{name}/{name}.sh": f"#!/bin/sh\necho {name}\n".encode() * 200 for name in NAMES}


@dataclass
class Project:
    """The same lock and inputs in a folder of their own, built with a cache of its own."""

    folder: Path
    python: str = sys.executable
    environ: dict[str, str] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)
    umask: int = 0o022

    def make(self, compression: str, *, backwards: bool = False) -> None:
        self.folder.mkdir(parents=True)
        layers = [make_layer(plain_tar({"etc/": b"", "etc/name": b"base\n"}), compression=Compression.NONE)]
        images = [
            make_image(layers, platform=item, members={"created": "2023-01-01T00:00:00Z"}) for item in (AMD64, ARM64)
        ]
        layout_of(self.folder / "base", *images)
        (self.folder / "kobuild.toml").write_text(SETTINGS.format(compression=compression))
        (self.folder / "tool.tar.gz").write_bytes(make_tar_gz(TAR))
        # Stored, since a compressor's release would change the file, and so the lock.
        members = [("bin/", b"", 0o40755), ("bin/z", b"zip" * 9000, 0o100755), ("doc", b"text", 0o100640)]
        (self.folder / "zipped.zip").write_bytes(make_zip(members, zipfile.ZIP_STORED))
        (self.folder / "single").write_bytes(b"\x7fELF single")
        for name, data in sorted(FILES.items(), reverse=backwards):
            path = self.folder / "scripts" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
            path.chmod(0o700 if backwards else 0o755)

    def build(self) -> dict[str, Any]:
        variables = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG"))
        }
        paths = os.pathsep.join([str(HOOK), str(ROOT)])
        own = {"PYTHONPATH": paths, "KOBUILD_CACHE_DIR": str(self.folder / "cache"), **self.environ}
        command = [*self.prefix, self.python, "-m", "kobuild", "build", "--json"]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**variables, **own},
            umask=self.umask,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def image_ids(answer: dict[str, Any]) -> dict[str, str]:
    return {item["platform"]: item["image_id"] for item in answer["platforms"]}


def build(folder: Path, compression: str = "gzip", *, backwards: bool = False, **options: Any) -> dict[str, Any]:
    project = Project(folder, **options)
    project.make(compression, backwards=backwards)
    return project.build()


# What differs from one machine, person or day to the next, each alone.
OTHERS: dict[str, dict[str, Any]] = {
    "another folder": {},
    "another time zone": {"environ": {"TZ": "America/St_Johns"}},
    "another umask": {"umask": 0o077},
    "another order of directory listing": {"environ": {"KOBUILD_TEST_REVERSE": "1"}},
    "files made in another order, with other modes": {"backwards": True},
    "the C locale, not as UTF-8": {"environ": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}},
    "a locale in UTF-8": {"environ": {"LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8"}},
    "another hash seed": {"environ": {"PYTHONHASHSEED": "4711"}},
    "a cache of another place": {"environ": {"KOBUILD_CACHE_DIR": "elsewhere/cache"}},
}
ALL_AT_ONCE: dict[str, Any] = {
    "environ": {
        "TZ": "Asia/Kathmandu",
        "KOBUILD_TEST_REVERSE": "1",
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONHASHSEED": "1",
        "HOME": "/nonexistent",
    },
    "umask": 0o027,
    "backwards": True,
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gzip image's project, built in the plainest way."""
    folder = tmp_path_factory.mktemp("first") / "project"
    build(folder)
    return folder


@pytest.fixture(scope="module")
def digest(first: Path) -> str:
    """What the gzip image is."""
    return str(json.loads((first / "dist" / "image" / "index.json").read_bytes())["manifests"][0]["digest"])


@pytest.mark.parametrize("name", OTHERS)
def test_it_is_the_same_image_with(name: str, first: Path, digest: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "deeper place"
    answer = build(folder, **OTHERS[name])
    assert (folder / "kobuild.lock").read_bytes() == (first / "kobuild.lock").read_bytes()
    assert answer["digest"] == digest
    assert image_ids(answer) == IMAGE_IDS


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_is_the_same_when_everything_around_differs(compression: str, tmp_path: Path) -> None:
    answers = [build(tmp_path / "one", compression), build(tmp_path / "two", compression, **ALL_AT_ONCE)]
    assert answers[0]["digest"] == answers[1]["digest"]
    if compression != "estargz":  # its index is part of the tar, so that its image ID is its own
        assert image_ids(answers[0]) == IMAGE_IDS


def test_it_is_the_same_image_for_another_user(digest: str, tmp_path: Path) -> None:
    unshare = [require_program("unshare"), "--user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no user namespaces, so there is no second user to be")
    seen = subprocess.run([*unshare, "id", "-u"], capture_output=True, text=True, check=True).stdout
    assert int(seen) != os.getuid()
    assert build(tmp_path / "project", prefix=unshare)["digest"] == digest


def test_it_is_the_same_image_from_files_of_another_owner(digest: str, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root gives files away")
    project = Project(tmp_path / "project")
    project.make("gzip")
    for path in [project.folder, *project.folder.rglob("*")]:
        os.chown(path, 4242, 4343, follow_symlinks=False)
    assert project.build()["digest"] == digest


@pytest.mark.parametrize("version", find_pythons())
def test_every_python_gives_the_same_image_with_isal_and_without(version: str, tmp_path: Path) -> None:
    python = find_pythons()[version]
    answers = [
        build(tmp_path / f"without-{name}", python=python, environ={"KOBUILD_TEST_BLOCK": name})
        for name in ("", "isal")
    ]
    assert [image_ids(answer) for answer in answers] == [IMAGE_IDS] * 2
    assert answers[0]["digest"] != answers[1]["digest"]  # they were compressed by different code


def test_the_hook_lists_directories_the_other_way_round(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    command = [sys.executable, "-c", "import os; print(os.listdir(), [entry.name for entry in os.scandir()])"]
    environ = {**os.environ, "PYTHONPATH": str(HOOK), "KOBUILD_TEST_REVERSE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "['c', 'b', 'a'] ['c', 'b', 'a']\n"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_without_isal_all_is_the_same_but_an_estargz_index(compression: str, tmp_path: Path) -> None:
    answer = build(tmp_path / "project", compression, environ={"KOBUILD_TEST_BLOCK": "isal"})
    if compression != "estargz":
        assert image_ids(answer) == IMAGE_IDS
        return
    build(tmp_path / "usual", compression)
    found = [files(folder / "dist" / "image") for folder in (tmp_path / "project", tmp_path / "usual")]
    assert found[0] == found[1]


def documents(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and config of a layout's first image."""
    index = read_document(layout, json.loads((layout / "index.json").read_bytes())["manifests"][0])
    manifest = read_document(layout, index["manifests"][0])
    return manifest, read_document(layout, manifest["config"])


def read_document(layout: Path, descriptor: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((layout / "blobs" / "sha256" / descriptor["digest"][7:]).read_bytes())
    return found


def files(layout: Path) -> list[list[tuple[dict[str, Any], bytes]]]:
    """The members of each layer but for eStargz's index, with what they hold."""
    found = []
    for layer in documents(layout)[0]["layers"]:
        with tarfile.open(layout / "blobs" / "sha256" / layer["digest"][7:]) as tar:
            members = [member for member in tar if member.name != "stargz.index.json"]
            found.append([({**member.get_info(), **member.pax_headers}, _content(tar, member)) for member in members])
    return found


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    return file.read() if file is not None else b""


def test_source_date_epoch_decides_created_and_the_time_of_what_has_none(digest: str, tmp_path: Path) -> None:
    project = Project(tmp_path / "one", environ={"SOURCE_DATE_EPOCH": "1600000000"})
    project.make("gzip")
    first = project.build()
    assert first["digest"] != digest
    again = build(tmp_path / "two", **{**ALL_AT_ONCE, "environ": {**ALL_AT_ONCE["environ"], **project.environ}})
    assert again["digest"] == first["digest"]
    layout = project.folder / "dist" / "image"
    assert documents(layout)[1]["created"] == "2020-09-13T12:26:40Z"
    _, archive, zipped, scripts, single = [{info["mtime"] for info, _ in members} for members in files(layout)]
    assert scripts == single == {1600000000}
    assert 1600000000 not in archive | zipped
