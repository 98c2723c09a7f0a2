"""Layers by their recipes in a repository of a registry: looked for, waited for, kept.

What comes from there is believed as far as it is proved: by the key, or, where the settings trust whoever can write, by
reading the layer to its end. Every failure of the registry is a warning and costs time alone: the layer is made here.
"""

from __future__ import annotations

import threading
import time
from enum import Enum

from kobuild.decompress import Decompressed
from kobuild.errors import DigestMismatch, KobuildError, LimitExceeded, LostEntry, RegistryError
from kobuild.image.blobs import Blob, BlobSource
from kobuild.layercache.claims import Claims
from kobuild.layercache.origin import SharedSource
from kobuild.layercache.records import Claim, Notary, Record, read, record_manifest, tag_of
from kobuild.layercache.waiting import Pace, Patience, wait
from kobuild.layers.plan import LayerPlan, LayerResult
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Family
from kobuild.oci.reference import Repository
from kobuild.progress import Reporter
from kobuild.registry import RegistryClient, RegistrySource
from kobuild.registry.tagged import EMPTY_BLOB
from kobuild.sharing import SharedLayer
from kobuild.store.cache import Cache
from kobuild.store.cachedsource import CachedSource
from kobuild.streams import CHUNK_BYTES, HashingWriter, StoppedError


class Mode(str, Enum):
    """What the cache is for in this run."""

    USE = "use"
    """Layers are taken, and those made here are put there."""
    READ = "read"
    """Layers are taken, and nothing is written."""
    AUDIT = "audit"
    """Every layer is made here, and what the cache says of it must be the same."""


