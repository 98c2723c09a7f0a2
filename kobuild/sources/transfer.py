"""Bytes from an address into a partial file: streamed, hashed, bounded, resumed by Range after a break."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from kobuild.errors import DigestMismatch, FetchError, SizeMismatch
from kobuild.progress import Transfer as Progress
from kobuild.sources.growing import GrowingFile
from kobuild.sources.model import Artifact, SourceContext, Vouched
from kobuild.sources.partial import Partial
from kobuild.streams import CHUNK_BYTES, Readable, disk_errors
from kobuild.transport import Backoff, Clock, Request, Response, SystemClock, redact

MAX_DOWNLOAD_BYTES: Final = 16 * 1024**3
"""The bound where the publisher does not say a size."""
_MAX_BREAKS: Final = 5
"""How often in a row a body may break without a byte of progress."""
_MAX_RESUMES: Final = 100
_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class CancelledError(Exception):
    """Nobody waits for the file any more; never reaches a person."""


@final
class FileTransfer:
    """One artifact on its way."""

    def __init__(
        self,
        artifact: Artifact,
        context: SourceContext,
        growing: GrowingFile,
        *,
        cancelled: threading.Event,
        clock: Clock | None = None,
    ) -> None:
        self._artifact = artifact
        self._context = context
        self._growing = growing
        self._cancelled = cancelled
        self._clock = clock or SystemClock()
        self._exposed = False

    def receive(self, url: str, headers: Mapping[str, str], partial: Partial) -> None:
        """Fill `partial` from `url` and verify it; raises FetchError, SizeMismatch or DigestMismatch."""
        progress = self._context.reporter.transfer(self._artifact.filename, self._artifact.size)
        try:
            self._receive(url, headers, partial, progress)
            self._verify(partial, redact(url))
        finally:
            progress.done()

    def copy(self, source: Path, partial: Partial) -> None:
        """Fill `partial` from a file of this machine, and verify it."""
        progress = self._context.reporter.transfer(self._artifact.filename, self._artifact.size)
        partial.restart(None)
        try:
            with disk_errors("read", source), source.open("rb") as file:
                self._take_all(file, partial, progress, str(source))
            self._verify(partial, str(source))
        finally:
            progress.done()

    def _receive(self, url: str, headers: Mapping[str, str], partial: Partial, progress: Progress) -> None:
        breaks = 0
        for _ in range(_MAX_RESUMES):
            before = partial.offset
            request = Request("GET", url, {**headers, **self._range_headers(partial)}, netrc=True)
            with self._context.transport.send(request, expect=(200, 206, 416)) as response:
                error = self._try(response, partial, progress)
            if error is None:
                return
            breaks = 1 if partial.offset > before else breaks + 1
            if not error.retryable or breaks >= _MAX_BREAKS:
                raise error
            self._context.reporter.notice(f"{error}; going on from byte {partial.offset}")
            self._clock.sleep(Backoff().delay(breaks))
        raise FetchError(f"GET {redact(url)}: broke off {_MAX_RESUMES} times")

    def _range_headers(self, partial: Partial) -> dict[str, str]:
        """Ask for the rest alone, where a validator or a sum shows that it belongs to what is there."""
        if not partial.offset:
            return {}
        headers = {"Range": f"bytes={partial.offset}-"}
        if partial.validator is not None:
            return {**headers, "If-Range": partial.validator}
        return headers if self._artifact.sha256 or self._artifact.integrity else {}

    def _try(self, response: Response, partial: Partial, progress: Progress) -> FetchError | None:
        """Read one answer to its end, or to where it breaks, which comes back as a value."""
        try:
            if self._position(response, partial, progress):
                self._take_all(response, partial, progress, response.place)
        except FetchError as error:
            return error
        return None

    def _position(self, response: Response, partial: Partial, progress: Progress) -> bool:
        """Bring the partial file to where the answer's body begins; False when there is nothing more to read."""
        begin, total = _content_range(response)
        if response.status == 416:
            if total == partial.offset:
                return False
            raise self._start_over(response, partial)
        if response.status == 206 and begin != partial.offset:
            raise self._start_over(response, partial)
        if response.status == 200:
            self._check_announced(total, response.place)
            self._begin_again(response, partial)
        if not self._exposed:
            progress.advance(partial.offset)
        self._exposed = True
        self._growing.grow(partial.path, partial.offset)
        return True

    def _begin_again(self, response: Response, partial: Partial) -> None:
        """The whole body comes: begin anew, or, when readers have had bytes, skip those if they are the same."""
        if not self._exposed:
            partial.restart(_strong_etag(response.headers))
            return
        if not _skip_same(response, partial):
            partial.discard()
            raise FetchError(f"{response.place}: the file changed while it was being fetched", hint="run it again")

    def _start_over(self, response: Response, partial: Partial) -> FetchError:
        """The error for an answer that does not go on where the partial file ends."""
        if self._exposed:
            partial.discard()
            return FetchError(f"{response.place}: the file changed while it was being fetched", hint="run it again")
        partial.restart(None)
        return FetchError(f"{response.place}: cannot go on from where an earlier run stopped", retryable=True)

    def _take_all(self, source: Readable, partial: Partial, progress: Progress, place: str) -> None:
        limit = self._artifact.size if self._artifact.size is not None else MAX_DOWNLOAD_BYTES
        while data := source.read(CHUNK_BYTES // 4):
            if self._cancelled.is_set():
                raise CancelledError
            if partial.offset + len(data) > limit:
                partial.discard()
                raise SizeMismatch(place, expected=limit, actual=partial.offset + len(data))
            partial.write(data)
            progress.advance(len(data))
            self._growing.grow(partial.path, partial.offset)

    def _check_announced(self, total: int | None, place: str) -> None:
        expected = self._artifact.size
        if expected is not None and total is not None and total != expected:
            raise SizeMismatch(place, expected=expected, actual=total, hint=_mismatch_hint(self._artifact))

    def _verify(self, partial: Partial, place: str) -> None:
        """Raise unless the bytes are the promised ones; what is not is thrown away."""
        try:
            check(self._artifact, place, size=partial.offset, sha256=partial.sha256, sha512=partial.sha512_base64)
        except BaseException:
            partial.discard()
            raise


def check(artifact: Artifact, place: str, *, size: int, sha256: str, sha512: str | None = None) -> None:
    """Raise SizeMismatch or DigestMismatch, naming who vouched, unless the sums are the artifact's.

    `size` is in bytes, `sha256` hex, `sha512` base64.
    """
    hint = _mismatch_hint(artifact)
    if artifact.size is not None and size != artifact.size:
        raise SizeMismatch(place, expected=artifact.size, actual=size, hint=hint)
    if artifact.sha256 is not None and sha256 != artifact.sha256:
        expected = f"sha256:{artifact.sha256} ({_VOUCHERS[artifact.vouched_by]})"
        raise DigestMismatch(place, expected=expected, actual=f"sha256:{sha256}", hint=hint)
    if artifact.integrity is not None and sha512 is not None and f"sha512-{sha512}" != artifact.integrity:
        expected = f"{artifact.integrity} ({_VOUCHERS[artifact.vouched_by]})"
        raise DigestMismatch(place, expected=expected, actual=f"sha512-{sha512}", hint=hint)


_VOUCHERS: Final = {
    Vouched.PUBLISHER: "by the publisher's listing",
    Vouched.CHECKSUMS_FILE: "by the release's checksums file",
    Vouched.USER: "by the settings",
    Vouched.FIRST_DOWNLOAD: "as first downloaded",
    Vouched.LOCAL: "as it was when the lock was made",
}


def _mismatch_hint(artifact: Artifact) -> str:
    if artifact.vouched_by is Vouched.LOCAL:
        return "the file has changed since; run `kobuild resolve` to take it as it is now"
    if artifact.vouched_by is Vouched.USER:
        return "correct the sum in the settings, or find out who changed the file"
    return "find out why the file changed before you take it with `kobuild resolve --upgrade`; it was not used"


def _content_range(response: Response) -> tuple[int | None, int | None]:
    """Where the body begins and how long the whole file is (RFC 9110, 14.4); None for what is not said."""
    if response.status == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() and "Content-Encoding" not in response.headers else None
    match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    return (int(match[1]) if match[1] else None), (int(match[2]) if match[2] != "*" else None)


def _strong_etag(headers: Mapping[str, str]) -> str | None:
    """The ETag, if bytes can be resumed by it (RFC 9110, 13.1.5: a weak one cannot)."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else None


def _skip_same(source: Readable, partial: Partial) -> bool:
    """Read past the bytes that the partial file has; whether they were the same."""
    sums = hashlib.sha256()
    left = partial.offset
    while left and (data := source.read(min(CHUNK_BYTES // 4, left))):
        sums.update(data)
        left -= len(data)
    return not left and sums.hexdigest() == partial.sha256
