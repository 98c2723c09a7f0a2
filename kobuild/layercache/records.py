"""What a layer cache's registry holds about a recipe, under the tag `layer-RECIPE`.

Either a record: an artifact whose one layer is the layer itself, and whose annotation says what the engine said of it;
or a claim: an artifact without content, by which a machine tells the others that it is making the layer.

    dev.kobuild.layer          the record or claim as JSON
    dev.kobuild.layer.proof    HMAC-SHA256 over these very bytes, under the key of those who may share layers

Only the making shows what a recipe makes, so no digest in the registry can prove a record right. The proof says that
somebody with the key wrote it for this recipe; without the key nobody can make one, or move one to another recipe.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final

from kobuild.errors import MalformedDocument, UsageError
from kobuild.frozen import frozen
from kobuild.layers.plan import LayerResult
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.manifest import Manifest
from kobuild.registry.tagged import EMPTY_BLOB

KEY_VARIABLE: Final = "KOBUILD_LAYER_CACHE_KEY"
RECORD_TYPE: Final = "application/vnd.kobuild.layer.v1"
CLAIM_TYPE: Final = "application/vnd.kobuild.layer-claim.v1"
CONTENT: Final = "dev.kobuild.layer"
PROOF: Final = "dev.kobuild.layer.proof"
MAX_CONTENT_BYTES: Final = 1024 * 1024
"""A record beyond this is not shared: some registries bound manifests far below the 4 MiB of the specification."""
_MIN_KEY_BYTES: Final = 16
_DOMAIN: Final = b"kobuild layer cache 1\n"


@frozen
class Record:
    """What a recipe made."""

    recipe: str
    result: LayerResult
    media_type: str
    """Of the layer, in OCI's family."""
    is_proved: bool

    @property
    def descriptor(self) -> Descriptor:
        """The layer's."""
        return Descriptor(self.media_type, self.result.digest, self.result.size)


@frozen
class Claim:
    """A machine's word that it is making the layer."""

    recipe: str
    nonce: str
    """Whose it is; empty where the claim was given up."""
    beat: int
    """Counts up while its machine is at work."""
    is_proved: bool


class Notary:
    """Proves what is written, and tells whether what is read was proved; without a key, nothing is."""

    def __init__(self, key: str | None) -> None:
        """Raises UsageError for a key that could be guessed."""
        self._key = key.strip().encode() if key else b""
        if self._key and len(self._key) < _MIN_KEY_BYTES:
            raise UsageError(
                f"{KEY_VARIABLE} is shorter than {_MIN_KEY_BYTES} bytes",
                hint="make one with `openssl rand -hex 32`, and keep it as a secret",
            )

    @property
    def has_key(self) -> bool:
        """Whether anything can be proved."""
        return bool(self._key)

    def prove(self, content: str) -> dict[str, str]:
        """The annotations of a content: itself, and its proof where there is a key."""
        return {CONTENT: content, **({PROOF: self._sum(content)} if self._key else {})}

    def is_proved(self, content: str, proof: str) -> bool:
        """Whether the proof is right."""
        return bool(self._key) and hmac.compare_digest(
            self._sum(content).encode(), proof.encode("utf-8", "surrogatepass")
        )

    def _sum(self, content: str) -> str:
        return hmac.new(self._key, _DOMAIN + content.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def tag_of(recipe: str) -> str:
    """The tag that a recipe's record or claim stands under."""
    return f"layer-{recipe}"


def record_manifest(recipe: str, result: LayerResult, media_type: str, notary: Notary) -> Manifest | None:
    """A record as a manifest; None where it would be too large."""
    content = _text({"recipe": recipe, "media_type": media_type, **result.to_json()})
    if len(content) > MAX_CONTENT_BYTES:
        return None
    return _manifest(RECORD_TYPE, Descriptor(media_type, result.digest, result.size), notary.prove(content))


def claim_manifest(recipe: str, nonce: str, beat: int, notary: Notary) -> Manifest:
    """A claim as a manifest."""
    content = _text({"recipe": recipe, "nonce": nonce, "beat": beat})
    return _manifest(CLAIM_TYPE, EMPTY_BLOB.descriptor, notary.prove(content))


def _text(value: Mapping[str, Any]) -> str:
    return jsonio.canonical(value).decode()


def _manifest(artifact_type: str, layer: Descriptor, annotations: Mapping[str, str]) -> Manifest:
    return Manifest.build(
        media_type=mediatypes.OCI_MANIFEST,
        config=EMPTY_BLOB.descriptor,
        layers=(layer,),
        annotations=annotations,
        artifact_type=artifact_type,
    )


def read(manifest: Manifest, recipe: str, notary: Notary) -> Record | Claim | None:
    """What a manifest of the recipe's tag says; None for what is neither, or is about another recipe."""
    content, proof = manifest.annotations.get(CONTENT, ""), manifest.annotations.get(PROOF, "")
    is_proved = notary.is_proved(content, proof)
    try:
        value = jsonio.parse_object(content.encode("utf-8", "surrogatepass"), "layer record")
        if value.get("recipe") != recipe:
            return None
        if manifest.artifact_type == CLAIM_TYPE:
            return Claim(
                recipe, jsonio.get_str(value, "nonce", "claim"), jsonio.get_int(value, "beat", "claim"), is_proved
            )
        record = Record(
            recipe, LayerResult.from_json(value), jsonio.get_str(value, "media_type", "layer record"), is_proved
        )
    except MalformedDocument:
        return None
    # The record names the layer; the manifest's own list only keeps the registry from removing it.
    listed = [layer.digest for layer in manifest.layers]
    return record if manifest.artifact_type == RECORD_TYPE and listed == [record.result.digest] else None
