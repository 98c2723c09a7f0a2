"""Small wheels, and a folder that pip takes for an index."""

from __future__ import annotations

import hashlib
import html
import zipfile
from collections.abc import Iterable
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, tag: str, *, metadata: str = "") -> Path:
    """A wheel that holds one program; `tag` such as `py3-none-manylinux_2_17_x86_64`, `metadata` more lines of it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{stem}-{tag}.whl"
    files = {
        f"{stem}.data/scripts/{name}": f"#!/bin/sh\necho {name} {version} {tag}\n",
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}",
        f"{stem}.dist-info/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tag}\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{stem}.dist-info/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in {**files, f"{stem}.dist-info/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(member, (2026, 1, 2, 3, 4, 6)), text)
    return path


def index_page(wheels: Iterable[Path], base: str, *, sums: bool = True) -> bytes:
    """A project's page of a simple index (PEP 503), whose files are below the address `base`."""
    lines = []
    for wheel in wheels:
        fragment = f"#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}" if sums else ""
        lines.append(f'<a href="{html.escape(base + wheel.name + fragment)}">{html.escape(wheel.name)}</a><br>')
    return ("<!DOCTYPE html><html><body>\n" + "\n".join(lines) + "\n</body></html>\n").encode()


def make_index(root: Path, project: str, wheels: Iterable[Path], *, sums: bool = True) -> str:
    """A simple index in a folder; returns its address."""
    page = root / "simple" / project / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    wheels = list(wheels)
    page.write_bytes(index_page(wheels, f"{wheels[0].parent.as_uri()}/", sums=sums) if wheels else b"<html></html>")
    return (root / "simple").as_uri()
