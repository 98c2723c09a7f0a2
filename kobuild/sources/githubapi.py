"""The part of GitHub's REST API that finds releases and licences: pages, ETags, rate limits, whom the token is for."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from kobuild.errors import FetchError, RateLimited, ResolveError
from kobuild.frozen import frozen
from kobuild.oci.jsonio import get_int, get_objects, get_str
from kobuild.sources.bases import GITHUB_API_URL, github_api
from kobuild.sources.model import Location, SourceContext
from kobuild.transport import Request, Response, origin, redact

RECORD_KIND: Final = "github"
"""The cache's records of answers by address, with their ETags: an unchanged answer costs no rate limit."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_PER_PAGE: Final = 100
_ATTESTATIONS_PER_PAGE: Final = 30
_MAX_ATTESTATION_PAGES: Final = 10
_MAX_ATTESTATIONS_BYTES: Final = 16 * 1024 * 1024
"""Of one page."""
_NEXT: Final = re.compile(r'<([^>]+)>;\s*rel="next"')
_SECONDS: Final = re.compile(r"[0-9]{1,11}\Z")
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})\Z")
_MORE_REQUESTS: Final = "set GITHUB_TOKEN: GitHub then allows 5,000 requests an hour instead of 60"


@frozen
class Asset:
    """One file of a release."""

    name: str
    url: str
    """Where anyone downloads it, if the repository is public."""
    api_url: str
    """Where the API gives it to whoever has a token for a private repository."""
    size: int
    sha256: str | None


@frozen
class GithubRelease:
    """One published release."""

    tag: str
    prerelease: bool
    assets: Mapping[str, Asset]
    """By name."""
    published: str = ""
    """When, as the API writes it (`2026-01-02T03:04:05Z`); empty where it does not say."""


@frozen
class Page:
    """One page of a listing."""

    releases: tuple[GithubRelease, ...]
    next_url: str | None


class GithubApi:
    """Asks one API server."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._base = github_api(context)

    def releases_url(self, repository: str) -> str:
        """The first page of a repository's releases."""
        return f"{self._base}/repos/{_quote_repository(repository)}/releases?per_page={_PER_PAGE}"

    def find_release(self, repository: str, tag: str) -> GithubRelease | None:
        """The published release of exactly that tag, or None."""
        url = f"{self._base}/repos/{_quote_repository(repository)}/releases/tags/{quote(tag, safe='')}"
        answer = self._get(url, repository, missing_is_none=True)
        return _releases([answer["body"]], url)[0] if answer is not None else None

    def get_page(self, url: str, repository: str) -> Page:
        """One page; raises ResolveError where there is no such repository, RateLimited, or FetchError."""
        answer = self._get(url, repository)
        assert answer is not None, "a missing page raises"  # noqa: S101
        return Page(_releases(answer["body"], url), answer["next"])

    def find_attestations(self, repository: str, sha256: str) -> Iterator[Mapping[str, Any]]:
        """What the repository attests of a file's build, as the API has it; nothing of it is verified.

        https://docs.github.com/en/rest/repos/attestations. Each page is asked for when it is needed. Raises RateLimited
        or FetchError, also where there are more than 300.
        """
        query = f"per_page={_ATTESTATIONS_PER_PAGE}&predicate_type=provenance"
        url: str | None = f"{self._base}/repos/{_quote_repository(repository)}/attestations/sha256:{sha256}?{query}"
        for _ in range(_MAX_ATTESTATION_PAGES):
            if url is None:
                return
            page, url = self._attestations_page(url, repository)
            yield from page
        if url is not None:
            raise FetchError(f"GET {redact(url)}: more than {_MAX_ATTESTATION_PAGES} pages of attestations of one file")

    def _attestations_page(self, url: str, repository: str) -> tuple[tuple[Mapping[str, Any], ...], str | None]:
        """One page, and the address of the next."""
        self._context.require_network(url)
        with self._send(Request("GET", url, self._headers(), compressed=True)) as response:
            if response.status == 404:  # also where the server knows of no attestations
                return (), None
            self._check(response, repository)
            following = self._next(response)
            value = _parse(response.read_all(_MAX_ATTESTATIONS_BYTES), url)
        what = f"GET {redact(url)}"
        return get_objects(value if isinstance(value, dict) else {}, "attestations", what), following

    def find_license(self, repository: str) -> str:
        """GitHub's reading of the repository's licence, an SPDX identifier or NOASSERTION; empty where it has none."""
        answer = self._get(f"{self._base}/repos/{_quote_repository(repository)}", repository, missing_is_none=True)
        found = answer["body"].get("spdx_id") if answer is not None and isinstance(answer["body"], dict) else None
        return found if isinstance(found, str) else ""

    @property
    def has_token(self) -> bool:
        """Whether there is a token for this server."""
        return bool(self._token())

    def asset_location(self, asset: Asset) -> Location | None:
        """The asset's address in the API, with the token; None where it is on another server than the API."""
        if not asset.api_url or origin(asset.api_url) != origin(self._base):
            return None
        return Location(asset.api_url, {**self._headers(), "Accept": "application/octet-stream"})

    def _get(self, url: str, repository: str, *, missing_is_none: bool = False) -> dict[str, Any] | None:
        """The answer's body (slimmed) and next page: as kept in the cache when the server says it is unchanged."""
        self._context.require_network(url)
        key = hashlib.sha256(url.encode()).hexdigest()[:40]
        record = self._context.cache.read_record(RECORD_KIND, key)
        headers = self._headers()
        if record is not None and {"etag", "body", "next"} <= record.keys():
            headers["If-None-Match"] = str(record["etag"])
        with self._send(Request("GET", url, headers, compressed=True)) as response:
            if response.status == 304 and record is not None:
                return record
            if response.status == 404 and missing_is_none:
                return None
            self._check(response, repository)
            answer = {"etag": response.headers.get("ETag"), "next": self._next(response)}
            answer["body"] = _slim(_parse(response.read_all(MAX_ANSWER_BYTES), url))
        if answer["etag"]:
            self._context.cache.write_record(RECORD_KIND, key, answer)
        return answer

    def _send(self, request: Request) -> Response:
        answer = self._context.transport.send(request, expect=(200, 304, 401, 403, 404, 429))
        if answer.status == 429 and not _is_exhausted(answer):
            # Too fast, not too much: worth the waits that the transport knows of.
            answer.close()
            return self._context.transport.send(request, expect=(200, 304, 401, 403, 404))
        return answer

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        token = self._token()
        return {**headers, "Authorization": f"Bearer {token}"} if token else headers

    def _token(self) -> str | None:
        """KOBUILD_GITHUB_TOKEN is for whichever API is set; GITHUB_TOKEN only for the one that it was given for."""
        environ = self._context.environ
        if own := environ.get("KOBUILD_GITHUB_TOKEN"):
            return own
        home = environ.get("GITHUB_API_URL") or GITHUB_API_URL
        return environ.get("GITHUB_TOKEN") if origin(home) == origin(self._base) else None

    def _check(self, response: Response, repository: str) -> None:
        """Raise for every status but 200."""
        if response.status == 200:
            return
        if _is_exhausted(response):
            raise self._rate_limited(response)
        place = response.place
        if response.status == 404:
            raise ResolveError(
                f"{place}: there is no repository {repository}, or it is private",
                hint=None if self._token() else "for a private repository, set GITHUB_TOKEN",
            )
        if response.status == 401:
            raise FetchError(f"{place}: the token was refused", status=401, hint="renew GITHUB_TOKEN, or unset it")
        message = _message(response)
        raise FetchError(f"{place}: {response.status}: {message}", status=response.status)

    def _rate_limited(self, response: Response) -> RateLimited:
        reset = response.headers.get("X-RateLimit-Reset", "")
        until = f" until {time.strftime('%H:%M:%S UTC', time.gmtime(int(reset)))}" if _SECONDS.match(reset) else ""
        limit = response.headers.get("X-RateLimit-Limit", "some")
        return RateLimited(
            f"{response.place}: the rate limit of {limit} requests an hour is used up{until}",
            status=response.status,
            headers=response.headers,
            hint="wait until then, or use another token" if self._token() else _MORE_REQUESTS,
        )

    def _next(self, response: Response) -> str | None:
        """The next page, by the Link header (RFC 8288), if it is on the same server, which alone gets the token."""
        match = _NEXT.search(response.headers.get("Link", ""))
        return match[1] if match and origin(match[1]) == origin(self._base) else None


