"""References: the grammar of distribution, with Docker's defaults."""

from __future__ import annotations

import pytest

from kobuild.errors import InvalidReference
from kobuild.oci.digest import Digest
from kobuild.oci.reference import Reference, Registry

DIGEST = Digest.of(b"x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("docker.io/debian", "docker.io/library/debian:latest"),
        ("index.docker.io/library/debian", "docker.io/library/debian:latest"),
        ("registry-1.docker.io/team/tool:v1", "docker.io/team/tool:v1"),
        ("team/tool", "docker.io/team/tool:latest"),
        ("ghcr.io/ko-build/ko:v0.15.4", "ghcr.io/ko-build/ko:v0.15.4"),
        ("GHCR.io/a/b", "ghcr.io/a/b:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}"),
        (f"gcr.io/a/b:c@{DIGEST}", f"gcr.io/a/b:c@{DIGEST}"),
        ("a/b_c/d__e/f-g/h---i.j", "docker.io/a/b_c/d__e/f-g/h---i.j:latest"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128),
    ],
)
def test_what_is_a_reference(text: str, expected: str) -> None:
    assert str(Reference.parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "a:",
        "a:-x",
        "a:" + "t" * 129,
        "a@sha256:00",
        "a@",
        "a@md5:d41d8cd98f00b204e9800998ecf8427e",
        f"a@{str(DIGEST).upper()}",
        "Upper/case",
        "UPPER",
        "a b",
        "a//b",
        "/a",
        "a/",
        "a/-b",
        "a/b___c",
        "a..b/c:d",
        "ghcr.io/",
        "-host.io/a",
        "host:port/a",
        "host:123456/a",
        "[zz]:1/a",
        "https://ghcr.io/a/b",
        "a\n",
        "a:b\n",
        "x/" * 128 + "x",
        "ghcr.io/é",
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidReference, match=r"not an image reference"):
        Reference.parse(text)


def test_an_upper_case_name_says_what_is_wrong() -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse("ghcr.io/Team/tool")
    assert caught.value.hint == "repository names are lower case"


def test_the_digest_decides() -> None:
    reference = Reference.parse(f"a:b@{DIGEST}")
    assert (reference.tag, reference.identifier) == ("b", str(DIGEST))
    assert Reference.parse("a:b").identifier == "b"
    assert str(reference.with_tag("c")) == "docker.io/library/a:c"
    assert str(reference.with_digest(DIGEST)) == f"docker.io/library/a@{DIGEST}"
    with pytest.raises(InvalidReference):
        reference.with_tag("a b")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("a.localhost", True),
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("[::1]", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1:5000", False),
        ("notlocalhost", False),
        ("[::2]", False),
    ],
)
def test_loopback_is_this_machine_alone(host: str, *, expected: bool) -> None:
    assert Registry(host).is_loopback is expected


def test_docker_hub_is_talked_to_under_another_name() -> None:
    assert Reference.parse("debian").registry.endpoint == "registry-1.docker.io"
    assert Reference.parse("ghcr.io/a/b").registry.endpoint == "ghcr.io"
    assert Reference.parse("ghcr.io/a/b:c").repository.name == "ghcr.io/a/b"
