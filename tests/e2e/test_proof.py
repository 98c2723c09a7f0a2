"""A signed release through the command line: resolved, built, and refused where its proof is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.archives import Entry, make_tar
from tests.support.commandline import Kobuild
from tests.support.signers import MinisignSigner, Sigstore, Workload
from tests.support.upstream import Upstream, sha256_of

SETTINGS = """
[image]
base = "scratch"
[sources]
trusted-root = "trusted_root.json"
[tools.ko]
source = "github:ko-build/ko"
root = "/usr/local/bin"
require = "signature"
{line}
"""
REPOSITORY = "ko-build/ko"
NAME = "ko_1.0_Linux_x86_64.tar"
ARCHIVE = make_tar([Entry("ko", b"#!/bin/sh\n", mode=0o755)])
OWN = Workload.of(REPOSITORY, ref="refs/tags/v1.0")


@pytest.fixture
def project(kobuild: Kobuild, upstream: Upstream) -> Kobuild:
    kobuild.environ.update(upstream.environ)
    kobuild.settings(SETTINGS.format(line=""))
    return kobuild


def publish(upstream: Upstream, **beside: bytes) -> None:
    upstream.add_github_release(REPOSITORY, "v1.0", {NAME: ARCHIVE, **{f"{NAME}.{key}": beside[key] for key in beside}})


def test_an_attested_release_is_built_and_verified(project: Kobuild, upstream: Upstream) -> None:
    sigstore = Sigstore()
    sigstore.write_trusted_root(project.folder / "trusted_root.json")
    publish(upstream)
    done = project.run("resolve")
    assert done.code == 1
    assert f'tools.ko: {NAME}: require = "signature", and there is none: looked for GitHub\'s attestation' in done.err
    upstream.add_attestation(
        REPOSITORY, sha256_of(ARCHIVE), {"bundle": sigstore.attest(sha256_of(ARCHIVE), OWN).bundle()}
    )
    done = project.ok("resolve", "--json")
    proof = f"github-attestation:{OWN.identity}"
    assert done.json["tools"]["ko"]["proofs"] == {"linux/amd64": [proof]}
    assert f"ko: proven by {proof}" in done.err
    project.ok("build", "--locked")
    project.ok("verify")
    upstream.forget()
    project.ok("build", "--offline", "--frozen")
    assert upstream.count() == 0
    project.ok("resolve", "--locked", "--prove")
    assert upstream.count("/attestations/") == 1


def test_a_lock_without_proof_is_not_built(project: Kobuild, upstream: Upstream) -> None:
    signer = MinisignSigner()
    line = f'minisign-key = "{signer.public}"'
    project.settings(SETTINGS.format(line=line))
    publish(upstream, minisig=signer.sign(ARCHIVE))
    project.ok("build")
    lock = project.folder / "kobuild.lock"
    without_proofs(lock)
    for option, words in (("--locked", "does not fit"), ("--frozen", "of ko_1.0_Linux_x86_64.tar no signature was")):
        done = project.run("build", option)
        assert done.code == 2
        assert words in done.err
    project.ok("build")  # looks for it again
    project.ok("build", "--frozen")
    lock.unlink()
    assert "[release](" in (told := project.ok("resolve", "--markdown").out)
    assert "), signed (minisign) |" in told
    publish(upstream, minisig=signer.sign(b"an older archive"))
    done = project.run("resolve", "--prove")
    assert done.code == 1
    assert f"{NAME}.minisig: this is no signature of {NAME} by the key {signer.name}" in done.err


def without_proofs(lock: Path) -> None:
    lines = lock.read_text().splitlines(keepends=True)
    lock.write_text("".join(line for line in lines if not line.startswith("proofs")))
