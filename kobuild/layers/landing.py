"""Where a layer's entries meet what the base has: which paths must be looked up in the base, if it must be read at all.

To know a base's links and directories one must read its layers, which within one registry are otherwise only mounted.
So the base is asked only where entries land in places that distributions make links of, or where the layer has
directory entries among the system's own. What lies below `/opt`, `/srv` and `/usr/local` is the administrator's:
nothing of a base is expected there but the few links named here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

STANDARD_DIRS: Final = frozenset(
    (
        b"bin boot dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin srv sys tmp usr var "
        b"usr/bin usr/games usr/include usr/lib usr/lib32 usr/lib64 usr/libexec usr/libx32 usr/local usr/sbin "
        b"usr/share usr/src usr/share/doc usr/share/man usr/local/bin usr/local/etc usr/local/games "
        b"usr/local/include usr/local/lib usr/local/lib64 usr/local/libexec usr/local/sbin usr/local/share "
        b"usr/local/src usr/local/man usr/local/share/man etc/opt "
        b"var/cache var/lib var/local var/lock var/log var/mail var/opt var/run var/spool var/tmp"
    ).split()
)
"""Directories that a base other than `scratch` has, as the Filesystem Hierarchy Standard names them."""

POSSIBLE_LINKS: Final = frozenset(
    (
        # Merged /usr: Debian, Ubuntu, Fedora, SUSE, Arch, Alpine from 3.23 on.
        b"bin sbin lib lib32 lib64 libx32 "
        # Merged sbin, and one directory for libraries: Fedora, Arch.
        b"usr/sbin usr/lib32 usr/lib64 usr/libx32 usr/local/sbin usr/local/lib64 "
        # /run and others that have moved, with a link left behind.
        b"var/run var/lock var/mail var/spool/mail var/adm usr/tmp usr/adm usr/spool "
        b"usr/man usr/doc usr/info usr/local/man usr/local/doc usr/local/info"
    ).split()
)
"""Paths that are directories in one distribution and links in another."""

_SYSTEM: Final = frozenset(name for name in STANDARD_DIRS if b"/" not in name) - {b"opt", b"srv"}
_LOCAL: Final = b"usr/local"

Folders = Mapping[bytes, Mapping[bytes, int]]
"""Each directory of a layer that something lies in, to the names in it with their marks; the top is empty."""


def find_landing(folders: Folders, directory_mark: int, prioritized: Sequence[str] = ()) -> tuple[str, ...]:
    """The paths to look up in the base; none where the layer lands where no base needs to be asked.

    Directory entries end with a slash: a mark that has the bits of `directory_mark` and is even tells them. Paths that
    are `prioritized` may lead through a base's link, too.
    """
    directories = {
        b"%b/%b" % (folder, name) if folder else name
        for folder, names in folders.items()
        for name, mark in names.items()
        if mark & directory_mark and not mark & 1
    }
    others = {*_others_at_links(folders, directories), *_links_on_the_way(prioritized)}
    if not (others or POSSIBLE_LINKS & folders.keys() or any(map(_is_system, directories))):
        return ()
    paths = {folder for folder in folders if folder} - directories | others
    shown = [*paths, *(path + b"/" for path in directories)]
    return tuple(sorted(path.decode("utf-8", "surrogateescape") for path in shown))


def _others_at_links(folders: Folders, directories: set[bytes]) -> Iterator[bytes]:
    """Entries that are no directories, where a base may have a link."""
    for path in POSSIBLE_LINKS:
        folder, _, name = path.rpartition(b"/")
        if name in folders.get(folder, ()) and path not in directories:
            yield path


def _links_on_the_way(patterns: Sequence[str]) -> Iterator[bytes]:
    """What could be a link above a path, or the path itself."""
    for pattern in patterns:
        parts = pattern.encode().strip(b"/").split(b"/")
        ways = (b"/".join(parts[:count]) for count in range(1, len(parts) + 1))
        yield from (way for way in ways if way in POSSIBLE_LINKS)


def _is_system(path: bytes) -> bool:
    """Whether a directory of this path belongs to the system rather than to the administrator."""
    return path.partition(b"/")[0] in _SYSTEM and path != _LOCAL and not path.startswith(_LOCAL + b"/")
