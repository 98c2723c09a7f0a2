"""Where a repository is read from: mirrors first, and for sites without the internet nowhere else.

A rule names a registry, or a path in one, and what stands in for it. The longest rule that fits counts, as in
containers-registries.conf(5). Pushes go where they are sent, never to a mirror.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kobuild.errors import IntegrityError, MalformedDocument, RegistryError
from kobuild.frozen import frozen
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.index import Index
from kobuild.oci.manifest import Manifest
from kobuild.oci.reference import Reference, Repository
from kobuild.registry.connection import Connection
from kobuild.registry.pull import RepositoryReader
from kobuild.transport import Response

_logger = logging.getLogger(__name__)


@frozen
class MirrorRule:
    """One rule: repositories under `prefix` are looked for under each of `places`, in order."""

    prefix: str
    """`HOST[/PATH]`, with Docker Hub as `docker.io`."""
    places: tuple[str, ...]
    """`HOST[/PATH]`, each in place of the prefix."""
    only: bool = False
    """Whether the original is never asked."""

    def matches(self, repository: Repository) -> bool:
        """Whether the repository is under the prefix."""
        return f"{repository.name}/".startswith(f"{self.prefix.rstrip('/')}/")

    def apply(self, repository: Repository) -> tuple[Repository, ...]:
        """The repository under each place; raises InvalidReference for a place that makes no name."""
        rest = repository.name[len(self.prefix.rstrip("/")) :]
        return tuple(Reference.parse(f"{place.rstrip('/')}{rest}").repository for place in self.places)


@frozen
class Mirrors:
    """All rules."""

    rules: tuple[MirrorRule, ...] = ()

    @classmethod
    def of(cls, places: Mapping[str, Sequence[str]], *, only: bool = False) -> Mirrors:
        """The rules of a plain mapping from prefix to places."""
        return cls(tuple(MirrorRule(prefix, tuple(found), only) for prefix, found in places.items()))

    def places(self, repository: Repository) -> tuple[Repository, ...]:
        """Where to read from, in order; the original is the last, unless its rule forbids that."""
        fitting = [rule for rule in self.rules if rule.matches(repository)]
        if not fitting:
            return (repository,)
        rule = max(fitting, key=lambda found: len(found.prefix))
        return rule.apply(repository) if rule.only and rule.places else (*rule.apply(repository), repository)


class MirroredReader(RepositoryReader):
    """Reads from the first place that has it; what a mirror gives is verified like anything else."""

    def __init__(self, connection: Connection, places: Sequence[Repository]) -> None:
        """The last place is the one that errors speak of."""
        super().__init__(connection, places[-1])
        self._mirrors = tuple(RepositoryReader(connection, place) for place in places[:-1])

    def manifest(self, identifier: str, digest: Digest | None = None) -> Manifest | Index:
        """As RepositoryReader's."""
        found: Manifest | Index | None = self._first(lambda mirror: mirror.manifest(identifier, digest))
        return super().manifest(identifier, digest) if found is None else found

    def head_manifest(self, identifier: str) -> Descriptor | None:
        """As RepositoryReader's."""
        found: Descriptor | None = self._first(lambda mirror: mirror.head_manifest(identifier))
        return super().head_manifest(identifier) if found is None else found

    def has_blob(self, descriptor: Descriptor) -> bool:
        """As RepositoryReader's."""
        return bool(self._first(lambda mirror: mirror.has_blob(descriptor) or None)) or super().has_blob(descriptor)

    def read_range(self, descriptor: Descriptor, start: int, size: int) -> bytes:
        """As RepositoryReader's."""
        found: bytes | None = self._first(lambda mirror: mirror.read_range(descriptor, start, size))
        return super().read_range(descriptor, start, size) if found is None else found

    def request_blob(self, descriptor: Descriptor, offset: int) -> Response:
        """As RepositoryReader's."""
        found: Response | None = self._first(lambda mirror: mirror.request_blob(descriptor, offset))
        return super().request_blob(descriptor, offset) if found is None else found

    def _first(self, ask: Callable[[RepositoryReader], Any]) -> Any:
        """The first mirror's answer; None where no mirror has one, whatever the reason."""
        for mirror in self._mirrors:
            found = _try(ask, mirror)
            if found is not None:
                return found
        return None


def _try(ask: Callable[[RepositoryReader], Any], mirror: RepositoryReader) -> Any:
    try:
        return ask(mirror)
    except (RegistryError, IntegrityError, MalformedDocument) as error:
        _logger.info("mirror: %s", error)
        return None
