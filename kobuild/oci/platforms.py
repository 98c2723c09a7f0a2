"""Platforms: image-spec, image-index.md, "platform"; normalised as containerd's platforms package does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kobuild.errors import MalformedDocument
from kobuild.frozen import frozen

_PART: Final = re.compile(r"[A-Za-z0-9_.-]+\Z")
_ARCHITECTURES: Final = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}

_SYSTEMS: Final = {"macos": "darwin"}
_OLDEST_VARIANT: Final = {"arm": 5, "amd64": 1}


@frozen(order=True)
class Platform:
    """`os/architecture[/variant]`, in Go's words, normalised: `arm64/v8` is `arm64`, `arm` is `arm/v7`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse `linux/arm64`; raises MalformedDocument for anything but two or three parts."""
        parts = text.strip().lower().split("/")
        if len(parts) not in (2, 3) or not all(_PART.match(part) for part in parts):
            raise MalformedDocument(f"not a platform: {text!r} (expected os/architecture, such as linux/amd64)")
        return cls(*parts).normalized()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Platform:
        """Read a descriptor's `platform` object; missing parts become empty."""
        parts = (value.get("os", ""), value.get("architecture", ""), value.get("variant", ""))
        return cls(*(part if isinstance(part, str) else "" for part in parts)).normalized()

    def to_json(self) -> dict[str, str]:
        """The descriptor's `platform` object."""
        value = {"architecture": self.architecture, "os": self.os}
        return {**value, "variant": self.variant} if self.variant else value

    def normalized(self) -> Platform:
        """The same platform in containerd's canonical words."""
        architecture, variant = self.architecture.lower(), self.variant.lower()
        if architecture in _ARCHITECTURES:
            architecture, implied = _ARCHITECTURES[architecture]
            variant = variant or implied
        if architecture == "arm64" and variant in ("8", "v8"):
            variant = ""
        if architecture == "amd64" and variant == "v1":
            variant = ""
        if architecture == "arm":
            variant = f"v{variant}" if variant.isdigit() else variant or "v7"
        return Platform(_SYSTEMS.get(self.os.lower(), self.os.lower()), architecture, variant)

    @property
    def runnable(self) -> tuple[Platform, ...]:
        """The platforms whose images run on this one, itself first: `arm/v7` also runs `arm/v6` and `arm/v5`.

        The order is that of containerd's platformVector: the nearest older variant before the others.
        """
        if self.architecture not in ("arm", "amd64") or not re.fullmatch(r"v[0-9]", self.variant):
            plain = Platform(self.os, self.architecture)
            return (self, plain) if self.variant else (self,)
        oldest = _OLDEST_VARIANT[self.architecture]
        older = range(int(self.variant[1:]) - 1, oldest - 1, -1)
        return (self, *(Platform(self.os, self.architecture, f"v{number}").normalized() for number in older))

    @property
    def is_known(self) -> bool:
        """False for `unknown/unknown`, which marks attestations in an index."""
        return self.os not in ("", "unknown") and self.architecture not in ("", "unknown")

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
