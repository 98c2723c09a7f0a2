"""Image indexes: image-spec, image-index.md, and Docker's manifest lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kobuild.errors import MalformedDocument
from kobuild.frozen import frozen
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import document_media_type
from kobuild.oci.platforms import Platform


@frozen
class Index:
    """One index; `raw` holds the bytes exactly as stored, received or about to be stored."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    subject: Descriptor | None
    artifact_type: str | None

    @classmethod
    def from_bytes(cls, raw: bytes, *, media_type: str | None = None, what: str = "index") -> Index:
        """Parse an index or a Docker manifest list; raises MalformedDocument."""
        value = jsonio.parse_object(raw, what)
        found = document_media_type(value, media_type, what)
        if found not in mediatypes.INDEXES:
            raise MalformedDocument(f"{what}: {found} is not an image index")
        subject = jsonio.get_object(value, "subject", what)
        return cls(
            raw=raw,
            media_type=found,
            manifests=tuple(
                Descriptor.from_json(item, f"{what}: manifests[{index}]")
                for index, item in enumerate(jsonio.get_objects(value, "manifests", what))
            ),
            annotations=jsonio.get_string_map(value, "annotations", what),
            subject=Descriptor.from_json(subject, f"{what}: subject") if subject else None,
            artifact_type=jsonio.get_str(value, "artifactType", what) if value.get("artifactType") else None,
        )

    @classmethod
    def build(
        cls,
        *,
        media_type: str,
        manifests: tuple[Descriptor, ...],
        annotations: Mapping[str, str] | None = None,
    ) -> Index:
        """Write an index in canonical form; Docker's family has no annotations, so they are left out there."""
        value: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
        value["manifests"] = [manifest.to_json() for manifest in manifests]
        if annotations and media_type == mediatypes.OCI_INDEX:
            value["annotations"] = dict(sorted(annotations.items()))
        return cls.from_bytes(jsonio.canonical(value))

    @property
    def digest(self) -> Digest:
        """The digest of the raw bytes."""
        return Digest.of(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        """A descriptor of the index itself."""
        return Descriptor(self.media_type, self.digest, len(self.raw))

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """The platforms on offer, in order; attestations (`unknown/unknown`) are none."""
        return tuple(item.platform for item in self.manifests if item.platform and item.platform.is_known)

    def find(self, platform: Platform) -> Descriptor | None:
        """The first entry for exactly `platform` (both normalised), else for the nearest one that runs on it."""
        for wanted in platform.runnable:
            for item in self.manifests:
                if item.platform == wanted:
                    return item
        return None
