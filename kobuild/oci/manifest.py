"""Image manifests: image-spec, manifest.md, and Docker's image manifest V2, schema 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kobuild.errors import MalformedDocument
from kobuild.frozen import frozen
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest


@frozen
class Manifest:
    """One image manifest; `raw` holds the bytes exactly as stored, received or about to be stored."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    """The base's layer first."""
    annotations: Mapping[str, str]
    subject: Descriptor | None
    artifact_type: str | None

    @classmethod
    def from_bytes(cls, raw: bytes, *, media_type: str | None = None, what: str = "manifest") -> Manifest:
        """Parse a manifest; `media_type` is the transport's word for it, used where the body has none.

        Raises MalformedDocument; schema 1 is named and refused.
        """
        value = jsonio.parse_object(raw, what)
        found = document_media_type(value, media_type, what)
        if found not in mediatypes.MANIFESTS:
            raise MalformedDocument(f"{what}: {found} is not an image manifest")
        if "config" not in value:
            raise MalformedDocument(f"{what}: config: missing")
        subject = jsonio.get_object(value, "subject", what)
        return cls(
            raw=raw,
            media_type=found,
            config=Descriptor.from_json(jsonio.get_object(value, "config", what), f"{what}: config"),
            layers=tuple(
                Descriptor.from_json(item, f"{what}: layers[{index}]")
                for index, item in enumerate(jsonio.get_objects(value, "layers", what))
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
        config: Descriptor,
        layers: tuple[Descriptor, ...],
        annotations: Mapping[str, str],
        subject: Descriptor | None = None,
        artifact_type: str | None = None,
    ) -> Manifest:
        """Write a manifest in canonical form; Docker's family has no annotations, so they are left out there."""
        value: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
        if artifact_type is not None:
            value["artifactType"] = artifact_type
        value["config"] = config.to_json()
        value["layers"] = [layer.to_json() for layer in layers]
        if subject is not None:
            value["subject"] = subject.to_json()
        if annotations and media_type == mediatypes.OCI_MANIFEST:
            value["annotations"] = dict(sorted(annotations.items()))
        return cls.from_bytes(jsonio.canonical(value))

    @property
    def digest(self) -> Digest:
        """The digest of the raw bytes."""
        return Digest.of(self.raw)

    @property
    def family(self) -> mediatypes.Family:
        """Whether the manifest is OCI's or Docker's."""
        return mediatypes.Family.of(self.media_type)

    @property
    def descriptor(self) -> Descriptor:
        """A descriptor of the manifest itself, without platform."""
        return Descriptor(self.media_type, self.digest, len(self.raw))


def document_media_type(value: Mapping[str, Any], header: str | None, what: str) -> str:
    """What a manifest or index is: its own `mediaType`, then the transport's header, then its shape.

    A header that says nothing (`application/json`, `text/plain`) is passed over; a document's own word never is.

    Raises MalformedDocument for schema 1, which has no config, and whose digest covers its own signature; and for a
    document that is a manifest and an index at once (CVE-2021-41190), which two readers would take for two images.
    """
    found = jsonio.get_str(value, "mediaType", what, "") or (header or "").partition(";")[0].strip().lower()
    if found in mediatypes.SCHEMA_1 or value.get("schemaVersion") == 1:
        raise MalformedDocument(
            f"{what}: this is a Docker schema 1 manifest, which was retired in 2019 and has no image config",
            hint="pull and push the image once with a current client, which writes a newer manifest",
        )
    has_children, has_config = "manifests" in value, "config" in value or "layers" in value
    if has_children and has_config:
        raise MalformedDocument(f"{what}: both an index (manifests) and a manifest (config, layers)")
    if value.get("schemaVersion") != 2 and (has_children or has_config):
        raise MalformedDocument(f"{what}: schemaVersion: expected 2, got {value.get('schemaVersion')!r}")
    if found in mediatypes.MANIFESTS or found in mediatypes.INDEXES:
        return found
    is_silent = not value.get("mediaType")
    if is_silent and has_children:
        return mediatypes.OCI_INDEX
    if is_silent and has_config:
        return mediatypes.OCI_MANIFEST
    raise MalformedDocument(f"{what}: neither an image manifest nor an index (mediaType {found!r})")
