"""Artifacts that refer to an image: signatures, SBOMs, attestations (distribution-spec 1.1, "Referrers").

A registry that lacks the referrers API gets the list as an index under the tag `sha256-HEX`, as the specification says
("Referrers Tag Schema").
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final
from urllib.parse import quote, urljoin

from kobuild.errors import MalformedDocument, NotFound, PushRefused, RegistryError
from kobuild.frozen import frozen
from kobuild.image.blobs import Blob, BytesSource
from kobuild.oci import jsonio, mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Repository
from kobuild.progress import NullTransfer
from kobuild.registry.connection import Call, Connection
from kobuild.registry.manifests import ManifestWriter
from kobuild.registry.parallel import Stop, run_all
from kobuild.registry.pull import RepositoryReader
from kobuild.registry.scopes import Scopes, pull_scope, push_scope
from kobuild.registry.upload import BlobPusher
from kobuild.streams import Readable
from kobuild.transport import Response, origin

_logger = logging.getLogger(__name__)

_EMPTY: Final = b"{}"
_EMPTY_CONFIG: Final = Descriptor(mediatypes.OCI_EMPTY, Digest.of(_EMPTY), len(_EMPTY), data=_EMPTY)
_NEXT: Final = re.compile(r'<([^>]*)>\s*;(?:[^,]*;)?\s*rel="?next"?', re.IGNORECASE)
_MAX_PAGES: Final = 100
_TAG_ATTEMPTS: Final = 6
_SETTLE_SECONDS: Final = 0.1
_SETTLE_ROUNDS: Final = 3
"""How long after a write another writer may still overwrite it with a list that he had read before it: so many times as
long as our own reading and writing took, and at least so long."""
_MAX_DEPTH: Final = 4
"""A signature of an attestation of an image is two deep."""


@frozen
class Artifact:
    """A manifest with a subject, and its blobs."""

    manifest: Manifest
    blobs: tuple[Blob, ...]

    @classmethod
    def make(
        cls,
        subject: Descriptor,
        artifact_type: str,
        blobs: Sequence[Blob],
        annotations: Mapping[str, str] | None = None,
    ) -> Artifact:
        """An artifact about `subject`: an image manifest with an empty config (image-spec, manifest.md)."""
        about = Descriptor(subject.media_type, subject.digest, subject.size)
        manifest = Manifest.build(
            media_type=mediatypes.OCI_MANIFEST,
            config=_EMPTY_CONFIG,
            layers=tuple(blob.descriptor for blob in blobs),
            annotations=annotations or {},
            subject=about,
            artifact_type=artifact_type,
        )
        return cls(manifest, (*blobs, Blob(_EMPTY_CONFIG, BytesSource(_EMPTY))))

    @property
    def descriptor(self) -> Descriptor:
        """What a list of referrers says of it."""
        return _listed(self.manifest)


class Referrers:
    """The referrers of one repository's manifests."""

    def __init__(self, connection: Connection, repository: Repository) -> None:
        self._connection = connection
        self._repository = repository

    def find(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """What refers to a digest, of one type if one is named; empty where nothing does. Raises RegistryError."""
        scopes = (pull_scope(self._repository),)
        found: Iterable[Descriptor] | None = self._ask_api(subject, artifact_type, scopes)
        if found is None:
            # Nobody keeps a tag's list right when an artifact is deleted, and not everybody when one is added.
            listed = self._read_tag(subject, scopes)
            asked = [item for item in listed if artifact_type in (None, item.artifact_type) or _is_vague(item)]
            found = self._that_are_there(asked, scopes)
        return tuple(item for item in found if artifact_type in (None, item.artifact_type))

    def push(self, artifact: Artifact) -> Descriptor:
        """Push an artifact, and see to it that it is listed; returns its descriptor. Raises RegistryError."""
        if artifact.manifest.subject is None:
            raise PushRefused(f"push artifact {artifact.manifest.digest} to {self._repository}: it has no subject")
        scopes = (push_scope(self._repository),)
        stop = Stop()
        pusher = BlobPusher(self._connection, self._repository, scopes, stop)
        run_all([partial(_push_blob, pusher, blob, self._repository) for blob in artifact.blobs], stop)
        writer = ManifestWriter(self._connection, self._repository, scopes)
        headers = writer.put(artifact.manifest, str(artifact.manifest.digest))
        if headers is None or "OCI-Subject" not in headers:
            self._list_by_tag(artifact, artifact.manifest.subject.digest, writer, scopes)
        return artifact.descriptor

    def copy_to(self, target: Referrers, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """Copy what refers to a digest, and what refers to that, into another repository; returns what was copied."""
        copied: dict[Digest, Descriptor] = {}
        waiting = [(item, 1) for item in self.find(subject, artifact_type)]
        while waiting:
            descriptor, depth = waiting.pop(0)
            artifact = self._open(descriptor) if descriptor.digest not in copied else None
            if artifact is not None:
                copied[descriptor.digest] = target.push(artifact)
                deeper = self.find(descriptor.digest) if depth < _MAX_DEPTH else ()
                waiting.extend((item, depth + 1) for item in deeper)
        return tuple(copied.values())

    def _open(self, descriptor: Descriptor) -> Artifact | None:
        """An artifact of this repository, None for one that is listed and gone.

        Raises MalformedDocument for an index, which is none that we copy.
        """
        reader = RepositoryReader(self._connection, self._repository)
        try:
            manifest = reader.manifest(str(descriptor.digest), descriptor.digest)
        except NotFound:
            self._tell_gone(descriptor)
            return None
        if not isinstance(manifest, Manifest):
            raise MalformedDocument(f"artifact {self._repository}@{descriptor.digest}: an index cannot be copied")
        blobs = {blob.digest: blob for blob in (*manifest.layers, manifest.config)}
        held = (Blob(blob, _HeldBlob(reader, self._repository, blob)) for blob in blobs.values())
        return Artifact(manifest, tuple(held))

    def _ask_api(self, subject: Digest, artifact_type: str | None, scopes: Scopes) -> list[Descriptor] | None:
        """The API's list, all its pages; None where the registry has no such API."""
        path = f"referrers/{subject}" + (f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else "")
        found: list[Descriptor] = []
        for _ in range(_MAX_PAGES):
            page = self._ask_page(path, scopes)
            if page is None:
                return None
            found.extend(page[0])
            if page[1] is None:
                return found
            path = page[1]
        raise RegistryError(f"list referrers of {self._repository}@{subject}: more than {_MAX_PAGES} pages")

    def _ask_page(self, path: str, scopes: Scopes) -> tuple[Iterable[Descriptor], str | None] | None:
        action = f"list referrers in {self._repository}"
        call = Call(action, self._repository, "GET", path, scopes, headers={"Accept": mediatypes.OCI_INDEX})
        try:
            response, raw = self._connection.read(call, jsonio.MAX_DOCUMENT_BYTES)
            index = Index.from_bytes(raw, what=f"referrers in {self._repository}")
        except MalformedDocument:
            # Some registries answer every unknown path with a page of their own.
            return None
        except RegistryError as error:
            if error.status in (400, 404, 405, 501):
                return None
            raise
        return index.manifests, _next_page(response)

    def _read_tag(self, subject: Digest, scopes: Scopes) -> tuple[Descriptor, ...]:
        """The list under the fallback tag; empty where there is none."""
        found = self._tagged(subject, scopes)
        return found.manifests if isinstance(found, Index) else ()

    def _tagged(self, subject: Digest, scopes: Scopes) -> Manifest | Index | None:
        try:
            return RepositoryReader(self._connection, self._repository, scopes).manifest(fallback_tag(subject))
        except NotFound:
            return None

    def _that_are_there(self, listed: Sequence[Descriptor], scopes: Scopes) -> list[Descriptor]:
        """Those whose manifest the registry still has; each once, with its type."""
        unique = list({item.digest: item for item in listed}.values())
        reader = RepositoryReader(self._connection, self._repository, scopes)
        found = run_all([partial(_look_at, reader, item) for item in unique], Stop())
        for item, there in zip(unique, found, strict=True):
            if there is None:
                self._tell_gone(item)
        return [there for there in found if there is not None]

    def _tell_gone(self, descriptor: Descriptor) -> None:
        _logger.info("referrers: %s@%s is listed and is gone", self._repository, descriptor.digest)

    def _list_by_tag(self, artifact: Artifact, subject: Digest, writer: ManifestWriter, scopes: Scopes) -> None:
        """Put the artifact into the fallback tag's list; raises RegistryError where the tag is something else.

        The protocol has no lock: two writers may each overwrite what the other added. So the list is read again a
        moment after each write, and written again until the artifact is in it, with all that anybody added meanwhile.
        """
        place = f"{self._repository}:{fallback_tag(subject)}"
        known: dict[Digest, Descriptor] = {}
        for attempt in range(1, _TAG_ATTEMPTS + 1):
            began = self._connection.transport.clock.now()
            found = self._tagged(subject, scopes)
            if isinstance(found, Manifest):
                raise RegistryError(
                    f"list {artifact.descriptor.digest} in {place}: the tag is an image and no list of referrers",
                    hint="the registry has no referrers API, and needs this tag for that",
                )
            listed = {item.digest: item for item in (found.manifests if found else ())}
            known = {**listed, **known}
            if artifact.descriptor.digest in listed and len(known) == len(listed):
                return
            if attempt > 1:
                problem = RegistryError(f"list {artifact.descriptor.digest} in {place}: overwritten")
                self._connection.transport.pause(problem, attempt)
            known[artifact.descriptor.digest] = artifact.descriptor
            known = self._put_list(known, found.annotations if found else {}, subject, writer, scopes)
            self._settle(began)
        if artifact.descriptor.digest not in {item.digest for item in self._read_tag(subject, scopes)}:
            message = f"list {artifact.descriptor.digest} in {place}: others overwrite it"
            raise RegistryError(message, retryable=True)

    def _settle(self, began: float) -> None:
        """Wait until whoever read the list before our write will have written."""
        clock = self._connection.transport.clock
        seconds = max(_SETTLE_SECONDS, _SETTLE_ROUNDS * (clock.now() - began))
        clock.sleep(seconds * (1 + random.random()))  # noqa: S311

    def _put_list(
        self,
        known: Mapping[Digest, Descriptor],
        annotations: Mapping[str, str],
        subject: Digest,
        writer: ManifestWriter,
        scopes: Scopes,
    ) -> dict[Digest, Descriptor]:
        """Write the list, without what is gone where the registry takes no index of that; returns what was written."""
        build = partial(Index.build, media_type=mediatypes.OCI_INDEX, annotations=annotations)
        try:
            writer.put(build(manifests=tuple(known.values())), fallback_tag(subject), waits=0)
        except (PushRefused, NotFound):
            there = self._that_are_there(list(known.values()), scopes)
            if len(there) == len(known):
                raise
            writer.put(build(manifests=tuple(there)), fallback_tag(subject))
            return {item.digest: item for item in there}
        return dict(known)


@frozen
class _HeldBlob:
    """A blob of an artifact that is copied."""

    reader: RepositoryReader
    place: Repository
    descriptor: Descriptor

    @property
    def repository(self) -> Repository | None:
        """The repository that holds the blob."""
        return self.place

    def open(self) -> AbstractContextManager[Readable]:
        """Open the bytes, verified."""
        return self.reader.open_blob(self.descriptor)


def _listed(manifest: Manifest | Index) -> Descriptor:
    """An artifact as a list of referrers has it (distribution-spec, "Pushing Manifests with Subject")."""
    plain = manifest.descriptor
    kind = manifest.artifact_type or (manifest.config.media_type if isinstance(manifest, Manifest) else None)
    return Descriptor(plain.media_type, plain.digest, plain.size, annotations=manifest.annotations, artifact_type=kind)


def _is_vague(listed: Descriptor) -> bool:
    """Whether only the artifact itself says of which type it is.

    go-containerregistry, and so cosign, lists all under the type of their config, and without annotations; and what has
    the empty config has a type of its own (image-spec, manifest.md, "Guidelines for Artifact Usage").
    """
    return listed.artifact_type in (None, mediatypes.OCI_EMPTY)


def _look_at(reader: RepositoryReader, listed: Descriptor) -> Descriptor | None:
    """A listed artifact, by its own words where the list's are vague; None where it is gone. Raises RegistryError."""
    try:
        if not _is_vague(listed):
            return listed if reader.head_manifest(str(listed.digest)) is not None else None
        return _listed(reader.manifest(str(listed.digest), listed.digest))
    except NotFound:
        return None
    except MalformedDocument:  # not for us to hide: whoever opens it says what is wrong with it
        return listed


def _next_page(response: Response) -> str | None:
    """The address of the next page by a Link header (RFC 8288); None on the last."""
    following = _NEXT.search(response.headers.get("Link", ""))
    if following is None:
        return None
    try:
        place: str = urljoin(response.url, following[1])
        origin(place)
    except ValueError as error:
        raise RegistryError(f"{response.place}: its next page is no address") from error
    return place


def fallback_tag(subject: Digest) -> str:
    """The tag of the fallback list: `sha256-` and the hex digits, at most 64 of them."""
    return f"{subject.algorithm}-{subject.hex[:64]}"


def _push_blob(pusher: BlobPusher, blob: Blob, repository: Repository) -> None:
    held = blob.source.repository
    mount_from = held if held is not None and held.registry == repository.registry and held != repository else None
    pusher.push(blob, mount_from, NullTransfer())
