"""The image table, key by key."""

from __future__ import annotations

import pytest

from tests.support.settings import fault_of_image, faults_of, parse, parse_image


@pytest.mark.parametrize(
    "base",
    [
        "scratch",
        "debian",
        "debian@sha256:" + "0" * 64,
        "localhost:5000/a/b:c",
        "oci:dist/base",
        "oci:../base:v1",
        "oci-archive:base.tar",
        "docker-archive:base.tar",
    ],
)
def test_bases(base: str) -> None:
    assert parse(f'[image]\nbase = "{base}"').image.base == base


@pytest.mark.parametrize(
    ("base", "message", "hint"),
    [
        ("docker://debian:12", "a base cannot be read from docker:", "write debian:12"),
        ("docker-daemon:x", "a base cannot be read from docker-daemon:", "expected scratch, a reference, oci:, "),
        ("https://ghcr.io/a/b", "an image reference has no scheme", "write ghcr.io/a/b"),
        ("oci:", "expected a path after oci:", "it is relative to this file"),
        ("Debian", "not an image reference: 'Debian'", "repository names are lower case"),
        ("debian@sha256:12", "not an image reference: 'debian@sha256:12'", ""),
        (" ", "must not be empty", ""),
    ],
)
def test_bases_that_cannot_be(base: str, message: str, hint: str) -> None:
    (fault,) = faults_of(f'[image]\nbase = "{base}"')
    assert (fault.line, fault.key) == (2, "image.base")
    assert fault.message.startswith(message)
    assert (fault.hint or "").startswith(hint)


def test_one_target_or_several() -> None:
    assert [str(target) for target in parse_image('target = "ghcr.io/a/b"').image.targets] == ["ghcr.io/a/b:latest"]
    assert len(parse_image('target = ["ghcr.io/a/b:1", "ghcr.io/a/b:2"]').image.targets) == 2
    assert parse_image("target = []").image.targets == ()


@pytest.mark.parametrize(
    ("lines", "key", "message"),
    [
        ("target = 1", "image.target", "expected a string or an array of strings, got an integer"),
        ('target = ["a/b", 1]', "image.target[1]", "expected a string, got an integer"),
        ('target = ["a/b", "docker.io/a/b:latest"]', "image.target[1]", 'named twice: "docker.io/a/b:latest"'),
        (f'target = "a@sha256:{"0" * 64}"', "image.target", "a push cannot choose its digest"),
        ('target = "oci:dist"', "image.target", "a target is a registry's reference"),
        ('target = "a:b c"', "image.target", "not an image reference"),
        ("platforms = []", "image.platforms", "must not be empty"),
        ('platforms = ["linux/arm64", "linux/aarch64"]', "image.platforms[1]", 'named twice: "linux/aarch64"'),
        ('platforms = "linux"', "image.platforms", "not a platform: 'linux'"),
        ('workdir = "/a/../b"', "image.workdir", '`..` is not allowed in "/a/../b"'),
        ('path = "/a:/b"', "image.path", "expected an array, got a string"),
        ('path = ["/a:/b"]', "image.path[0]", "`:` separates the entries of PATH"),
        ('path = ["bin"]', "image.path[0]", "expected an absolute path"),
        ('env = ["A=1"]', "image.env", "expected a table, got an array"),
        ('env = { "" = "1" }', 'image.env.""', "must not be empty"),
        ('env = { "A=B" = "1" }', 'image.env."A=B"', "the name of a variable has no `=`"),
        ('env = { A = "\\u0000" }', "image.env.A", "a NUL character is not allowed"),
        ('entrypoint = "ko build"', "image.entrypoint", "expected an array, got a string"),
        ("cmd = [1]", "image.cmd[0]", "expected a string, got an integer"),
        ("user = 0", "image.user", "expected a string, got an integer"),
        ('user = "a:b:c"', "image.user", "expected USER or USER:GROUP"),
        ("expose = [0]", "image.expose[0]", "expected a port from 1 to 65535"),
        ('expose = [80, "80/tcp"]', "image.expose[1]", "named twice"),
        ("expose = [true]", "image.expose[0]", "expected a port, got a boolean"),
        ('expose = ["80/tpc"]', "image.expose[0]", 'unknown protocol "tpc"'),
        ('volumes = ["data"]', "image.volumes[0]", "expected an absolute path"),
        ('stop-signal = "TERM"', "image.stop-signal", 'expected a signal, got "TERM"'),
        ('labels = { "a.b" = 1.5 }', 'image.labels."a.b"', "expected a string, got a float"),
        ("annotations = { a = true }", "image.annotations.a", "expected a string, got a boolean"),
    ],
)
def test_values_that_do_not_fit(lines: str, key: str, message: str) -> None:
    fault = fault_of_image(lines)
    assert (fault.line, fault.key) == (3, key)
    assert fault.message.startswith(message)


@pytest.mark.parametrize(
    ("lines", "hint"),
    [
        ('platforms = "linux/amd46"', "did you mean amd64?"),
        ('platforms = "linus/amd64"', "did you mean linux?"),
        ('platforms = "amd64"', "did you mean linux/amd64?"),
        ('compression = "gz"', "did you mean gzip?"),
        ('compression = "stargz"', "did you mean estargz?"),
        ('compression = "zstd_chunked"', "did you mean zstd:chunked?"),
        ('compression = "ztsd"', "did you mean zstd?"),
        ('compression = "none"', "expected one of: gzip, estargz, zstd, zstd:chunked"),
        ("env = { A = 1 }", 'write it in quotes: "1"'),
        ("env = { A = true }", 'write it in quotes: "true"'),
        ('env = { PATH = "/x" }', 'image.path puts directories before the base\'s: path = ["/opt/tool/bin"]'),
        ("user = 65532", 'write it in quotes: "65532"'),
        ('path = "/opt/bin"', 'write path = ["/opt/bin"]'),
        ('workdir = "src"', 'write "/src"'),
        ('stop_signal = "SIGTERM"', "did you mean stop-signal?"),
        ('WorkDir = "/x"', "did you mean workdir?"),
        ('version = "1"', "it belongs under a table of its tool, such as [tools.go]"),
    ],
)
def test_hints_say_what_to_write(lines: str, hint: str) -> None:
    assert fault_of_image(lines).hint == hint


def test_long_values_are_cut_and_control_characters_escaped_in_messages() -> None:
    fault = fault_of_image(f'compression = "\\u001b[31m{"x" * 500}"')
    assert "\x1b" not in fault.message
    assert len(fault.message) < 150


def test_platforms_without_a_list() -> None:
    assert [str(platform) for platform in parse_image('platforms = "linux/arm"').image.platforms] == ["linux/arm/v7"]
