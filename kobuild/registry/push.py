"""Writing an image set: blobs first, then manifests, the index after its children, tags last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kobuild.errors import AuthError, PushRefused
from kobuild.frozen import frozen
from kobuild.image.blobs import Blob
from kobuild.image.image import Carried, Image, ImageSet
from kobuild.oci import mediatypes
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference, Repository
from kobuild.progress import Reporter
from kobuild.registry.ahead import AheadUploads
from kobuild.registry.connection import Connection
from kobuild.registry.manifests import ManifestWriter
from kobuild.registry.parallel import Stop, run_all
from kobuild.registry.pull import RepositoryReader
from kobuild.registry.scopes import Scopes, join_scopes, pull_scope, push_scope
from kobuild.registry.upload import BlobPusher, Outcome


@frozen
class PushResult:
    """What a push did, over all its repositories."""

    descriptor: Descriptor
    """What every target now points at."""
    uploaded: int = 0
    """Blobs sent."""
    mounted: int = 0
    """Blobs that the registry took from another of its repositories."""
    existing: int = 0
    """Blobs that were there; none are asked for where the manifest was there."""
    bytes_sent: int = 0
    """Of blobs, each sending counted."""
    unchanged: tuple[Reference, ...] = ()
    """Targets that pointed at it before."""

    def __add__(self, other: PushResult) -> PushResult:
        """What both pushes did; they may have been of different images, and the first one's descriptor stands."""
        return PushResult(
            self.descriptor,
            uploaded=self.uploaded + other.uploaded,
            mounted=self.mounted + other.mounted,
            existing=self.existing + other.existing,
            bytes_sent=self.bytes_sent + other.bytes_sent,
            unchanged=(*self.unchanged, *other.unchanged),
        )


