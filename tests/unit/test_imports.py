"""Who may import whom: docs/architecture.md, "Rooms, and who may import whom"."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.support.imports import Import, calls_of, closure, imports_of, inner_room, room_of, source_files

PACKAGE: Final = Path(__file__).parents[2] / "kobuild"

STANDS_ON: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("_version", "errors"),
    "frozen": (),
    "noxsessions": ("github",),
    "_version": (),
    "errors": ("frozen",),
    "progress": (),
    "resources": (),
    "oci": ("errors",),
    "streams": ("oci", "progress"),
    "decompress": ("streams",),
    "transport": ("streams", "_version"),
    "image": ("decompress",),
    "signatures": ("errors",),
    "settings": ("oci", "resources", "signatures"),
    "lock": ("oci", "streams"),
    "scaffold": ("settings", "_version"),
    "layers": ("decompress",),
    "store": ("image",),
    "registry": ("image", "transport"),
    "sources": ("settings", "store", "transport"),
    "base": ("store", "lock"),
    "lockcheck": ("lock",),
    "lockdiff": ("lock",),
    "fitting": ("base", "settings"),
    "resolve": ("fitting", "lockdiff", "sources", "registry"),
    "repair": ("errors", "progress"),
    "workshop": ("resolve", "layers"),
    "baseindex": ("base", "settings"),
    "basetree": ("base", "layers"),
    "recipes": ("basetree", "settings"),
    "sharing": ("image", "layers"),
    "fetchahead": ("workshop", "recipes"),
    "layerjobs": ("workshop", "recipes", "sharing"),
    "build": ("layerjobs", "baseindex"),
    "layercache": ("registry", "sharing", "store"),
    "push": ("build",),
    "headstart": ("registry",),
    "proof": ("build",),
    "placing": ("proof",),
    "rebase": ("placing",),
    "toollayers": ("layers",),
    "differences": ("store",),
    "verify": ("build", "differences", "toollayers"),
    "engines": ("oci",),
    "toolruns": ("engines", "settings", "store"),
    "github": ("settings",),
    "report": ("progress", "github"),
    "expectations": ("verify",),
    "summary": ("push", "report"),
    "explain": ("proof", "report"),
    "policy": ("explain", "signatures"),
    "jobsummary": ("summary", "explain"),
    "fleet": ("proof",),
    "commands": (
        "scaffold",
        "fetchahead",
        "fleet",
        "layercache",
        "headstart",
        "jobsummary",
        "expectations",
        "explain",
        "rebase",
        "repair",
        "toolruns",
        "policy",
        "lockcheck",
    ),
    "interrupts": (),
    "cli": ("commands", "interrupts"),
    "__main__": ("cli",),
}
"""For each room those right below it; it may import them and all that they stand on, and nothing else."""

HOMES: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": ("transport",),
    "packaging": ("sources", "settings"),
    "tarfile": ("layers", "store"),
    "zipfile": ("layers", "store"),
    "subprocess": ("fleet", "sources", "registry", "engines", "scaffold"),
    "spdx_tools": ("explain",),
    "cyclonedx": ("explain",),
    "packageurl": ("explain",),
    "cryptography": ("signatures",),
    "sigstore": ("signatures",),
    "nacl": ("signatures",),
    "nox": ("noxsessions",),
}
"""Modules that only some rooms may import."""

PRINTERS: Final = ("report", "commands", "cli")


def wrong_ways(package: Path, stands_on: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Each import that goes up, or to a sibling."""
    allowed = closure(stands_on)
    for found in imports_of(package):
        target = inner_room(found.target, package)
        if target is None or target == found.room:
            continue
        if target not in allowed.get(found.room, frozenset()):
            yield f"{found}: {found.room or package.name} may not import {target or package.name}"


def away_from_home(package: Path, homes: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Each import of a module that has its own rooms, in another room."""
    for found in imports_of(package):
        name = found.target.split(".")[0]
        if name in homes and found.room not in homes[name]:
            yield f"{found}: only {', '.join(homes[name]) or 'what is outside the package'} may"


def test_imports_go_one_way() -> None:
    assert "\n".join(wrong_ways(PACKAGE, STANDS_ON)) == ""


def test_every_room_has_its_row() -> None:
    rooms = {room_of(path, PACKAGE) for path in source_files(PACKAGE)}
    assert rooms - set(STANDS_ON) == set(), "a new room needs a row here and in docs/architecture.md"


def test_the_table_has_no_circle() -> None:
    assert closure(STANDS_ON)["cli"] >= {"errors", "oci", "settings", "layers", "registry", "sources", "store"}
    with pytest.raises(ValueError, match="a circle: a -> b -> a"):
        closure({"a": ("b",), "b": ("a",)})


def test_siblings_do_not_know_each_other() -> None:
    below = closure(STANDS_ON)
    siblings = ("layers", "registry", "store")
    assert [(one, other) for one in siblings for other in siblings if other in below[one]] == []


def test_some_modules_have_few_importers() -> None:
    assert "\n".join(away_from_home(PACKAGE, HOMES)) == ""


def test_only_what_a_person_sees_prints() -> None:
    printed = [f"{path}:{line}" for path, line in calls_of(PACKAGE, "print") if room_of(path, PACKAGE) not in PRINTERS]
    assert printed == []


def test_no_module_hides_one_of_the_standard_library() -> None:
    """A file that is run as a script puts its folder first on sys.path, and its neighbours before the library's."""
    names = [path for path in source_files(PACKAGE) if path.stem in sys.stdlib_module_names]
    folders = [path.parent for path in source_files(PACKAGE) if path.parent.name in sys.stdlib_module_names]
    assert names + folders == []


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A small package whose rooms break the rules."""
    package = tmp_path / "pack"
    files = {
        "__init__.py": "",
        "low.py": "import os\nimport pack.high\n",
        "high/__init__.py": "from pack import low\n",
        "high/inner.py": "from . import inner2\nfrom ..side import name\nfrom pack import __version__\n",
        "high/inner2.py": "def lazy():\n    import requests.adapters\n    print('x')\n",
        "side.py": "from pack.low import thing\n",
    }
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


def test_the_check_finds_what_is_wrong_and_says_where(planted: Path) -> None:
    table = {"": (), "low": (), "side": ("low",), "high": ("low", "")}
    assert list(wrong_ways(planted, table)) == [
        f"{planted}/high/inner.py:2: imports pack.side.name: high may not import side",
        f"{planted}/low.py:2: imports pack.high: low may not import high",
    ]
    assert list(away_from_home(planted, {"requests": ("low",)})) == [
        f"{planted}/high/inner2.py:2: imports requests.adapters: only low may",
    ]
    assert list(calls_of(planted, "print")) == [(planted / "high" / "inner2.py", 3)]


def test_relative_imports_are_resolved(planted: Path) -> None:
    found = {str(Import(Path("x"), found.line, "", found.target)) for found in imports_of(planted)}
    assert {"x:1: imports pack.high.inner2", "x:2: imports pack.side.name"} <= found
