"""A base image with a shell, made of this machine's own in a moment: for programs that run inside images."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from kobuild.image.image import Image
from tests.support.images import make_image, make_layer, make_tar
from tests.support.programs import require_program

PROGRAMS = ("sh", "sleep", "id")


def shell_image(**config: object) -> Image:
    """An image of `/bin/sh` and a few programs, with the libraries that they need; `config` is its runtime config."""
    members = {"bin/": b"", "etc/": b"", "etc/passwd": b"root:x:0:0::/:/bin/sh\nmira:x:1000:1000::/:/bin/sh\n"}
    members |= {"etc/group": b"root:x:0:\nmira:x:1000:\n", "tmp/": b"", "proc/": b"", "dev/": b"", "sys/": b""}
    for name in PROGRAMS:
        path = Path(require_program(name))
        members[f"bin/{name}"] = path.read_bytes()
        members |= {str(library).lstrip("/"): library.read_bytes() for library in libraries(path)}
    runtime = {"Env": ["PATH=/usr/local/bin:/bin"], **config}
    return make_image([make_layer(make_tar(members))], config=runtime)


def libraries(program: Path) -> Iterator[Path]:
    """The shared libraries that a program loads, and its loader."""
    found = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    return (Path(place) for place in re.findall(r"(/\S+) \(0x", found))
