"""Licences, pages and dates, as each kind of source tells them, for bills of materials and for `outdated`."""

from __future__ import annotations

from typing import Any

import pytest

from kobuild.oci.platforms import Platform
from kobuild.settings.model import SourceSpec, ToolSettings
from kobuild.sources.catalog import open_source
from kobuild.sources.licenses import find_license, read_expression, wheel_license
from kobuild.sources.model import Release, SourceContext
from kobuild.sources.pages import page_address, read_time
from tests.support.upstream import Fault, Upstream

AMD64 = Platform("linux", "amd64")
KO = ToolSettings("ko", SourceSpec("github", "ko-build/ko"))


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("mit", "MIT"),
        (" Apache-2.0 or (mit and gpl-2.0-only with classpath-exception-2.0)", None),
        ("LicenseRef-Own.1", "LicenseRef-Own.1"),
        ("NOASSERTION", ""),
        ("UNLICENSED", ""),
        ("SEE LICENSE IN LICENSE.txt", ""),
        ("BSD", ""),
        ("MIT" + " OR MIT" * 200, ""),
        ("", ""),
        ({"type": "MIT"}, ""),
    ],
)
def test_only_expressions_count(text: object, expression: str | None) -> None:
    wanted = "Apache-2.0 OR (MIT AND GPL-2.0-only WITH Classpath-exception-2.0)" if expression is None else expression
    assert read_expression(text) == wanted


@pytest.mark.parametrize(
    ("metadata", "expression"),
    [
        ({"license_expression": "MIT OR Apache-2.0", "license": "ignored"}, "MIT OR Apache-2.0"),
        ({"license": "ISC"}, "ISC"),
        ({"license": "Copyright 2026 …", "classifier": ["License :: OSI Approved :: MIT License", "Other"]}, "MIT"),
        ({"classifier": ["License :: OSI Approved :: BSD License"]}, ""),
        ({"classifier": ["License :: OSI Approved :: MIT License", "License :: Public Domain"]}, ""),
        ({}, ""),
        ({"license": 1, "classifier": "License :: OSI Approved :: MIT License"}, ""),
    ],
)
def test_what_a_wheel_says(metadata: dict[str, Any], expression: str) -> None:
    assert wheel_license(metadata) == expression


def test_github_is_asked_once_and_an_unchanged_answer_is_kept(upstream: Upstream, context: SourceContext) -> None:
    upstream.add_github_release("ko-build/ko", "v1.0", {"ko_linux_amd64.tar.gz": b"ko"})
    upstream.licenses["ko-build/ko"] = "Apache-2.0"
    release = open_source(KO, context).resolve(KO, (AMD64,))
    assert release.license == ""
    upstream.forget()
    assert find_license(KO, release, context) == "Apache-2.0"
    left = upstream.rate_limit_remaining
    assert find_license(KO, release, context) == "Apache-2.0"
    assert [item.path for item in upstream.requests] == ["/api/v3/repos/ko-build/ko"] * 2
    assert upstream.rate_limit_remaining == left


@pytest.mark.parametrize("spdx_id", ["NOASSERTION", ""])
def test_a_repository_without_a_licence_that_github_knows(
    upstream: Upstream, context: SourceContext, spdx_id: str
) -> None:
    upstream.add_github_release("ko-build/ko", "v1.0", {})
    upstream.licenses["ko-build/ko"] = spdx_id
    assert find_license(KO, Release("1", "1", {}), context) == ""


def test_no_answer_about_a_licence_is_no_error(upstream: Upstream, context: SourceContext) -> None:
    release = Release("1", "1", {})
    assert find_license(KO, release, context) == ""  # there is no such repository
    upstream.fail("ko-build/ko", Fault(status=403))
    assert find_license(KO, release, context) == ""
    upstream.rate_limit_remaining = 0
    assert find_license(KO, release, context) == ""


def test_go_has_one_and_other_sources_ask_nobody(upstream: Upstream, context: SourceContext) -> None:
    upstream.add_go_release("1.27.3", {"linux/amd64": b"go"})
    go = ToolSettings("go", SourceSpec("go", ""))
    assert open_source(go, context).resolve(go, (AMD64,)).license == "BSD-3-Clause"
    upstream.forget()
    web = ToolSettings("web", SourceSpec("url", f"{upstream.url}/x.tgz"))
    assert find_license(web, Release("1", "1", {}), context) == ""
    assert upstream.requests == []


def test_a_json_listing_s_day_and_page_are_passed_on(upstream: Upstream, context: SourceContext) -> None:
    listing = (
        b'[{"version": "1.0", "date": "2026-02-03"},'
        b'{"version": "1.1", "published_at": "2026-03-04T05:06:07+02:00", "html_url": "https://a.test/1.1"},'
        b'{"version": "1.2", "released_at": "soon", "web_url": "https://user:word@a.test/"}, "1.3"]'
    )
    versions = upstream.add_file("/versions.json", listing, "application/json")
    found = {}
    for version in ("1.0", "1.1", "1.2", "1.3"):
        spec = SourceSpec("url", f"{upstream.url}/x-{{version}}.tgz")
        tool = ToolSettings("x", spec, version, versions=versions)
        release = open_source(tool, context).resolve(tool, (AMD64,))
        found[version] = (release.published, release.page)
    assert found == {
        "1.0": ("2026-02-03T00:00:00Z", ""),
        "1.1": ("2026-03-04T03:06:07Z", "https://a.test/1.1"),
        "1.2": ("", ""),
        "1.3": ("", ""),
    }


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.678000+00:00", "2026-01-02T03:04:05Z"),
        ("2026-01-02", "2026-01-02T00:00:00Z"),
        ("0001-01-01T00:00:00+14:00", ""),
        ("yesterday", ""),
        (1, ""),
        ("2" * 600, ""),
    ],
)
def test_times(text: object, time: str) -> None:
    assert read_time(text) == time


@pytest.mark.parametrize(
    ("text", "is_shown"),
    [
        ("https://a.test/b", True),
        ("http://a.test", True),
        ("https://u:p@a.test/", False),
        ("https://a.test/?token=hush", False),
        ("javascript:alert(1)", False),
        ("https://a.test/\x1b[31m", False),
        ("https://a.test/a b", False),
        (None, False),
    ],
)
def test_pages(text: object, is_shown: bool) -> None:
    assert page_address(text) == (text if is_shown else "")


def test_a_page_s_fragment_is_left_out() -> None:
    assert page_address("https://a.test/b#access_token=x") == "https://a.test/b"