def _quote_repository(repository: str) -> str:
    owner, slash, name = repository.partition("/")
    if not (owner and slash and name) or "/" in name or ".." in (owner, name):
        raise ResolveError(f"github:{repository} is not github:OWNER/REPO")
    return f"{quote(owner)}/{quote(name)}"


def _is_exhausted(response: Response) -> bool:
    return response.status in (403, 429) and response.headers.get("X-RateLimit-Remaining") == "0"


def _message(response: Response) -> str:
    try:
        message = json.loads(response.read_all(64 * 1024))["message"]
    except (ValueError, KeyError, TypeError):
        message = "refused"
    return str(message)[:200]


def _parse(body: bytes, url: str) -> list[dict[str, Any]] | dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) or (isinstance(value, list) and all(isinstance(item, dict) for item in value)):
        return value
    raise FetchError(
        f"GET {redact(url)}: the answer is not GitHub's",
        hint="the base address must answer as https://api.github.com does; see GITHUB_API_URL and [sources] github-api",
    )


def _slim(value: list[dict[str, Any]] | dict[str, Any]) -> Any:
    """What is kept of an answer: release notes and uploaders are most of it."""
    if isinstance(value, list):
        return [_slim(item) for item in value]
    if "full_name" in value:  # a repository
        about = value.get("license")
        return {"spdx_id": about.get("spdx_id") if isinstance(about, dict) else None}
    kept = {key: value.get(key) for key in ("tag_name", "draft", "prerelease", "published_at")}
    assets = value.get("assets")
    return {**kept, "assets": [_slim_asset(asset) for asset in assets if isinstance(asset, dict)] if assets else []}


def _slim_asset(asset: Mapping[str, Any]) -> dict[str, Any]:
    return {key: asset.get(key) for key in ("name", "state", "size", "digest", "browser_download_url", "url")}


def _releases(body: list[dict[str, Any]], url: str) -> tuple[GithubRelease, ...]:
    """The published releases; drafts, which only their authors see, are left out."""
    what = f"GET {redact(url)}"
    return tuple(_release(item, what) for item in body if not item.get("draft"))


def _release(item: Mapping[str, Any], what: str) -> GithubRelease:
    uploaded = (asset for asset in get_objects(item, "assets", what) if asset.get("state") in ("uploaded", None))
    assets = {asset.name: asset for asset in (_asset(entry, what) for entry in uploaded)}
    published = item.get("published_at")
    return GithubRelease(
        get_str(item, "tag_name", what),
        bool(item.get("prerelease")),
        assets,
        published if isinstance(published, str) else "",
    )


def _asset(item: Mapping[str, Any], what: str) -> Asset:
    digest = _DIGEST.match(item.get("digest") or "")
    return Asset(
        name=get_str(item, "name", what),
        url=get_str(item, "browser_download_url", what),
        api_url=get_str(item, "url", what, ""),
        size=get_int(item, "size", what),
        sha256=digest[1] if digest else None,
    )
