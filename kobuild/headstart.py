"""Sending layers to the first target while they are being made, where the target seems not to have them."""

from __future__ import annotations

import threading
from pathlib import Path

from kobuild.errors import NotFound, RegistryError
from kobuild.oci import annotations as keys
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.registry import AheadBlob, AheadUploads, RegistryClient


class HeadStart:
    """The uploads of one run; a `LayerWatch` of the build."""

    def __init__(self, registry: RegistryClient, target: Reference) -> None:
        self.uploads: AheadUploads = registry.upload_ahead(target.repository)
        self._target = target
        self._lock = threading.Lock()
        self._present: frozenset[tuple[str, str]] | None = None

    def begin(self, tool: str, version: str, platform: Platform, path: Path) -> AheadBlob:
        """A layer begins to be written at `path`."""
        return self.uploads.begin(f"of {tool} {version} for {platform}", path, lambda: self._is_new(tool, version))

    def close(self) -> None:
        """Let go of what was not pushed."""
        self.uploads.close()

    def _is_new(self, tool: str, version: str) -> bool:
        """Whether the repository is empty, or the target's image has no layer of that tool and version.

        Where the repository may have the layer, asking for it once it is made costs less than sending it again.
        """
        with self._lock:
            if self._present is None:
                self._present = self._read_present()
        return (tool, version) not in self._present

    def _read_present(self) -> frozenset[tuple[str, str]]:
        """The tools and versions of the image that the target points at; raises RegistryError where nobody can tell."""
        reader = self.uploads.reader
        try:
            found = reader.manifest(self._target.identifier)
        except NotFound:
            if reader.has_tags():
                raise
            return frozenset()
        except RegistryError as error:
            if error.may_mean_absence:
                return frozenset()
            raise
        children = [child.digest for child in found.manifests] if isinstance(found, Index) else []
        documents = [reader.manifest(str(digest), digest) for digest in children] or [found]
        return frozenset(pair for document in documents for pair in _tools(document))


def _tools(document: Manifest | Index) -> set[tuple[str, str]]:
    """The tools that a manifest's annotations tell; raises RegistryError for one that has no annotations to tell it."""
    if isinstance(document, Index) or document.family is not Family.OCI:
        raise RegistryError("the target's image does not say which layers it has")
    noted = [layer.annotations for layer in document.layers]
    return {(note[keys.TOOL_NAME], note.get(keys.TOOL_VERSION, "")) for note in noted if keys.TOOL_NAME in note}
