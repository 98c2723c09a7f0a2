"""How upstream file names spell operating systems and architectures."""

from __future__ import annotations

import re
from typing import Final

from kobuild.oci.platforms import Platform

OPERATING_SYSTEMS: Final = {
    "linux": ("linux", "linux64", "linux32"),
    "darwin": ("darwin", "macos", "macosx", "osx", "mac", "apple"),
    "windows": ("windows", "win", "win32", "win64", "msvc", "mingw"),
    "freebsd": ("freebsd",),
    "openbsd": ("openbsd",),
    "netbsd": ("netbsd",),
    "dragonfly": ("dragonfly", "dragonflybsd"),
    "solaris": ("solaris", "sunos", "illumos"),
    "android": ("android", "androideabi"),
    "aix": ("aix",),
    "plan9": ("plan9",),
    "wasm": ("wasm", "wasm32", "wasi", "js"),
}
"""Spellings of each operating system, under Go's word for it."""

ARCHITECTURES: Final = {
    "amd64": ("amd64", "x86_64", "x86-64", "x64", "64bit", "64-bit", "amd64v1", "linux64", "win64"),
    "amd64/v2": ("amd64v2", "amd64_v2", "x86_64_v2", "x86_64-v2"),
    "amd64/v3": ("amd64v3", "amd64_v3", "x86_64_v3", "x86_64-v3"),
    "amd64/v4": ("amd64v4", "amd64_v4", "x86_64_v4", "x86_64-v4"),
    "arm64": ("arm64", "aarch64", "aarch_64", "arm64v8", "armv8", "arm64_v8", "arm64-v8"),
    "arm": ("arm", "arm32"),
    "arm/v5": ("armv5", "armv5l", "armv5te", "arm5", "arm_v5", "arm-v5", "armel"),
    "arm/v6": ("armv6", "armv6l", "armv6hf", "arm6", "arm_v6", "arm-v6"),
    "arm/v7": ("armv7", "armv7l", "armv7a", "armhf", "arm7", "arm_v7", "arm-v7", "arm32v7"),
    "386": ("386", "i386", "i486", "i586", "i686", "x86", "x86_32", "32bit", "32-bit", "ia32", "linux32", "win32"),
    "ppc64le": ("ppc64le", "ppc64el", "ppcle_64", "powerpc64le"),
    "ppc64": ("ppc64", "powerpc64"),
    "s390x": ("s390x", "s390_64"),
    "riscv64": ("riscv64", "riscv64gc"),
    "loong64": ("loong64", "loongarch64"),
    "mips": ("mips", "mipsle", "mipsel", "mips64", "mips64le", "mips64el", "mips64r6"),
    "sparc64": ("sparc64",),
}
"""Spellings of each architecture, under Go's word and, after a slash, the variant."""

VAGUE: Final = frozenset({"linux64", "linux32", "64bit", "64-bit", "32bit", "32-bit", "x86"})
"""Older spellings; projects that ship a second copy of a file under one mean the other one."""

# Which architectures' files run on a platform, best first: an older variant of the same family runs on a newer one.
_RUNS: Final = {
    "amd64": ("amd64",),
    "amd64/v2": ("amd64/v2", "amd64"),
    "amd64/v3": ("amd64/v3", "amd64/v2", "amd64"),
    "amd64/v4": ("amd64/v4", "amd64/v3", "amd64/v2", "amd64"),
    "arm/v7": ("arm/v7", "arm", "arm/v6", "arm/v5"),
    "arm/v6": ("arm/v6", "arm", "arm/v5"),
    "arm/v5": ("arm/v5", "arm"),
}


def architecture_key(platform: Platform) -> str:
    """The platform's key in `ARCHITECTURES`, such as `arm64` or `arm/v7`."""
    return "/".join(part for part in (platform.architecture, platform.variant) if part)


def runnable(platform: Platform) -> tuple[str, ...]:
    """The keys of `ARCHITECTURES` whose files run on `platform`, best first."""
    key = architecture_key(platform)
    return _RUNS.get(key, (key,))


def os_spellings(platform: Platform) -> tuple[str, ...]:
    """How file names spell the platform's operating system."""
    return OPERATING_SYSTEMS.get(platform.os, (platform.os,))


def architecture_spellings(platform: Platform) -> tuple[str, ...]:
    """How file names spell the platform's architecture, all runnable ones, best first."""
    return tuple(word for key in runnable(platform) for word in ARCHITECTURES.get(key, (key,)))


def _word_pattern(words: dict[str, tuple[str, ...]]) -> re.Pattern[str]:
    """A pattern that finds any spelling as a whole word, or glued to an operating system, longest first."""
    spellings = sorted({word for group in words.values() for word in group}, key=len, reverse=True)
    joined = "|".join(re.escape(word) for word in spellings)
    return re.compile(rf"(?:(?<![a-z0-9])|(?<=linux)|(?<=darwin)|(?<=windows)|(?<=macos))({joined})(?![a-z0-9])")


_ARCHITECTURE_WORD: Final = _word_pattern(ARCHITECTURES)
_SYSTEM_WORD: Final = re.compile(
    r"(?<![a-z0-9])("
    + "|".join(sorted({word for group in OPERATING_SYSTEMS.values() for word in group}, key=len, reverse=True))
    + r")(?=[^a-z0-9]|$|amd64|arm|x64|x86|i386|aarch64|386)"
)


def find_systems(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The operating systems that a lower-case file name says, in Go's words, and the words it says them with."""
    words = frozenset(match.group(1) for match in _SYSTEM_WORD.finditer(name))
    return frozenset(key for key, group in OPERATING_SYSTEMS.items() if words.intersection(group)), words


def find_architectures(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The architectures that a lower-case file name says, as keys of `ARCHITECTURES`, and its words for them."""
    words = frozenset(match.group(1) for match in _ARCHITECTURE_WORD.finditer(name))
    return frozenset(key for key, group in ARCHITECTURES.items() if words.intersection(group)), words


def machine(platform: Platform) -> str:
    """What `uname -m` says on the platform: x86_64, aarch64, armv7l, i686."""
    names = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": f"arm{platform.variant or 'v7'}l"}
    return names.get(platform.architecture, platform.architecture)


def architecture_word(platform: Platform) -> str:
    """Go's word for the architecture; arm carries its variant, as release files do (`armv7`)."""
    return f"arm{platform.variant}" if platform.architecture == "arm" else platform.architecture
