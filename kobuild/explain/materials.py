"""What an image was made of, by its lock: the facts that a bill of materials states, in no particular form."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Final

from kobuild.errors import LockError
from kobuild.explain.imagetree import ImageNode, ImageTree
from kobuild.explain.origins import BaseName
from kobuild.explain.purls import artifact_purl, image_purl
from kobuild.frozen import frozen
from kobuild.lock import Lock, LockedArtifact, LockedTool
from kobuild.oci.digest import Digest
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.sources.licenses import read_expression
from kobuild.transport import redact

EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""When a bill was made of which nothing says when: never the clock's time, which no second run would give again."""
_VOUCHED: Final = {
    "publisher": "sha256 by the publisher's own listing",
    "checksums-file": "sha256 by a checksums file beside the release",
    "user": "sha256 by the settings",
    "first-download": "sha256 by nobody: it is what the first download had",
    "local": "a local file",
}


@frozen
class Material:
    """One thing that went in."""

    key: str
    """A name of its own within the bill, of letters, digits, `.` and `-`."""
    name: str
    version: str
    purl: str
    """https://github.com/package-url/purl-spec"""
    download: str = ""
    """Address without credentials; empty where the purl says all, or where the file was a local one."""
    filename: str = ""
    sha256: str = ""
    """Hex, of the file; empty for a directory, which has no bytes of its own."""
    platforms: tuple[Platform, ...] = ()
    note: str = ""
    """Who vouches for the sum."""
    cpe: str = ""
    license: str = ""
    """An SPDX expression, as the publisher or the settings say it; empty where neither does."""


@frozen
class Bill:
    """All materials of an image, or of the image of one platform."""

    name: str
    """The image's repository, or the settings' folder."""
    digest: str
    """`sha256:…` of the image or index that the bill is about; empty for a lock alone."""
    purl: str
    created: datetime
    base: Material | None
    tools: tuple[Material, ...]


def make_bill(
    lock: Lock,
    *,
    name: str,
    reference: Reference | None = None,
    digest: Digest | None = None,
    platforms: Collection[Platform] = (),
    created: datetime = EPOCH,
    licenses: Mapping[str, str] | None = None,
) -> Bill:
    """The bill of a lock, for `platforms` or for all that it has.

    `licenses` are the settings' own words by tool, which go before the lock's. `reference` is where the image is,
    `digest` what it is; both are left out where there is no image yet.
    """
    base = lock.base
    where = tuple(item for item in _platforms(lock) if not platforms or item in platforms)
    said = licenses or {}
    known = [
        replace(tool, license=said.get(name) or read_expression(tool.license))
        for name, tool in sorted(lock.tools.items())
    ]
    tools = [material for tool in known for material in _tool_materials(tool, where)]
    return Bill(
        name=name,
        digest=str(digest) if digest is not None else "",
        purl=image_purl(str(reference), str(digest)) if reference is not None and digest is not None else "",
        created=created,
        base=_base_material(BaseName(base.name, base.digest), where, base.platforms) if base is not None else None,
        tools=tuple(tools),
    )


def _platforms(lock: Lock) -> list[Platform]:
    found = {platform for tool in lock.tools.values() for platform in tool.artifacts}
    return sorted(found | set(lock.base.platforms if lock.base is not None else ()))


def _tool_materials(tool: LockedTool, where: Collection[Platform]) -> Iterator[Material]:
    """One material a file: platforms that share one are named together."""
    groups: dict[LockedArtifact, list[Platform]] = {}
    for platform, artifact in sorted(tool.artifacts.items()):
        if platform in where:
            groups.setdefault(artifact, []).append(platform)
    for artifact, platforms in groups.items():
        suffix = "-".join(str(platform).replace("/", "-") for platform in platforms) if len(groups) > 1 else ""
        yield _tool_material(tool, artifact, tuple(platforms), _key("tool", tool.name, suffix))


def _tool_material(tool: LockedTool, artifact: LockedArtifact, platforms: tuple[Platform, ...], key: str) -> Material:
    is_directory = artifact.filename.endswith("/")
    is_go = tool.source == "go"
    return Material(
        key=key,
        name=tool.name,
        version=tool.version,
        purl=artifact_purl(tool, artifact),
        download=public_address(artifact.url),
        filename=artifact.filename,
        sha256="" if is_directory else artifact.sha256,
        platforms=platforms,
        note=_note(artifact),
        cpe=f"cpe:2.3:a:golang:go:{tool.version}:*:*:*:*:*:*:*" if is_go else "",
        license=tool.license,
    )


def _note(artifact: LockedArtifact) -> str:
    """Who says which sha256 it has, and what was proven of that."""
    proven = f"; proven by {', '.join(artifact.proofs)}" if artifact.proofs else ""
    return _VOUCHED[artifact.vouched_by] + proven


def _base_material(base: BaseName, where: tuple[Platform, ...], manifests: Mapping[Platform, str]) -> Material:
    """The base by the digest of its index; by its one manifest's where the bill is about one platform."""
    digest = manifests.get(where[0], base.digest) if len(where) == 1 else base.digest
    return Material(_key("base"), base.name, digest, image_purl(base.name, digest), platforms=where)


def _key(*parts: str) -> str:
    text = "-".join(part for part in parts if part)
    # What is not allowed is spelled out, so that two names never become one.
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in ".-") else f".{ord(letter):x}." for letter in text
    )


def public_address(url: str) -> str:
    """An address that may be shown to all: where it holds what could be a secret, without user and query."""
    if not url.startswith(("https://", "http://")):
        return ""
    shown = redact(url)
    return shown if "…" not in shown else shown.partition("?")[0]


def choose_created(epoch: int | None, image: ImageNode | None) -> datetime:
    """SOURCE_DATE_EPOCH, else when the image says it was made, else 1970."""
    if epoch is not None:
        return datetime.fromtimestamp(epoch, timezone.utc)
    created = image.config.created if image is not None else None
    return created.replace(microsecond=0) if created is not None else EPOCH


def require_fit(lock: Lock, tree: ImageTree) -> None:
    """Raise LockError unless the image has the lock's tools in the lock's versions: a bill must not be another's."""
    for image in tree.images:
        locked = {name: tool.version for name, tool in lock.tools.items() if image.platform in tool.artifacts}
        found = {layer.origin.tool: layer.origin.version for layer in image.layers if layer.origin.tool}
        for name in sorted({*locked, *found}):
            if locked.get(name) != found.get(name):
                raise LockError(
                    f"{tree.name} for {image.platform} is not what the lock says: tool {name} is "
                    f"{found.get(name, 'not there')}, and {locked.get(name, 'nothing')} is locked",
                    hint="build the image from this lock, or use the lock that it was built from",
                )
