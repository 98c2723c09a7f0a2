"""The files of a layer as values for people and machines, whether a tar or a table of contents told of them."""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import Any, Final

from kobuild.frozen import frozen

EMPTY_DIGEST: Final = f"sha256:{hashlib.sha256().hexdigest()}"
"""Of a file with no content."""


class Kind(str, Enum):
    """What an entry is, in the words of eStargz's table of contents."""

    FILE = "reg"
    DIRECTORY = "dir"
    SYMLINK = "symlink"
    HARD_LINK = "hardlink"
    CHARACTER = "char"
    BLOCK = "block"
    FIFO = "fifo"


@frozen
class Entry:
    """One entry of a layer."""

    path: str
    """No slash at either end; the root itself is empty. Bytes that are not UTF-8 stand as surrogate escapes."""
    kind: Kind
    size: int = 0
    """Of the content, in bytes."""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    link: str = ""
    """A symlink's target as it stands; a hard link's as a path."""
    digest: str = ""
    """`sha256:…` of a regular file's content; empty where it was not asked for."""
    xattrs: tuple[tuple[str, str], ...] = ()
    """Extended attributes, sorted; values in base64."""

    def to_json(self) -> dict[str, Any]:
        """The entry for machines; what is empty is left out."""
        value: dict[str, Any] = {"path": f"/{self.path}", "type": self.kind.value, "size": self.size}
        value |= {"mode": f"{self.mode:04o}", "uid": self.uid, "gid": self.gid}
        if self.link:
            value["link"] = self.link
        if self.digest:
            value["digest"] = self.digest
        if self.xattrs:
            value["xattrs"] = dict(self.xattrs)
        return value


def clean_path(name: str) -> str:
    """`./usr//bin/` → `usr/bin`."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))
