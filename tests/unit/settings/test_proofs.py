"""The keys about proof, and what they say about each other."""

from __future__ import annotations

import pytest

from kobuild.signatures.keyless import GITHUB_ISSUER
from tests.support.settings import fault_of_tool, parse, parse_tool
from tests.support.signers import CosignSigner, MinisignSigner

MINISIGN = MinisignSigner().public
COSIGN = CosignSigner()
GITHUB = 'source = "github:a/b"\n'
URL = 'source = "url:https://example.com/x"\n'


def test_keys_of_minisign() -> None:
    other = MinisignSigner(b"another1").public
    assert parse_tool(f'{GITHUB}minisign-key = "{MINISIGN}"').minisign_keys == (MINISIGN,)
    assert parse_tool(f'{URL}minisign-key = ["{MINISIGN}", "{other}"]').minisign_keys == (MINISIGN, other)
    whole = f"untrusted comment: minisign public key 0123\n{MINISIGN}\n"
    assert parse_tool(f'{GITHUB}minisign-key = """{whole}"""').minisign_keys == (MINISIGN,)


def test_keys_of_cosign() -> None:
    tool = parse_tool(f'{GITHUB}cosign-key = """\n{COSIGN.pem}"""')
    assert tool.cosign_key == COSIGN.pem.strip()
    assert tool.looks_for_signatures
    body = "".join(COSIGN.pem.splitlines()[1:-1])
    assert parse_tool(f'{GITHUB}cosign-key = "{body}"').cosign_key == body


def test_who_signs_without_a_key() -> None:
    tool = parse_tool(f'{GITHUB}identity = "https://github.com/a/b/*@refs/tags/{{tag}}"')
    assert (tool.identity, tool.issuer) == ("https://github.com/a/b/*@refs/tags/{tag}", "")
    person = parse_tool(f'{URL}identity = "a@example.com"\nissuer = "https://accounts.example.com/"')
    assert (person.identity, person.issuer) == ("a@example.com", "https://accounts.example.com")


def test_what_is_required() -> None:
    assert parse_tool(f'{GITHUB}require = "signature"').looks_for_proof
    assert parse_tool('source = "go"\nrequire = "checksum"').require == "checksum"
    assert parse_tool(f"{GITHUB}attestations = true").attestations is True
    assert parse_tool(f"{GITHUB}attestations = false").looks_for_proof is False
    assert not parse_tool(GITHUB).looks_for_proof


def test_the_trusted_root() -> None:
    settings = parse('[image]\nbase = "scratch"\n[sources]\ntrusted-root = "trust/root.json"\n')
    assert settings.sources.trusted_root == "trust/root.json"


@pytest.mark.parametrize(
    ("lines", "key", "message", "hint"),
    [
        (f'{GITHUB}require = "signatures"', "require", 'unknown proof "signatures"', "did you mean signature?"),
        ('source = "go"\nrequire = "signature"', "require", "signatures of a go source cannot", 'require = "checksum"'),
        (f'{URL}require = "signature"', "require", "nothing says who signs this file", "minisign-key"),
        (f'{URL}require = "checksum"', "require", "nothing says the sum of this file", "checksums or sha256"),
        (
            'source = "path:x"\nrequire = "checksum"',
            "require",
            "require makes no sense for a path source",
            "go, github",
        ),
        ('source = "pypi:x"\nidentity = "a@b"', "identity", "identity makes no sense for a pypi", "github, url"),
        (f"{URL}attestations = true", "attestations", "attestations makes no sense for a url source", "github"),
        (f'{GITHUB}minisign-key = "minisign.pub"', "minisign-key", "a minisign public key is not base64", "RW…"),
        (f'{GITHUB}minisign-key = "RWAA"', "minisign-key", "a minisign public key has 3 bytes, not 42", "RW…"),
        (f'{GITHUB}cosign-key = "cosign.pub"', "cosign-key", "not a public key", "cosign.pub between"),
        (f'{GITHUB}identity = "*"', "identity", "this identity is anybody's", "such as https://github.com/OWNER"),
        (f'{GITHUB}identity = "https://*/{{tag}}"', "identity", "this identity is anybody's", "such as"),
        (f'{GITHUB}identity = "https://github.com/*/x/*"', "identity", "this identity is anybody's", "such as"),
        (f'{GITHUB}identity = "https://github.com/{{tag}}*"', "identity", "this identity is anybody's", "such as"),
        (
            f'{GITHUB}identity = "*@refs/heads/main"\nissuer = "{GITHUB_ISSUER}"',
            "identity",
            "this issuer, GitHub's, vouches for workflows",
            "such as https://github.com/OWNER",
        ),
        (f'{GITHUB}identity = "a b"', "identity", "an identity has no white space", ""),
        (f'{GITHUB}identity = "x{{os}}"', "identity", "unknown placeholder {os}", ""),
        (f'{GITHUB}identity = "a@example.com"', "identity", "nothing says who vouches", "write issuer"),
        (f'{GITHUB}issuer = "https://x.example.com"', "issuer", "an issuer alone", "write identity"),
        (f'{GITHUB}require = "signature"\nattestations = false', "attestations", "no proof is left", "write true"),
    ],
)
def test_what_cannot_be(lines: str, key: str, message: str, hint: str) -> None:
    fault = fault_of_tool(lines)
    assert fault.key == f"tools.t.{key}"
    assert fault.message.startswith(message)
    assert hint in (fault.hint or "")
