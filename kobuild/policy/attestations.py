"""Signed statements about an image, as they are attached to it in its registry, or lie in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kobuild.errors import IntegrityError, KobuildError, MalformedDocument, RegistryError, SignatureError
from kobuild.frozen import frozen
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
from kobuild.signatures.dsse import MAX_BUNDLE_BYTES, STATEMENT_TYPES, SignedStatement, parse_statement
from kobuild.streams import disk_errors, read_bounded

BUNDLE_PREFIX: Final = "application/vnd.dev.sigstore.bundle"
"""What the artifact types of all versions of the bundle begin with."""
MAX_ATTESTATIONS: Final = 64
"""More than that are not read: whoever may push can attach any number."""


@frozen
class Attestation:
    """One attached bundle; nothing of it is verified yet."""

    place: str
    """For findings: where it is."""
    statement: SignedStatement | None
    """None for a bundle that cannot be read."""
    fault: str = ""
    """Why it cannot be read."""

    @property
    def claimed_type(self) -> str:
        """The predicate type that it claims; empty where it claims none."""
        value = read_statement(self.statement.payload) if self.statement is not None else None
        return str(value.get("predicateType", "")) if value is not None else ""


def find_attestations(client: RegistryClient, reference: Reference, subject: Digest) -> Iterator[Attestation]:
    """Bundles that refer to `subject`, the newest first; raises RegistryError where they cannot be listed."""
    listed = client.referrers(reference.repository).find(subject)
    bundles = [item for item in listed if (item.artifact_type or "").startswith(BUNDLE_PREFIX)]
    newest = sorted(
        bundles, key=lambda item: item.annotations.get("org.opencontainers.image.created", ""), reverse=True
    )
    for descriptor in newest[:MAX_ATTESTATIONS]:
        place = f"attestation {descriptor.digest} of {subject}"
        try:
            yield Attestation(place, _read(client, reference, descriptor, subject))
        except (SignatureError, MalformedDocument, IntegrityError, RegistryError) as error:
            yield Attestation(place, None, str(error))


def attestation_file(path: Path) -> Attestation:
    """A bundle in a file; raises StorageError where the file cannot be read."""
    place = f"attestation {path}"
    with disk_errors("read", path), path.open("rb") as file:
        raw = file.read(MAX_BUNDLE_BYTES + 1)
    try:
        return Attestation(place, parse_statement(raw, str(path)))
    except KobuildError as error:
        return Attestation(place, None, str(error))


def read_statement(payload: bytes) -> dict[str, Any] | None:
    """An in-toto statement; None for anything else."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("_type") in STATEMENT_TYPES else None


def _read(client: RegistryClient, reference: Reference, descriptor: Descriptor, subject: Digest) -> SignedStatement:
    manifest = client.get_manifest(reference.with_digest(descriptor.digest))
    if not isinstance(manifest, Manifest) or len(manifest.layers) != 1:
        raise SignatureError(f"{descriptor.digest} is no artifact of one bundle")
    if manifest.subject is None or manifest.subject.digest != subject:
        raise SignatureError(f"{descriptor.digest} is listed for {subject}, and is about something else")
    (layer,) = manifest.layers
    place = f"bundle {layer.digest}"
    with client.open_blob(reference.repository, layer) as file:
        return parse_statement(read_bounded(file, MAX_BUNDLE_BYTES, place), place)
