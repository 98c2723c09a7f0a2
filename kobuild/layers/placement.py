"""Where each member goes in the image, and which may not go at all.

The rules, each with its reason:

- Names are relative and without `..`; a link leads nowhere above the archive's top, nor above the image's.
- Nothing is written through a link or below a file: what a runtime would make of that depends on the runtime.
- A name appears once. A directory or a symlink may be repeated as long as it is the same.
- Hard links are re-rooted with their targets. A target that `only` or `strip` left out is written in the place of the
  first link to it; later links point to that. A link before its target is an error: no layer is read so in one pass.
- Symlinks are kept letter by letter: relative ones mean the same after re-rooting, absolute ones are absolute in the
  image.
- The directories that lead to the root, and with a base the standard ones, get no entry: it would replace the base's
  attributes, or its link (image-spec, layer.md, "Applying Changesets"). Nor do others that the plan says the base has.
- What would land below a link of the base is moved to where the link leads, since some runtimes unpack a layer without
  those below it. A relative link that is moved so still leads where it led.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final

from kobuild.errors import ArchiveError, LimitExceeded, UnsafeMember
from kobuild.frozen import frozen
from kobuild.layers.landing import STANDARD_DIRS, find_landing
from kobuild.layers.members import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Member, show
from kobuild.layers.names import Selection, clean_name, climbs, lead, strip_parts
from kobuild.layers.plan import LayerPlan

_WHITEOUT: Final = re.compile(rb"(?:\A|/)\.wh\.")
_FILE: Final = 0
_DIRECTORY_BIT: Final = 2


@frozen
class Placed:
    """A member as it goes into the layer."""

    member: Member
    borrowed_from: bytes | None = None
    """For a hard link to a left-out member: the clean archive name of the member whose content it gets."""


class Placer:
    """Decides member by member; remembers names, so one serves one archive."""

    def __init__(self, plan: LayerPlan, place: str) -> None:
        self._plan = plan
        self._place = place
        self._selection = Selection(plan.only, place)
        root = plan.root.strip("/")
        self._prefix = clean_name(root.encode(), place) + b"/" if root else b""
        kept = frozenset(map(_encode, plan.base_directories))
        self._skipped = STANDARD_DIRS | kept if plan.base_has_standard_dirs else kept
        self._moved = {_encode(path): _encode(place) for path, place in plan.moved}
        self._filters = bool(plan.only) or plan.strip > 0
        self._folders: dict[bytes, dict[bytes, int]] = {b"": {}}
        self._seen: dict[bytes, tuple[bytes, dict[bytes, int]]] = {}
        """By a folder's name in the archive, with its slash: its name in the image, and the entries there."""
        self._dropped: dict[bytes, int] = {}
        self._adopted: dict[bytes, bytes] = {}
        self.newest_mtime: int | None = None
        self.members = 0
        self._total_bytes = 0
        self.plain = True
        """Whether every member so far was taken as it stands."""

    def place(self, member: Member) -> Placed | None:
        """The member under its image name (changed in place), or None where it is left out. Raises UnsafeMember."""
        original = member.name
        if member.kind == REGULAR and self._place_sibling(member):
            return self._finish(member, original)
        name = clean_name(original, self._place)
        rest = strip_parts(name, self._plan.strip) if self._selection.takes(name) else b""
        if not rest:
            self._drop(member, name)
            return None
        self._check_kind(member, name)
        output = self._prefix + rest if self._prefix else rest
        kind = member.kind
        if self._moved and self._is_the_bases(member, name, output):
            self.plain = False
            return None
        borrowed = None
        if kind == HARD_LINK:
            borrowed = self._aim_hard_link(member, name)
        elif kind == SYMLINK:
            self._check_symlink(member, name, output)
        elif kind == DIRECTORY and output in self._skipped:
            self.plain = False
            return None
        if self._moved:
            output = self._move(output)
        member.name = output
        if output != original and (kind != DIRECTORY or output + b"/" != original):
            self.plain = False
        if not self._register(member, output):
            self.plain = False
            return None
        if kind == REGULAR and not (self._filters or self._moved):
            self._remember_folder(original, output)
        return self._finish(member, name, borrowed)

    def _remember_folder(self, original: bytes, output: bytes) -> None:
        """What is in the archive's folder of that file may go where it went."""
        folder, _, base = output.rpartition(b"/")
        if original.endswith(base):
            self._seen[original[: -len(base)]] = (output[: -len(base)], self._folders[folder])

    def _place_sibling(self, member: Member) -> bool:
        """Place a file beside another that was placed: all that is to be looked at is the last part of its name.

        False where that needs a closer look. Most files of an archive are placed so, in half the time.
        """
        name = member.name
        start = name.rfind(b"/") + 1
        seen = self._seen.get(name[:start])
        base = name[start:]
        if seen is None or not base or base.startswith(b".") or b"\0" in base:
            return False
        folder, siblings = seen
        output = folder + base
        if base in siblings or output in self._folders:
            return False
        siblings[base] = _FILE
        member.name = output
        self.plain = self.plain and output == name
        return True

    def _finish(self, member: Member, name: bytes, borrowed: bytes | None = None) -> Placed:
        if self._plan.mode is not None and member.kind in (REGULAR, HARD_LINK):
            member.mode = self._plan.mode
        self._count(member, name)
        return Placed(member, borrowed)

    def finish(self) -> None:
        """Raise MissingMember for a pattern of `only` that took nothing."""
        self._selection.check()

    def landing(self) -> tuple[str, ...]:
        """What of the base must be looked up before the layer can be kept; see `landing.find_landing`."""
        if not self._plan.base_has_standard_dirs:
            return ()
        return find_landing(self._folders, _DIRECTORY_BIT, self._plan.prioritized)

    def _is_the_bases(self, member: Member, name: bytes, output: bytes) -> bool:
        """Whether a link of the base stands for the member already; raises UnsafeMember for what would replace one."""
        place = self._moved.get(output)
        if place is None or place == self._move(output):  # nothing is known, or only a directory above is a link
            return False
        if member.kind == DIRECTORY:
            return True
        if member.kind == SYMLINK:
            target = lead(output, member.link)
            if self._moved.get(target, target) == place:
                return True
        raise UnsafeMember(
            f"{self._place}: member {show(name)} would replace {show(b'/' + output)}, which in the base leads to "
            f"{show(b'/' + place)}",
            hint=f"leave it out with `only`, or choose another root, such as {show(b'/' + place)}",
        )

    def _move(self, output: bytes) -> bytes:
        """Where the path is when the base's links have been followed."""
        folder, _, base = output.rpartition(b"/")
        place = self._moved.get(folder)
        return output if place is None else place + b"/" + base if place else base

    def _drop(self, member: Member, name: bytes) -> None:
        self.plain = False
        if not name and member.kind != DIRECTORY:
            raise UnsafeMember(f"{self._place}: a member has the name {show(member.name)}, and is no directory")
        if self._filters and name and member.kind == REGULAR:
            self._dropped[name] = member.size

    def _count(self, member: Member, name: bytes) -> None:
        self.members += 1
        self._total_bytes += member.size
        if self._total_bytes > self._plan.limits.total_bytes:
            raise LimitExceeded(
                f"{self._place}: with member {show(name)} the layer has more than "
                f"{self._plan.limits.total_bytes} bytes",
                hint="set max-size if this archive is to be trusted",
            )
        if member.mtime is None:
            member.mtime = self._plan.epoch
        elif self.newest_mtime is None or member.mtime > self.newest_mtime:
            self.newest_mtime = member.mtime

    def _check_kind(self, member: Member, name: bytes) -> None:
        if member.kind in b"346" and not self._plan.allow_devices:
            what = "fifo" if member.kind == b"6" else "device"
            raise UnsafeMember(
                f"{self._place}: member {show(name)} is a {what}",
                hint="choose other members with `only`, or take it with `devices = true`",
            )
        if _WHITEOUT.search(name) and not self._plan.allow_whiteouts:
            raise UnsafeMember(
                f"{self._place}: member {show(name)} is a whiteout: it would delete files of the base",
                hint="choose other members with `only`, or take it with `whiteouts = true`",
            )

    def _check_symlink(self, member: Member, name: bytes, output: bytes) -> None:
        target = member.link
        if not target or b"\0" in target:
            raise UnsafeMember(f"{self._place}: the link {show(name)} has no proper target")
        if target.startswith(b"/"):
            return
        if climbs(name.rpartition(b"/")[0], target) or climbs(output.rpartition(b"/")[0], target):
            raise UnsafeMember(f"{self._place}: the link {show(name)} to {show(target)} would leave its root")
        if self._moved and b".." in target.split(b"/") and (moved := self._move(output)) != output:
            led = lead(output, target)
            member.link = posixpath.relpath(b"/" + self._move(led), b"/" + moved.rpartition(b"/")[0])

    def _aim_hard_link(self, member: Member, name: bytes) -> bytes | None:
        """Re-root the link's target; the archive name to borrow content from where the target was left out."""
        target = clean_name(member.link, f"{self._place}, hard link {show(name)}")
        rest = strip_parts(target, self._plan.strip)
        output = self._move(self._prefix + rest) if rest else b""
        found = self._lookup(output) if output else None
        if found is not None and (found == _FILE or found & 1):
            self.plain = self.plain and member.link == output
            member.link = output
            return None
        if target in self._adopted:
            member.link = self._adopted[target]
            return None
        size = self._dropped.get(target)
        if size is None:
            raise UnsafeMember(
                f"{self._place}: the hard link {show(name)} points to {show(target)}, which is not a file before it",
                hint="a hard link must follow its target; pack the archive again",
            )
        member.kind = REGULAR
        member.link = b""
        member.size = size
        self._adopted[target] = self._move(self._prefix + strip_parts(name, self._plan.strip))
        return target

    def _lookup(self, output: bytes) -> int | None:
        folder, _, base = output.rpartition(b"/")
        siblings = self._folders.get(folder)
        return None if siblings is None else siblings.get(base)

    def _register(self, member: Member, output: bytes) -> bool:
        """Take the name; False where the same entry was there before."""
        folder, _, base = output.rpartition(b"/")
        siblings = self._folders.get(folder)
        if siblings is None:
            siblings = self._open_folder(folder, output)
        mark = _mark(member)
        old = siblings.get(base)
        if old is not None:
            if old == mark and mark != _FILE:
                return False
            raise ArchiveError(
                f"{self._place}: two members that differ have the name {show(output)}",
                hint="choose one of them with `only`, or pack the archive again",
            )
        if member.kind != DIRECTORY and output in self._folders:
            raise UnsafeMember(f"{self._place}: {show(output)} is no directory, but members lie below it")
        siblings[base] = mark
        return True

    def _open_folder(self, folder: bytes, output: bytes) -> dict[bytes, int]:
        """Make sure that every part of `folder` can be a directory, and remember it as one."""
        part = folder
        while part and part not in self._folders:
            found = self._lookup(part)
            if found == _FILE:
                raise UnsafeMember(f"{self._place}: member {show(output)} lies below the file {show(part)}")
            if found is not None and found & 1:
                raise UnsafeMember(
                    f"{self._place}: member {show(output)} would be written through the link {show(part)}"
                )
            self._folders[part] = {}
            part = part.rpartition(b"/")[0]
        return self._folders[folder]


def _mark(member: Member) -> int:
    """What is remembered of an entry: 0 a file, odd a symlink, even a directory; equal for equal entries."""
    if member.kind not in (SYMLINK, DIRECTORY):
        return _FILE
    attributes = (
        member.mode,
        member.uid,
        member.gid,
        member.uname,
        member.gname,
        member.mtime,
        member.link,
        frozenset((member.records or {}).items()),
    )
    return hash(attributes) << 2 | _DIRECTORY_BIT | (member.kind == SYMLINK)


def _encode(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
