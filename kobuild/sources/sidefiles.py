"""Small files that lie beside a release's file: checksums, signatures, certificates."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

from kobuild.errors import FetchError
from kobuild.frozen import frozen
from kobuild.sources.bases import rebase
from kobuild.sources.catalog import locate
from kobuild.sources.checksums import checksums_files
from kobuild.sources.model import Artifact, SourceContext
from kobuild.transport import Request

_REFUSED: Final = frozenset({401, 403, 404, 407})
_MISSING: Final = frozenset({403, 404, 410})
"""What servers answer where there is no such file; object stores say 403 to whoever may not list them."""


@frozen
class SideFile:
    """One file beside another one."""

    name: str
    url: str


class SideFiles:
    """The files beside one artifact: those that are listed, or those that answer; each is fetched once."""

    def __init__(self, artifact: Artifact, context: SourceContext, held: dict[str, bytes | None]) -> None:
        """`held` is what was fetched already, by address; the artifacts of one release share it."""
        self._artifact = artifact
        self._context = context
        self._held = held

    def own(self) -> SideFile:
        """The artifact itself."""
        return SideFile(self._artifact.filename, self._artifact.url)

    def checksums(self) -> list[SideFile]:
        """The files that may list the artifact's sum, the likeliest first."""
        if self._artifact.checksums:
            name = unquote(urlsplit(self._artifact.checksums).path).rpartition("/")[2]
            return [SideFile(name, self._artifact.checksums)]
        listed = self._artifact.beside or {}
        return [SideFile(name, listed[name]) for name in checksums_files(self._artifact.filename, list(listed))]

    def beside(self, file: SideFile, suffix: str) -> SideFile | None:
        """The file of the same name and `suffix`; None where it is known that there is none."""
        name = file.name + suffix
        if self._artifact.beside is not None:
            return SideFile(name, self._artifact.beside[name]) if name in self._artifact.beside else None
        parts = urlsplit(file.url)
        return SideFile(name, parts._replace(path=parts.path + suffix).geturl())

    def read(self, file: SideFile, limit_bytes: int) -> bytes | None:
        """The file's bytes; None where nothing lists it and it is not there. Raises FetchError or SizeMismatch."""
        if file.url not in self._held:
            self._held[file.url] = self._fetch(file, limit_bytes)
        return self._held[file.url]

    def _fetch(self, file: SideFile, limit_bytes: int) -> bytes | None:
        try:
            return fetch_small(file, limit_bytes, self._context)
        except FetchError as error:
            if self._artifact.beside is None and error.status in _MISSING:
                return None
            raise


def fetch_small(file: SideFile, limit_bytes: int, context: SourceContext) -> bytes:
    """A small file, from wherever it is to be had; raises FetchError, or SizeMismatch beyond `limit_bytes`."""
    context.require_network(file.url)
    location = locate(Artifact(file.url, file.name), context)
    request = Request("GET", rebase(location.url, context), location.headers, netrc=True)
    try:
        with context.transport.send(request) as response:
            return response.read_all(limit_bytes)
    except FetchError as error:
        other = location.elsewhere() if error.status in _REFUSED and location.elsewhere is not None else None
        if other is None:
            raise
    with context.transport.send(Request("GET", other.url, other.headers)) as response:
        return response.read_all(limit_bytes)
