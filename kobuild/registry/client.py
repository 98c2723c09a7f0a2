"""The registry client that the flows use."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from kobuild.errors import UsageError
from kobuild.image.image import ImageSet
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference, Repository
from kobuild.progress import NullReporter, Reporter
from kobuild.registry.ahead import AheadUploads
from kobuild.registry.connection import Connection
from kobuild.registry.credentials import Keychain
from kobuild.registry.keychain import default_keychain
from kobuild.registry.mirrors import MirroredReader, Mirrors
from kobuild.registry.pull import RepositoryReader
from kobuild.registry.push import PushResult, RepositoryPush
from kobuild.registry.referrers import Referrers
from kobuild.registry.tagged import TaggedArtifacts
from kobuild.streams import Readable
from kobuild.transport import Transport


class RegistryClient:
    """Reads from and writes to registries; one for a whole process, which keeps connections, challenges and tokens."""

    def __init__(
        self, transport: Transport, keychain: Keychain | None = None, *, mirrors: Mirrors | None = None
    ) -> None:
        """`keychain` None is the usual one: files, helpers and environment. `mirrors` are for reading alone."""
        self._connection = Connection(transport, default_keychain() if keychain is None else keychain)
        self._mirrors = mirrors or Mirrors()

    @property
    def without_mirrors(self) -> RegistryClient:
        """The same connections, reading from where things are pushed: a mirror may be behind."""
        direct = copy.copy(self)
        direct._mirrors = Mirrors()  # noqa: SLF001  # of its own class
        return direct

    def get_manifest(self, reference: Reference) -> Manifest | Index:
        """What a reference points at, digest checked; raises NotFound, AuthError, RegistryError, IntegrityError."""
        return self._reader(reference.repository).manifest(reference.identifier, reference.digest)

    def head_manifest(self, reference: Reference) -> Descriptor | None:
        """What a reference points at, without reading it; None where there is nothing."""
        return self._reader(reference.repository).head_manifest(reference.identifier)

    def has_blob(self, repository: Repository, descriptor: Descriptor) -> bool:
        """Whether a repository has a blob."""
        return self._reader(repository).has_blob(descriptor)

    def open_blob(self, repository: Repository, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """Open a blob: verified, and resumed where its connection breaks."""
        return self._reader(repository).open_blob(descriptor)

    def read_range(self, repository: Repository, descriptor: Descriptor, start: int, size: int) -> bytes:
        """A part of a blob, which no digest covers: the caller must know what it should be."""
        return self._reader(repository).read_range(descriptor, start, size)

    def referrers(self, repository: Repository) -> Referrers:
        """The artifacts that refer to manifests of a repository: to be found, pushed, and copied elsewhere."""
        return Referrers(self._connection, repository)

    def artifacts(self, repository: Repository) -> TaggedArtifacts:
        """The artifacts of a repository that stand under tags, and are about no image."""
        return TaggedArtifacts(self._connection, repository)

    def upload_ahead(self, repository: Repository) -> AheadUploads:
        """Uploads of blobs that are still being made, to be handed to `push`."""
        return AheadUploads(self._connection, repository)

    def push(
        self,
        image_set: ImageSet,
        targets: Sequence[Reference],
        reporter: Reporter | None = None,
        *,
        move_tags: bool = True,
        ahead: AheadUploads | None = None,
    ) -> PushResult:
        """Push an image set, and let every target point at it: blobs, then manifests, tags last.

        What a registry has is not sent again, and what another of its repositories has is mounted. Targets may be in
        several repositories and registries, which are done in turn. With `move_tags` off, a tag that points at
        something else raises PushRefused before anything is sent to its repository. `ahead` has a head start for some
        of the blobs.
        """
        result = PushResult(image_set.descriptor)
        done: list[Repository] = []
        for repository, group in _by_repository(image_set, targets).items():
            also_in = [other for other in done if other.registry == repository.registry]
            push = RepositoryPush(self._connection, image_set, repository, reporter or NullReporter(), ahead)
            result += push.run(group, also_in, move_tags=move_tags)
            done.append(repository)
        return result

    def _reader(self, repository: Repository) -> RepositoryReader:
        return MirroredReader(self._connection, self._mirrors.places(repository))


def _by_repository(image_set: ImageSet, targets: Sequence[Reference]) -> dict[Repository, list[Reference]]:
    """The targets of each repository, in order, each once; raises UsageError for one that names another digest."""
    groups: dict[Repository, list[Reference]] = {}
    for target in targets:
        if target.digest is not None and target.digest != image_set.descriptor.digest:
            raise UsageError(f"push to {target}: the image's digest is {image_set.descriptor.digest}")
        # With tag and digest both, the tag is what is to be set.
        wanted = replace(target, digest=None) if target.tag else target
        group = groups.setdefault(target.repository, [])
        if wanted not in group:
            group.append(wanted)
    return groups
