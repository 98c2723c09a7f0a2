"""Package URLs: https://github.com/package-url/purl-spec, and what vulnerability scanners look for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kobuild.errors import KobuildError, ProgramError
from kobuild.lock import LockedArtifact, LockedTool
from kobuild.oci.reference import Reference
from kobuild.transport import redact

if TYPE_CHECKING:
    from packageurl import PackageURL


def missing_library(name: str, error: ImportError) -> ProgramError:
    """The error for a library of the extra `sbom` that is not installed."""
    return ProgramError(
        f"write a bill of materials: the library {name} is not installed ({error})",
        hint="install kobuild with its extra: python3 -m pip install 'kobuild[sbom]'",
    )


def artifact_purl(tool: LockedTool, artifact: LockedArtifact) -> str:
    """The package that a tool's file is, in the form that scanners know it by."""
    make = _maker()
    kind, _, argument = tool.source.partition(":")
    if artifact.url.startswith("pkg:"):
        return _from_lock(artifact.url)
    if kind == "go":
        # Scanners know Go's toolchain and library by this one name (https://pkg.go.dev/std).
        return str(make(type="golang", name="stdlib", version=tool.version))
    if kind == "github":
        owner, _, repository = argument.partition("/")
        return str(make(type="github", namespace=owner, name=repository, version=tool.tag))
    qualifiers = {}
    if not artifact.filename.endswith("/"):
        qualifiers["checksum"] = f"sha256:{artifact.sha256}"
    if artifact.url.startswith("https://") and redact(artifact.url) == artifact.url:
        qualifiers["download_url"] = artifact.url
    return str(make(type="generic", name=tool.name, version=tool.version or None, qualifiers=qualifiers))


def image_purl(name: str, digest: str) -> str:
    """An image: purl-spec, types/oci."""
    make = _maker()
    try:
        reference = Reference.parse(name)
    except KobuildError:  # a base in a layout or an archive
        last = name.rpartition(":")[2].rstrip("/").rpartition("/")[2] or "image"
        return str(make(type="oci", name=last.lower(), version=digest))
    repository = reference.repository.name
    qualifiers = {"repository_url": repository}
    if reference.tag is not None:
        qualifiers["tag"] = reference.tag
    return str(make(type="oci", name=repository.rpartition("/")[2], version=digest, qualifiers=qualifiers))


def _from_lock(text: str) -> str:
    """The lock's own package URL, in its canonical form."""
    try:
        from packageurl import PackageURL  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise missing_library("packageurl-python", error) from error
    return str(PackageURL.from_string(text))


def _maker() -> Any:
    try:
        from packageurl import PackageURL  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise missing_library("packageurl-python", error) from error
    return PackageURL


def parse_purl(text: str) -> PackageURL:
    """The library's own value, for other libraries."""
    parsed: PackageURL = _maker().from_string(text)
    return parsed
