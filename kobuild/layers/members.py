"""One entry of an archive or a layer, whatever format it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REGULAR: Final = b"0"
HARD_LINK: Final = b"1"
SYMLINK: Final = b"2"
CHARACTER: Final = b"3"
BLOCK: Final = b"4"
DIRECTORY: Final = b"5"
FIFO: Final = b"6"


@dataclass(slots=True)
class Member:
    """One entry. Names are bytes as stored; `kind` is a tar typeflag."""

    name: bytes
    kind: bytes
    mode: int
    size: int = 0
    """Content bytes; zero for all but regular files."""
    mtime: int | None = None
    """Whole seconds since 1970; None has no time of its own."""
    uid: int = 0
    gid: int = 0
    link: bytes = b""
    """Target of a hard link (a name in the archive) or a symlink (as it stands)."""
    uname: bytes = b""
    gname: bytes = b""
    device: tuple[int, int] = (0, 0)
    """Major and minor number."""
    records: dict[bytes, bytes] | None = None
    """pax records that no other field holds: extended attributes, a fraction of a second, comments."""


def show(name: bytes) -> str:
    """A name for messages: any byte can be printed."""
    return repr(name.decode("utf-8", "backslashreplace"))