class LayerCache:
    """The layers of one repository; fits `SharedLayers`."""

    def __init__(
        self,
        client: RegistryClient,
        repository: Repository,
        cache: Cache,
        reporter: Reporter,
        *,
        notary: Notary,
        trusts_writers: bool = False,
        mode: Mode = Mode.USE,
        pace: Pace | None = None,
    ) -> None:
        # Records are not looked for in mirrors, so neither are the layers that they name.
        self._client = client.without_mirrors
        self._repository = repository
        self._artifacts = client.artifacts(repository)
        self._cache = cache
        self._reporter = reporter
        self._notary = notary
        self._trusts_writers = trusts_writers
        self._mode = mode
        self._pace = pace or Pace()
        self._claims = Claims(self._artifacts, notary, self._pace)
        self._reads = True
        self._writes = mode is Mode.USE
        self._lost: set[Digest] = set()
        self._found: dict[str, Record] = {}
        self._lock = threading.Lock()
        self.taken = 0
        """Layers that others had made."""
        self.kept = 0
        """Layers that were put there."""
        self.confirmed = 0
        """In an audit: layers that are made here as the cache says."""
        self.unknown = 0
        """In an audit: layers that the cache says nothing of that is believed."""

    def close(self) -> None:
        """End the claims that are left."""
        self._claims.close()

    @property
    def place(self) -> Repository | None:
        """Where layers are put that are made here; None where nothing is written."""
        return self._repository if self._writes else None

    def find(self, recipe: str) -> LayerResult | None:
        """What the recipe makes, if its record is believed."""
        if self._mode is Mode.AUDIT:
            return None
        seen = self._look(recipe)
        if not isinstance(seen, Record) or not self._believes(seen):
            return None
        self._found[recipe] = seen
        return seen.result

    def obtain(self, recipe: str, cancelled: threading.Event) -> SharedLayer | None:
        """The layer; None where the caller is to make it. Waits while another machine makes it."""
        patience = Patience(self._pace)
        while self._reads and self._mode is not Mode.AUDIT:
            began = time.monotonic()
            seen = self._found.pop(recipe, None) or self._look(recipe)
            taken = self._take(seen) if isinstance(seen, Record) else None
            if taken is not None or not self._writes:
                return taken
            if isinstance(seen, Claim) and self._is_of_another(seen) and patience.waits_for(seen):
                patience.pause(cancelled)
            elif self._claim(recipe, began, cancelled) or patience.is_over:
                return None
        return None

    def check(self, recipe: str, result: LayerResult) -> None:
        """In an audit, compare what was made here with the record; raises DigestMismatch where that says otherwise."""
        if self._mode is not Mode.AUDIT:
            return
        seen = self._look(recipe)
        is_known = isinstance(seen, Record) and self._believes(seen)
        if isinstance(seen, Record) and is_known and seen.result.diff_id != result.diff_id:
            raise DigestMismatch(
                f"audit {self._repository}:{tag_of(recipe)}",
                expected=f"diff ID {result.diff_id}, as made here",
                actual=str(seen.result.diff_id),
                hint="somebody put another layer under this recipe: find out who, and renew the key",
            )
        with self._lock:
            self.confirmed += is_known
            self.unknown += not is_known

    def keep(self, recipe: str, plan: LayerPlan, result: LayerResult, source: BlobSource) -> BlobSource | None:
        """Put a layer there, with its record; a failure is a warning. In an audit, compare it with the record.

        Raises LostEntry where `source` turns out to be gone or damaged.
        """
        self.check(recipe, result)
        media_type = Family.OCI.layer(plan.compression)
        manifest = record_manifest(recipe, result, media_type, self._notary)
        if not self._writes or manifest is None:
            self._claims.give_up(recipe)
            return None
        try:
            self._send(recipe, manifest, source)
        except LostEntry:
            raise
        except KobuildError as error:
            self._stop_writing(error)
            self._claims.void(recipe)
            return None
        with self._lock:
            self.kept += 1
        return self._source(Record(recipe, result, media_type, is_proved=True))

    def give_up(self, recipe: str) -> None:
        """Let others make it, if they wait for it to be made here."""
        self._claims.give_up(recipe)

    def _send(self, recipe: str, manifest: Manifest, source: BlobSource) -> None:
        (layer,) = manifest.layers
        transfer = self._reporter.transfer(f"share {layer.digest.short}", layer.size)
        try:
            self._artifacts.store((Blob(layer, source), EMPTY_BLOB), transfer)
            self._claims.end(recipe)
            self._artifacts.put(tag_of(recipe), manifest)
        except BaseException:
            transfer.done("failed")
            raise

    # What is there.

    def _look(self, recipe: str) -> Record | Claim | None:
        """What the registry has of a recipe; a registry that fails is not asked again in this run."""
        if not self._reads:
            return None
        try:
            manifest = self._artifacts.find(tag_of(recipe), writing=self._writes)
        except KobuildError as error:
            if self._mode is Mode.AUDIT:
                raise  # who asked for an audit must not take a silent registry for a good word
            if not (isinstance(error, RegistryError) and error.may_mean_absence and self._writes):
                self._stop_reading(error)
            return None
        return None if manifest is None else read(manifest, recipe, self._notary)

    def _believes(self, found: Record | Claim) -> bool:
        return found.is_proved or self._trusts_writers

    def _take(self, record: Record) -> SharedLayer | None:
        """The layer of a record, where it is believed."""
        if record.result.digest in self._lost or not self._believes(record):
            return None
        source = CachedSource(self._cache, record.descriptor, self._source(record), is_base=False)
        if not record.is_proved and not self._checks_out(record, source):
            return None
        with self._lock:
            self.taken += 1
        return SharedLayer(record.result, source)

    def _checks_out(self, record: Record, source: BlobSource) -> bool:
        """Whether the layer of a record that nobody proved has at least its digest, size and diff ID."""
        place = f"layer {record.result.digest.short} of {self._repository}"
        tar = HashingWriter(None)
        try:
            with source.open() as file:
                plain = Decompressed(file, place)
                while data := plain.read(CHUNK_BYTES):
                    tar.write(data)
                    if tar.size > record.result.uncompressed_size:
                        raise LimitExceeded(f"{place}: more than {record.result.uncompressed_size} bytes")
            if tar.digest != record.result.diff_id:
                raise DigestMismatch(place, expected=str(record.result.diff_id), actual=str(tar.digest))
        except KobuildError as error:
            self._reporter.warning(f"the layer cache is wrong, and the layer is made here: {error}")
            self._cache.drop_blob(record.result.digest)
            self._lost.add(record.result.digest)
            return False
        return True

    def _source(self, record: Record) -> SharedSource:
        origin = RegistrySource(self._client, self._repository, record.descriptor)
        return SharedSource(origin, lambda: self._lost.add(record.result.digest))

    # Who makes what.

    def _is_of_another(self, claim: Claim) -> bool:
        return bool(claim.nonce) and self._believes(claim)

    def _claim(self, recipe: str, began: float, cancelled: threading.Event) -> bool:
        """Tell the others that the layer is made here; whether it is, for somebody may have been faster.

        `began` is when there was no claim, by the monotonic clock. A registry that takes no claim gets no layer either.
        """
        try:
            nonce = self._claims.write(recipe)
        except KobuildError as error:
            self._stop_writing(error)
            return True
        try:
            wait(max(self._pace.settle, 4 * (time.monotonic() - began)), cancelled)
        except StoppedError:
            self._claims.void(recipe)
            raise
        seen = self._look(recipe)
        if seen is not None and self._believes(seen) and not (isinstance(seen, Claim) and seen.nonce == nonce):
            return False
        self._claims.hold(recipe, nonce)
        return True

    def _stop_reading(self, error: KobuildError) -> None:
        with self._lock:
            is_news, self._reads, self._writes = self._reads, False, False
        if is_news:
            self._reporter.warning(f"the layer cache {self._repository} is not used: {error}")

    def _stop_writing(self, error: KobuildError) -> None:
        with self._lock:
            is_news, self._writes = self._writes, False
        if is_news:
            self._reporter.warning(f"nothing is put into the layer cache {self._repository}: {error}")
