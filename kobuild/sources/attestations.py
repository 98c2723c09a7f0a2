"""GitHub's attestations of how a release's file was built."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from kobuild.errors import SignatureError
from kobuild.signatures.keyless import PROVENANCE, Signer, Trust, predicate_of, verify_statement
from kobuild.sources.githubapi import GithubApi
from kobuild.sources.model import SourceContext
from kobuild.sources.snappy import decompress
from kobuild.transport import Request, redact

MAX_BUNDLE_BYTES: Final = 4 * 1024 * 1024


def find_provenance(repository: str, sha256: str, context: SourceContext) -> Iterator[bytes]:
    """The bundles in which the repository attests the build of the file of that sum; nothing of them is verified.

    Each is fetched when it is asked for. Raises RateLimited or FetchError, and SignatureError for an answer that holds
    no bundle.
    """
    for entry in GithubApi(context).find_attestations(repository, sha256):
        bundle = _bundle(entry, context, f"attestation of sha256:{sha256} by github:{repository}")
        # Other statements, such as those on a release's own making, are signed by authorities that few trust. What
        # claims no type at all is broken, and not for us to pass over.
        if (predicate_of(bundle) or PROVENANCE).startswith(PROVENANCE):
            yield json.dumps(bundle).encode()


def verify_any(
    bundles: Iterable[bytes], trust: Callable[[], Trust], sha256: str, signer: Signer, place: str
) -> str | None:
    """The identity that signed the first of the bundles that can be trusted; None where there is no bundle.

    Raises SignatureError where there are some and none can be trusted.
    """
    failures = []
    for bundle in bundles:
        trusted = trust()
        try:
            return verify_statement(trusted, bundle, sha256, signer, place)
        except SignatureError as error:
            failures.append(error)
    if not failures:
        return None
    if len(failures) > 1:
        failures[0].message += f" (and {len(failures) - 1} more)"
    raise failures[0]


def _bundle(entry: Mapping[str, Any], context: SourceContext, what: str) -> Mapping[str, Any]:
    """One answer's bundle, which may lie elsewhere, compressed; raises SignatureError for one that is none."""
    bundle = entry.get("bundle")
    if isinstance(bundle, dict):
        return bundle
    url = entry.get("bundle_url")
    if not isinstance(url, str):
        raise SignatureError(f"{what}: neither a bundle nor its address")
    # A signed address: it needs no token, and must not get one.
    with context.transport.send(Request("GET", url)) as response:
        data = response.read_all(MAX_BUNDLE_BYTES)
    place = f"GET {redact(url)}"
    if not data.lstrip().startswith(b"{"):
        data = decompress(data, MAX_BUNDLE_BYTES, place)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"{place}: not a bundle: {error}") from error
    if not isinstance(value, dict):
        raise SignatureError(f"{place}: not a bundle: not a JSON object")
    return value
