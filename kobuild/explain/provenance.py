"""How an image was made, as an in-toto statement with a SLSA provenance v1 predicate, signed or not.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and https://slsa.dev/provenance/v1. The statement
is made only of an image that is proved to follow from lock and settings, with layers that this machine made itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from kobuild._version import __version__
from kobuild.base import pinned_name
from kobuild.build import base_tree, locked_tool
from kobuild.errors import BaseError
from kobuild.explain.documents import Document
from kobuild.explain.materials import public_address
from kobuild.explain.statements import sign_statement, state, statement_bytes
from kobuild.frozen import frozen
from kobuild.lock import Lock, LockedArtifact, LockedTool
from kobuild.oci.digest import Digest
from kobuild.oci.platforms import Platform
from kobuild.proof import BuiltImage
from kobuild.recipes import find_made, layer_plan
from kobuild.store.locations import Location
from kobuild.streams import disk_errors
from kobuild.workshop import Workshop

MEDIA_TYPE: Final = "application/vnd.in-toto+json"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
PREDICATE_NOTE: Final = "in-toto.io/predicate-type"
"""The annotation by which a reader tells statements apart without pulling them."""
_DESCRIBED: Final = "https://github.com/kobuild/kobuild/blob/main/docs/provenance.md"
BUILD_TYPE: Final = f"{_DESCRIBED}#build-v1"
"""A link to what the build's parameters mean."""
LOCAL_BUILDER: Final = f"{_DESCRIBED}#builder-local"
"""A machine that nobody vouches for."""


@frozen
class Builder:
    """Who built."""

    id: str
    invocation: str = ""
    """The address of the run, where there is one."""
    source: Mapping[str, Any] | None = None
    """The commit that the settings came from, as a resource descriptor."""


def find_builder(environ: Mapping[str, str]) -> Builder:
    """GitHub Actions by its own variables, else a local machine."""
    server, reference = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_WORKFLOW_REF", "")
    if environ.get("GITHUB_ACTIONS") != "true" or not server or not reference:
        return Builder(LOCAL_BUILDER)
    repository = environ.get("GITHUB_REPOSITORY", "")
    run, attempt = environ.get("GITHUB_RUN_ID", ""), environ.get("GITHUB_RUN_ATTEMPT", "1")
    commit, ref = environ.get("GITHUB_SHA", ""), environ.get("GITHUB_REF", "")
    source = {"uri": f"git+{server}/{repository}@{ref}", "digest": {"gitCommit": commit}} if commit else None
    invocation = f"{server}/{repository}/actions/runs/{run}/attempts/{attempt}" if run else ""
    return Builder(f"{server}/{reference}", invocation, source)


def require_own_layers(workshop: Workshop, lock: Lock, images: Sequence[BuiltImage]) -> None:
    """Raise BaseError unless each tool layer is the one that this machine made from the locked file.

    Without that, a statement would be hearsay: the image ID proves the config, and the config only names the layers.
    """
    for image in images:
        for tool, layer in zip(workshop.settings.tools, image.tools, strict=True):
            _, artifact = locked_tool(lock, tool, image.platform)
            plan = layer_plan(workshop.settings, tool, workshop.source_date_epoch)
            tree = partial(base_tree, workshop, image.base)
            made = find_made(workshop.cache, plan, artifact.sha256, tree)
            if made is None or made.diff_id != layer.diff_id:
                found = "another one" if made is not None else "none"
                raise BaseError(
                    f"attest the layer of {tool.name} for {image.platform}: this machine's cache has {found} made from "
                    "the locked file",
                    hint="run `kobuild push` here first, or bring its cache along",
                )


def make_statement(
    workshop: Workshop, lock: Lock, *, name: str, digest: Digest, platforms: Sequence[Platform], builder: Builder
) -> dict[str, Any]:
    """The statement about `digest`, an image or an index, called `name`."""
    settings = workshop.settings
    dependencies = [builder.source] if builder.source is not None else []
    metadata = {"invocationId": builder.invocation} if builder.invocation else {}
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "settings": {"name": settings.path.name, "digest": {"sha256": _file_sum(settings.path)}},
                "lock": {"name": settings.lock_path.name, "digest": {"sha256": _file_sum(settings.lock_path)}},
                "platforms": [str(platform) for platform in platforms],
            },
            "internalParameters": _internal(workshop),
            "resolvedDependencies": [*dependencies, *_base(lock), *_tools(lock, platforms)],
        },
        "runDetails": {"builder": {"id": builder.id, "version": {"kobuild": __version__}}, "metadata": metadata},
    }
    return state(name, digest, PREDICATE_TYPE, predicate)


def as_document(statement: Mapping[str, Any], created: str, sign: Callable[[bytes], bytes] | None = None) -> Document:
    """The statement as a document to write or attach, signed where there is something to sign with."""
    if sign is not None:
        return sign_statement(statement, sign, title="provenance.sigstore.json", created=created)
    data = statement_bytes(statement)
    return Document(data, MEDIA_TYPE, "provenance.intoto.json", created, {PREDICATE_NOTE: PREDICATE_TYPE})


def _file_sum(path: Path) -> str:
    with disk_errors("read", path):
        return hashlib.sha256(path.read_bytes()).hexdigest()


def _internal(workshop: Workshop) -> dict[str, Any]:
    epoch = workshop.source_date_epoch
    return {} if epoch is None else {"SOURCE_DATE_EPOCH": epoch}


def _base(lock: Lock) -> Iterator[dict[str, Any]]:
    if lock.base is None:
        return
    digest = Digest.parse(lock.base.digest)
    name = pinned_name(lock.base.name, digest)
    yield {
        "name": "base",
        "uri": f"docker://{name}" if Location.parse(name) is None else name,
        "digest": {digest.algorithm: digest.hex},
        "annotations": {"manifests": {str(platform): text for platform, text in sorted(lock.base.platforms.items())}},
    }


def _tools(lock: Lock, platforms: Sequence[Platform]) -> Iterator[dict[str, Any]]:
    for _, tool in sorted(lock.tools.items()):
        for platform, artifact in sorted(tool.artifacts.items()):
            if platform in platforms:
                yield _dependency(tool, platform, artifact)


def _dependency(tool: LockedTool, platform: Platform, artifact: LockedArtifact) -> dict[str, Any]:
    address = artifact.url if artifact.url.startswith("pkg:") else public_address(artifact.url)
    # A folder has no bytes of its own: its sum is over names and contents, and must not pass for a file's.
    algorithm = "kobuildTreeSha256" if artifact.filename.endswith("/") else "sha256"
    return {
        "name": artifact.filename,
        **({"uri": address} if address else {}),
        "digest": {algorithm: artifact.sha256},
        "annotations": {
            "tool": tool.name,
            "version": tool.version,
            "platform": str(platform),
            "vouchedBy": artifact.vouched_by,
            **({"proofs": list(artifact.proofs)} if artifact.proofs else {}),
        },
    }
