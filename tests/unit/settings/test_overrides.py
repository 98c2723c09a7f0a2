"""What a command line changes."""

from __future__ import annotations

from typing import Any

import pytest

from kobuild.errors import UsageError
from kobuild.oci.mediatypes import Compression
from kobuild.settings.overrides import with_overrides
from tests.support.settings import parse

SETTINGS = parse(f"""\
[image]
base = "scratch"
target = "ghcr.io/a/b"
[tools.go]
source = "go"
version = "~=1.27.0"
[tools.scripts]
source = "path:scripts"
[tools.url]
source = "url:https://example.com/{{version}}/{{os}}"
version = "1"
sha256 = "{"0" * 64}"
""")


def test_nothing_asked_is_nothing_changed() -> None:
    assert with_overrides(SETTINGS) == SETTINGS


def test_each_value_is_replaced() -> None:
    changed = with_overrides(
        SETTINGS,
        targets=["ghcr.io/a/c", "ghcr.io/a/c:latest"],
        platforms=["linux/aarch64"],
        versions={"go": "latest"},
        compression="zstd",
        base="debian",
    )
    assert [str(target) for target in changed.image.targets] == ["ghcr.io/a/c:latest"]
    assert [str(platform) for platform in changed.image.platforms] == ["linux/arm64"]
    assert [tool.version for tool in changed.tools] == ["", "", "1"]
    assert changed.image.compression is Compression.ZSTD
    assert changed.image.base == "debian"


def test_platforms_may_stand_in_one_string() -> None:
    image = with_overrides(parse('[image]\nbase = "scratch"'), platforms=["linux/amd64,linux/arm64"]).image
    assert [str(platform) for platform in image.platforms] == ["linux/amd64", "linux/arm64"]


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ({"targets": ["A B"]}, "target: not an image reference", "repository names are lower case"),
        ({"platforms": ["linux/amd46"]}, 'platform: unknown architecture "amd46"', "did you mean amd64?"),
        ({"platforms": [""]}, "platform: must not be empty", None),
        ({"versions": {"Script": "1"}}, 'there is no tool "Script" in the settings', "did you mean scripts?"),
        ({"versions": {"go": "^1"}}, "version of go: neither a specifier nor one tag", "write >=1,<2"),
        ({"versions": {"scripts": "1"}}, "tools.scripts.version: version makes no sense for a path source", None),
        ({"versions": {"url": "latest"}}, "tools.url.version: the address has a {version}", None),
        ({"platforms": ["linux/amd64,linux/arm64"]}, "tools.url.sha256: one sum cannot fit 2 platforms", None),
        ({"compression": "gz"}, 'compression: unknown compression "gz"', "did you mean gzip?"),
        ({"base": "docker://x"}, "base: a base cannot be read from docker:", "write x"),
    ],
)
def test_what_cannot_be_is_a_usage_error(asked: dict[str, Any], message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        with_overrides(SETTINGS, **asked)
    assert caught.value.message.startswith(message)
    assert hint is None or caught.value.hint == hint
    assert caught.value.exit_code == 2


def test_settings_without_tools_say_so() -> None:
    with pytest.raises(UsageError) as caught:
        with_overrides(parse('[image]\nbase = "scratch"'), versions={"go": "1"})
    assert caught.value.hint == "the settings have no tools"
