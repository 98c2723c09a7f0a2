"""What an unpacked file is, told from its first bytes: its name is never believed."""

from __future__ import annotations

from typing import Final

SNIFF_BYTES: Final = 512
"""How many first bytes tell everything."""

_UNREADABLE: Final = (
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"!<arch>\n", "an ar archive, such as a Debian package"),
    (b"\xed\xab\xee\xdb", "an RPM package"),
    (b"070701", "a cpio archive"),
    (b"xar!", "a xar archive, such as a macOS package"),
    (b"LZIP", "an lzip file"),
    (b"\x04\x22\x4d\x18", "an LZ4 file"),
    (b"\x1f\x9d", "a compress (.Z) file"),
    (b"\x5d\x00\x00", "a raw LZMA file"),
)
_MACH_O: Final = frozenset(
    {b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"}
)


def unreadable_kind(head: bytes) -> str | None:
    """The name of an archive format that kobuild cannot read, if this is one."""
    return next((name for magic, name in _UNREADABLE if head.startswith(magic)), None)


def is_executable(head: bytes) -> bool:
    """Whether a file that starts so is a program: ELF, Mach-O or a script."""
    return head.startswith((b"\x7fELF", b"#!")) or head[:4] in _MACH_O