class RepositoryPush:
    """One image set on its way into one repository, under any number of tags."""

    def __init__(
        self,
        connection: Connection,
        image_set: ImageSet,
        repository: Repository,
        reporter: Reporter,
        ahead: AheadUploads | None = None,
    ) -> None:
        self._connection = connection
        self._set = image_set
        self._repository = repository
        self._reporter = reporter
        self._ahead = ahead if ahead is not None and ahead.repository == repository else None
        self._plain: Scopes = (push_scope(repository),)
        self._scopes: Scopes = self._plain
        self._stop = Stop()
        self._mounts = True

    def run(self, targets: Sequence[Reference], also_in: Sequence[Repository], *, move_tags: bool) -> PushResult:
        """Push, and let every target point at it.

        `also_in` are repositories of this registry that have been pushed to in this run. With `move_tags` off, a tag
        that points elsewhere raises PushRefused before anything is sent.
        """
        sources = self._mount_sources(also_in)
        wider = join_scopes((*self._plain, *(pull_scope(source) for source in sources)))
        heads = self._heads(targets, wider)
        digest = self._set.descriptor.digest
        unchanged = tuple(target for target, head in zip(targets, heads, strict=True) if head and head.digest == digest)
        moving = [target for target in targets if target not in unchanged]
        if not move_tags:
            self._refuse_to_move(targets, heads)
        result = PushResult(self._set.descriptor, unchanged=unchanged)
        if not moving:
            return result
        if not unchanged:
            result = self._push_content(result, also_in)
        put = ManifestWriter(self._connection, self._repository, self._scopes).put
        run_all([partial(put, self._set.root, target.identifier) for target in moving], self._stop)
        return result

    def _heads(self, targets: Sequence[Reference], wider: Scopes) -> list[Descriptor | None]:
        """What the targets point at now; settles with which scopes the registry lets us in."""
        self._scopes = wider
        try:
            return self._ask_heads(targets)
        except AuthError:
            if wider == self._plain:
                raise
        # A token server may give nothing for repositories that cannot be read: then nothing is mounted from them.
        self._scopes, self._mounts = self._plain, False
        return self._ask_heads(targets)

    def _ask_heads(self, targets: Sequence[Reference]) -> list[Descriptor | None]:
        """The first alone: it shows how to log in, and the others need not find out each for itself."""
        first = self._head(targets[0].identifier)
        return [first, *run_all([partial(self._head, target.identifier) for target in targets[1:]], self._stop)]

    def _head(self, identifier: str) -> Descriptor | None:
        try:
            return self._reader.head_manifest(identifier)
        except AuthError as error:
            if error.may_mean_absence:
                return None
            raise

    @property
    def _reader(self) -> RepositoryReader:
        return RepositoryReader(self._connection, self._repository, self._scopes)

    def _refuse_to_move(self, targets: Sequence[Reference], heads: Sequence[Descriptor | None]) -> None:
        for target, head in zip(targets, heads, strict=True):
            if head is not None and head.digest != self._set.descriptor.digest:
                raise PushRefused(
                    f"push {target}: the tag points at {head.digest} and is not to be moved",
                    hint="choose a new tag; without --keep-tags, tags are moved",
                )

    def _is_there(self, document: Manifest | Index) -> bool:
        return self._head(str(document.digest)) is not None

    def _push_content(self, result: PushResult, also_in: Sequence[Repository]) -> PushResult:
        """Blobs and children of what the repository does not have; the root itself comes with its tags."""
        members = list(self._set.members)
        if self._set.index is not None:
            documents: list[Manifest | Index] = [self._set.index, *(member.manifest for member in members)]
            root_is_there, *there = run_all([partial(self._is_there, item) for item in documents], self._stop)
            if root_is_there:
                return result
            members = [member for member, is_there in zip(members, there, strict=True) if not is_there]
        outcomes = self._push_blobs(members, also_in)
        if self._set.index is not None:
            put = ManifestWriter(self._connection, self._repository, self._scopes).put
            manifests = [member.manifest for member in members]
            run_all([partial(put, item, str(item.digest)) for item in manifests], self._stop)
        kinds = [outcome for outcome, _ in outcomes]
        return PushResult(
            result.descriptor,
            uploaded=kinds.count(Outcome.UPLOADED),
            mounted=kinds.count(Outcome.MOUNTED),
            existing=kinds.count(Outcome.EXISTING),
            bytes_sent=sum(sent for _, sent in outcomes),
            unchanged=result.unchanged,
        )

    def _push_blobs(
        self, members: Sequence[Image | Carried], also_in: Sequence[Repository]
    ) -> list[tuple[Outcome, int]]:
        pusher = BlobPusher(self._connection, self._repository, self._scopes, self._stop)
        unique = {blob.descriptor.digest: blob for member in members for blob in member.blobs if not _is_foreign(blob)}
        largest_first = sorted(unique.values(), key=lambda blob: -blob.descriptor.size)
        return run_all([partial(self._push_blob, pusher, blob, also_in) for blob in largest_first], self._stop)

    def _push_blob(self, pusher: BlobPusher, blob: Blob, also_in: Sequence[Repository]) -> tuple[Outcome, int]:
        transfer = self._reporter.transfer(f"push {blob.descriptor.digest.short}", blob.descriptor.size)
        sent = self._ahead.settle(blob.descriptor.digest) if self._ahead is not None else None
        if sent is not None:
            transfer.advance(sent)
            transfer.done("sent while it was made")
            return Outcome.UPLOADED, sent
        return pusher.push(blob, self._mount_source(blob, also_in), transfer)

    def _mount_source(self, blob: Blob, also_in: Sequence[Repository]) -> Repository | None:
        """Where in this registry the blob is, outside this repository."""
        if not self._mounts:
            return None
        if self._is_mountable(blob.source.repository):
            return blob.source.repository
        return also_in[0] if also_in else None

    def _mount_sources(self, also_in: Sequence[Repository]) -> list[Repository]:
        named = {blob.source.repository for member in self._set.members for blob in member.blobs}
        known = {source for source in named if source is not None and self._is_mountable(source)}
        return sorted({*known, *also_in})

    def _is_mountable(self, source: Repository | None) -> bool:
        return source is not None and source.registry == self._repository.registry and source != self._repository


def _is_foreign(blob: Blob) -> bool:
    """Whether the blob's addresses go along instead of its bytes."""
    return mediatypes.is_foreign(blob.descriptor.media_type) and bool(blob.descriptor.urls)
