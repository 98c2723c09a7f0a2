"""Local places for images, spelled as containers/image spells them (containers-transports(5)).

oci:DIR[:NAME][@DIGEST]  oci-archive:FILE[:NAME][@DIGEST]  docker-archive:FILE[:REFERENCE]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kobuild.errors import UsageError
from kobuild.frozen import frozen
from kobuild.image.image import ImageSet
from kobuild.image.store import ImageStore
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Reference
from kobuild.progress import Reporter
from kobuild.store.layout import Layout

if TYPE_CHECKING:
    from kobuild.store.layoutwriter import WriteResult

OCI: Final = "oci"
OCI_ARCHIVE: Final = "oci-archive"
DOCKER_ARCHIVE: Final = "docker-archive"
TRANSPORTS: Final = (OCI, OCI_ARCHIVE, DOCKER_ARCHIVE)
_FOREIGN: Final = ("docker-daemon", "containers-storage", "dir", "sif", "ostree", "tarball")
_NAMED: Final = re.compile(
    r"(?P<path>.+?)(?::(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*))?(?:@(?P<digest>[a-z0-9]+:[a-f0-9]+))?"
)


@frozen
class Location:
    """A place on this machine that holds images, or will."""

    transport: str
    path: Path
    name: str | None = None
    """Which of its images: a layout's ref.name, or a docker-archive's reference; None is the only one."""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, folder: Path | None = None) -> Location | None:
        """Parse `text`, relative paths being relative to `folder`; None where it names no transport of ours.

        Raises UsageError for a transport of others, and for one of ours without a path.
        """
        transport, colon, rest = text.partition(":")
        if colon and transport in _FOREIGN:
            hint = f"use one of {', '.join(f'{name}:' for name in TRANSPORTS)} or a registry's reference"
            raise UsageError(f"{text}: images cannot be read from or written to {transport}:", hint=hint)
        if not colon or transport not in TRANSPORTS:
            return None
        found = _NAMED.fullmatch(rest) if transport != DOCKER_ARCHIVE else re.fullmatch(_DOCKER_ARCHIVE, rest)
        if found is None:
            raise UsageError(f"{text}: expected a path after {transport}:")
        parts = found.groupdict()
        digest = Digest.parse(parts["digest"]) if parts.get("digest") else None
        path = Path(parts["path"])
        return cls(transport, path if folder is None else folder / path, parts["name"], digest)

    def open(self) -> ImageStore:
        """The place as an ImageStore; nothing is read yet."""
        if self.transport == DOCKER_ARCHIVE:
            # Here, as below: every run parses places, and few read or write an archive.
            from kobuild.store.dockerarchive import DockerArchive  # noqa: PLC0415

            return DockerArchive(self.path, self.name)
        make = Layout.folder if self.transport == OCI else Layout.archive
        return make(self.path, tag=self.name, digest=self.digest)

    def write(
        self,
        images: ImageSet,
        *,
        names: Sequence[str] = (),
        references: Sequence[Reference] = (),
        reporter: Reporter | None = None,
    ) -> WriteResult:
        """Write `images` here, replacing what kobuild or its like put here before.

        `names` are a layout's names for the image; the location's own name counts first, and `latest` where there is
        none. `references` are what a docker-archive's image is called once it is loaded.
        """
        if self.transport == DOCKER_ARCHIVE:
            from kobuild.store.dockerarchive import write_docker_archive  # noqa: PLC0415

            own = (Reference.parse(self.name),) if self.name else ()
            return write_docker_archive(self.path, images, references=own or references, reporter=reporter)
        from kobuild.store.layoutwriter import DEFAULT_NAME, write_layout  # noqa: PLC0415
        from kobuild.store.ociarchive import write_oci_archive  # noqa: PLC0415

        chosen = (self.name,) if self.name else tuple(names) or (DEFAULT_NAME,)
        write = write_layout if self.transport == OCI else write_oci_archive
        return write(self.path, images, names=chosen, reporter=reporter)

    def __str__(self) -> str:
        name = f":{self.name}" if self.name else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.transport}:{self.path}{name}{digest}"


_DOCKER_ARCHIVE: Final = re.compile(r"(?P<path>[^:]+)(?::(?P<name>.+))?")
