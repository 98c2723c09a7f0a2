"""Upstream files into the cache, and out of it as what the layer engine reads.

`open_artifact` gives a file that may still be on its way: its stream follows the download, and tells the end only once
size and sums were verified. Nothing that was not verified is ever a blob of the cache.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol, final
from urllib.parse import unquote, urlsplit

from kobuild.errors import FetchError, IntegrityError, KobuildError
from kobuild.frozen import frozen
from kobuild.oci.digest import Digest
from kobuild.sources.bases import rebase
from kobuild.sources.catalog import locate
from kobuild.sources.growing import GrowingFile
from kobuild.sources.hashing import hash_file
from kobuild.sources.model import Artifact, Location, SourceContext, Vouched
from kobuild.sources.partial import Partial, claim
from kobuild.sources.path import resolve_path
from kobuild.sources.transfer import CancelledError, FileTransfer, check
from kobuild.store.cache import Cache
from kobuild.streams import Readable, VerifyingReader, disk_errors
from kobuild.transport import OFFLINE_HINT, Clock, Request, redact

RECORD_KIND: Final = "downloads"
"""The cache's records of what an address had when nobody vouched for it: ETag, sha256 and size."""
_WORKERS: Final = 4
_JOIN_SECONDS: Final = 1.0
_REFUSED: Final = frozenset({401, 403, 404, 407})


