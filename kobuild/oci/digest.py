"""Digests: image-spec, descriptor.md, "Digests"."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from kobuild.errors import MalformedDocument
from kobuild.frozen import frozen

_HEX_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX: Final = re.compile(r"[a-f0-9]+\Z")


@frozen(order=True)
class Digest:
    """`algorithm:hex` of stored bytes; only the registered algorithms sha256, sha384 and sha512."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse `sha256:…`; raises MalformedDocument for anything else than a registered digest."""
        algorithm, _, encoded = text.partition(":")
        if _HEX_LENGTHS.get(algorithm) != len(encoded) or not _HEX.match(encoded):
            raise MalformedDocument(f"not a digest: {text!r} (expected sha256: and 64 lower-case hex digits)")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The sha256 digest of `data`."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def covers(self, data: bytes) -> bool:
        """Whether it is the digest of `data`."""
        return hashlib.new(self.algorithm, data).hexdigest() == self.hex

    def hasher(self) -> hashlib._Hash:
        """A new hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """The first twelve hex digits, for people."""
        return self.hex[:12]
