"""Descriptors: image-spec, descriptor.md."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Final

from kobuild.errors import MalformedDocument
from kobuild.frozen import frozen
from kobuild.oci import jsonio
from kobuild.oci.digest import Digest
from kobuild.oci.platforms import Platform

_KNOWN: Final = frozenset(
    {"mediaType", "digest", "size", "annotations", "platform", "urls", "data", "artifactType"},
)


@frozen
class Descriptor:
    """Media type, digest and size in bytes of some content; unknown members are kept in `extra`."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    data: bytes | None = None
    """The content itself, where the descriptor embeds it; verified against digest and size on parsing."""
    artifact_type: str | None = None
    raw_platform: Mapping[str, Any] | None = field(default=None, compare=False)
    """The platform as it was written, so that `os.version` and `v8` survive a rewrite; `platform` is what counts."""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], what: str) -> Descriptor:
        """Read a descriptor; raises MalformedDocument naming `what`."""
        digest = Digest.parse(jsonio.get_str(value, "digest", what))
        size = jsonio.get_int(value, "size", what)
        raw_platform = jsonio.get_object(value, "platform", what) or None
        return cls(
            media_type=jsonio.get_str(value, "mediaType", what),
            digest=digest,
            size=size,
            annotations=jsonio.get_string_map(value, "annotations", what),
            platform=Platform.from_json(raw_platform) if raw_platform else None,
            urls=jsonio.get_strings(value, "urls", what),
            data=_read_data(value, digest, size, what),
            artifact_type=jsonio.get_str(value, "artifactType", what) if "artifactType" in value else None,
            raw_platform=raw_platform,
            extra={key: item for key, item in value.items() if key not in _KNOWN},
        )

    def to_json(self) -> dict[str, Any]:
        """The descriptor as the specification writes it, members in its order."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.urls:
            value["urls"] = list(self.urls)
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.data is not None:
            value["data"] = base64.b64encode(self.data).decode()
        if self.artifact_type is not None:
            value["artifactType"] = self.artifact_type
        if self.raw_platform is not None:
            value["platform"] = dict(self.raw_platform)
        elif self.platform is not None:
            value["platform"] = self.platform.to_json()
        return {**value, **self.extra}

    def with_annotations(self, annotations: Mapping[str, str]) -> Descriptor:
        """The same content with `annotations` added."""
        return replace(self, annotations={**self.annotations, **annotations})


def _read_data(value: Mapping[str, Any], digest: Digest, size: int, what: str) -> bytes | None:
    if "data" not in value:
        return None
    try:
        data = base64.b64decode(jsonio.get_str(value, "data", what), validate=True)
    except binascii.Error as error:
        raise MalformedDocument(f"{what}: data: not base64: {error}") from error
    hasher = digest.hasher()
    hasher.update(data)
    if len(data) != size or hasher.hexdigest() != digest.hex:
        raise MalformedDocument(f"{what}: data: the embedded bytes do not match digest and size of the descriptor")
    return data