class FileFacts(Protocol):
    """What an Artifact and the lock's entry have in common."""

    @property
    def url(self) -> str: ...  # noqa: D102
    @property
    def filename(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int | None: ...  # noqa: D102
    @property
    def sha256(self) -> str | None: ...  # noqa: D102
    @property
    def vouched_by(self) -> str: ...  # noqa: D102
    @property
    def location(self) -> str | None: ...  # noqa: D102


class OpenedFile(Protocol):
    """An upstream file; fits the layer engine's ArchiveInput."""

    @property
    def name(self) -> str:
        """The file's name."""

    def stream(self) -> AbstractContextManager[Readable]:
        """The bytes from the start; at the end they have been verified, or it raises."""

    def path(self) -> Path:
        """The whole verified file; blocks until it is there."""


@contextmanager
def open_artifact(artifact: FileFacts, context: SourceContext) -> Iterator[OpenedFile]:
    """The file, from the settings' folder, the cache, or while it downloads; what nobody waits for stops at the end.

    Raises FetchError when it is not in the cache and the network is forbidden.
    """
    if not isinstance(artifact, Artifact):
        artifact = _as_artifact(artifact)
    opened = _find_here(artifact, context)
    if opened is not None:
        yield opened
        return
    with _ahead.pop(_key(artifact, context), None) or fetch(artifact, context) as download:
        yield download


def fetch_ahead(facts: FileFacts, context: SourceContext) -> None:
    """Start to download what `open_artifact` will soon be asked for; does nothing where no network is needed for it.

    Nor where some are on their way already. Whether it goes well is told by `open_artifact`.
    """
    artifact = _as_artifact(facts)
    key = _key(artifact, context)
    if context.offline or _find_here(artifact, context) is not None:
        return
    with _ahead_lock:
        if key not in _ahead and len(_ahead) < _WORKERS:
            _ahead[key] = fetch(artifact, context)


def stop_ahead(cache: Cache) -> None:
    """Stop what was fetched ahead into that cache and never asked for."""
    for key in [key for key in list(_ahead) if key[0] == cache.root]:
        download = _ahead.pop(key, None)
        if download is not None:
            download.close()


def _as_artifact(facts: FileFacts) -> Artifact:
    return Artifact(
        facts.url, facts.filename, facts.size, facts.sha256, Vouched(facts.vouched_by), location=facts.location
    )


def _find_here(artifact: Artifact, context: SourceContext) -> OpenedFile | None:
    """The file, if no network is needed for it."""
    if artifact.url.startswith("path:"):
        return HeldFile(resolve_path(artifact.url.removeprefix("path:"), context.folder), artifact)
    if artifact.sha256 is None:
        return None
    found = context.cache.find_blob(Digest("sha256", artifact.sha256), artifact.size)
    return HeldFile(found, artifact, context.cache) if found is not None else None


@final
class HeldFile:
    """A file that lies here; it is verified each time it is read, since disks and people change files."""

    def __init__(self, file: Path, artifact: Artifact, cache: Cache | None = None) -> None:
        self._file = file
        self._artifact = artifact
        self._cache = cache
        self.name = artifact.filename

    @contextmanager
    def stream(self) -> Iterator[Readable]:
        """The bytes from the start; raises DigestMismatch or SizeMismatch at their end."""
        with self._forgetting(), disk_errors("read", self._file), self._file.open("rb", buffering=0) as file:
            if self._artifact.sha256 is None:
                yield file
                return
            digest = Digest("sha256", self._artifact.sha256)
            yield VerifyingReader(file, digest=digest, size=self._artifact.size, place=str(self._file))

    def path(self) -> Path:
        """The file itself, after its bytes were verified."""
        with self._forgetting():
            size, sha256 = hash_file(self._file)
            check(self._artifact, str(self._file), size=size, sha256=sha256)
        return self._file

    @contextmanager
    def _forgetting(self) -> Iterator[None]:
        """A damaged file leaves the cache, so that the next run fetches it again."""
        try:
            yield
        except IntegrityError as error:
            if self._cache is not None and self._artifact.sha256 is not None:
                self._cache.drop_blob(Digest("sha256", self._artifact.sha256))
                error.hint = "the cached file was damaged and has been removed; run the command again"
            raise


@frozen
class Fetched:
    """A verified file in the cache."""

    path: Path
    size: int
    """In bytes."""
    sha256: str


_running: Final[weakref.WeakSet[Download]] = weakref.WeakSet()
_ahead: Final[dict[tuple[Path, str], Download]] = {}
"""By cache and file, until somebody asks for them."""
_ahead_lock: Final = threading.Lock()


@final
class Download:
    """One file on its way into the cache, by a thread of its own; a context manager that stops it."""

    def __init__(self, artifact: Artifact, context: SourceContext, *, clock: Clock | None = None) -> None:
        self.name = artifact.filename
        self._artifact = artifact
        self._context = context
        self._growing = GrowingFile()
        self._cancelled = threading.Event()
        self._transfer = FileTransfer(artifact, context, self._growing, cancelled=self._cancelled, clock=clock)
        # A daemon: an interrupted run must not wait for a server that says nothing.
        self._thread = threading.Thread(target=self._run, name=f"kobuild-fetch-{self.name}", daemon=True)
        _running.add(self)
        self._thread.start()

    def stream(self) -> AbstractContextManager[Readable]:
        """The bytes from the start as they arrive; at the end they have been verified, or it raises."""
        return self._growing.open()

    def path(self) -> Path:
        """The whole verified file in the cache; blocks until it is there."""
        return self._growing.wait()

    def wait(self) -> Fetched:
        """Block until the file is in the cache; raises what went wrong."""
        path = self._growing.wait()
        return Fetched(path, path.stat().st_size, path.name)

    def close(self) -> None:
        """Stop the download if it still runs; what it has got stays to go on from."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    def stop(self) -> None:
        """Stop without waiting; whoever reads the file gets CancelledError."""
        if not self._growing.is_over():
            self._cancelled.set()
            self._growing.fail(CancelledError())

    def __enter__(self) -> Download:  # Self is not in typing before Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._fetch()
        except BaseException as error:  # noqa: BLE001  # raised by whoever reads the file
            if isinstance(error, FetchError) and self.name not in error.message:
                # A redirect's address need not tell which file it was.
                error.message = f"download {self.name}: {error.message}"
            self._growing.fail(error)

    def _fetch(self) -> None:
        known = self._find_unchanged()
        if known is not None:
            self._growing.settle(lambda: known)
            return
        has_sha512 = self._artifact.integrity is not None
        with claim(self._context.cache, _partial_name(self._artifact), sha512=has_sha512) as partial:
            try:
                self._fill(partial)
            except KobuildError as error:
                if not isinstance(error, FetchError):
                    partial.discard()
                raise
            digest = Digest("sha256", partial.sha256)
            self._growing.settle(lambda: self._context.cache.adopt(partial.path, digest))
            partial.forget()
            self._remember(partial)

    def _fill(self, partial: Partial) -> None:
        location = locate(self._artifact, self._context)
        url = rebase(location.url, self._context)
        if url.startswith("file:"):
            self._transfer.copy(_file_path(url), partial)
            return
        try:
            self._transfer.receive(url, location.headers, partial)
        except FetchError as error:
            if error.status not in _REFUSED or not self._fill_otherwise(location, partial):
                raise

    def _fill_otherwise(self, location: Location, partial: Partial) -> bool:
        """Fetch what the plain address refuses, with credentials that are for it; False where there is no other way."""
        if location.download is not None:
            with tempfile.TemporaryDirectory(prefix="kobuild-") as folder:
                self._transfer.copy(location.download(Path(folder)), partial)
            return True
        other = location.elsewhere() if location.elsewhere is not None else None
        if other is not None:
            self._transfer.receive(other.url, other.headers, partial)
        return other is not None

    def _remember(self, partial: Partial) -> None:
        """Note what an address had for which nobody vouches, so that the next look need not fetch it again."""
        if self._artifact.sha256 is None and partial.validator is not None:
            record = {"etag": partial.validator, "digest": f"sha256:{partial.sha256}", "size": partial.offset}
            self._context.cache.write_record(RECORD_KIND, _partial_name(self._artifact), record)

    def _find_unchanged(self) -> Path | None:
        """What was fetched before from an address that nobody vouches for, if the server says that it is the same."""
        record = self._context.cache.read_record(RECORD_KIND, _partial_name(self._artifact))
        if self._artifact.sha256 is not None or record is None or not self._artifact.url.startswith("http"):
            return None
        try:
            found = self._context.cache.find_blob(Digest.parse(record["digest"]), record["size"])
            etag = record["etag"]
        except (KeyError, KobuildError):
            return None
        if found is None or not isinstance(etag, str):
            return None
        url = rebase(self._artifact.url, self._context)
        request = Request("HEAD", url, {"If-None-Match": etag}, netrc=True)
        try:
            with self._context.transport.send(request, expect=(200, 304), retry=False) as response:
                return found if response.status == 304 or response.headers.get("ETag") == etag else None
        except FetchError:  # such as a signed address that is for GET alone
            return None


def _file_path(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _partial_name(artifact: Artifact) -> str:
    return hashlib.sha256(f"{artifact.url}\0{artifact.sha256 or ''}".encode()).hexdigest()[:40]


def _key(artifact: Artifact, context: SourceContext) -> tuple[Path, str]:
    return context.cache.root, _partial_name(artifact)


def fetch(artifact: Artifact, context: SourceContext, *, clock: Clock | None = None) -> Download:
    """Start to download; raises FetchError at once, naming the file, when the network is forbidden."""
    if context.offline and not (artifact.location or artifact.url).startswith("file:"):
        raise FetchError(
            f"{artifact.filename} is not in the cache, and --offline forbids to fetch {redact(artifact.url)}",
            hint=OFFLINE_HINT,
        )
    return Download(artifact, context, clock=clock)


def fetch_all(artifacts: Sequence[Artifact], context: SourceContext) -> list[Fetched]:
    """Have all the files in the cache, several at a time; raises the first error, and stops the others."""
    group = _Group(context)
    with ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="kobuild-fetch") as pool:
        try:
            jobs = [pool.submit(group.have, artifact) for artifact in artifacts]
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in done:
                job.result()
            return [job.result() for job in jobs]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            group.stop()
            raise


@final
class _Group:
    """Downloads that are stopped together."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._started: list[Download] = []
        self._stopped = False

    def have(self, artifact: Artifact) -> Fetched:
        """The file in the cache, or beside the settings."""
        here = _find_here(artifact, self._context)
        if here is not None:
            path = here.path()
            return Fetched(path, *hash_file(path))
        with self._lock:
            if self._stopped:
                raise CancelledError
            download = fetch(artifact, self._context)
            self._started.append(download)
        with download:
            return download.wait()

    def stop(self) -> None:
        """Stop those that run, and let no other one start."""
        with self._lock:
            self._stopped = True
            for download in self._started:
                download.stop()


def stop_all() -> None:
    """Stop every download of this process that still runs: the person has interrupted, or another one has failed."""
    _ahead.clear()
    for download in list(_running):
        download.stop()


def find_size(artifact: Artifact, context: SourceContext) -> int | None:
    """The size in bytes that the server announces for a file whose sum is known; None where it does not say."""
    if artifact.sha256 is not None:
        found = context.cache.find_blob(Digest("sha256", artifact.sha256))
        if found is not None:
            return found.stat().st_size
    url = rebase(locate(artifact, context).url, context)
    if url.startswith("file:"):
        with disk_errors("read", _file_path(url)):
            return _file_path(url).stat().st_size
    context.require_network(url)
    try:
        with context.transport.send(Request("HEAD", url, netrc=True), retry=False) as response:
            length = response.headers.get("Content-Length", "")
    except FetchError:
        return None
    return int(length) if length.isdigit() else None
