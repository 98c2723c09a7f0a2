"""Releases that the real cosign signed, in each of its forms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kobuild.errors import SignatureError
from kobuild.sources.model import SourceContext
from tests.support.cosign import Cosign
from tests.support.localsigstore import WORKFLOW, LocalSigstore
from tests.support.upstream import Upstream
from tests.unit.sources.conftest import MakeContext
from tests.unit.sources.test_proving import ARCHIVE, BY_COSIGN, NAME, SIGNED, prove, publish, with_key

OLD = ("--new-bundle-format=false", "--use-signing-config=false")
"""The forms of before, which version 3 still writes."""
STRANGER = WORKFLOW.replace("image.yml", "other.yml")


@pytest.fixture
def cosign(tmp_path: Path) -> Cosign:
    folder = tmp_path / "cosign"
    folder.mkdir()
    (folder / NAME).write_bytes(ARCHIVE)
    return Cosign.find(folder)


@pytest.fixture
def sigstore(tmp_path: Path) -> Iterator[LocalSigstore]:
    folder = tmp_path / "sigstore"
    folder.mkdir()
    with closing(LocalSigstore(folder)) as local:
        yield local


def publish_signed(upstream: Upstream, cosign: Cosign, *suffixes: str) -> None:
    publish(upstream, {f"{NAME}.{suffix}": (cosign.folder / f"{NAME}.{suffix}").read_bytes() for suffix in suffixes})


def test_signed_with_a_key_of_its_own(upstream: Upstream, cosign: Cosign, context: SourceContext) -> None:
    private, public = cosign.generate_key()
    own = with_key(SIGNED, cosign_key=public.read_text())
    cosign.ok("sign-blob", *cosign.by_key(private), f"--bundle={NAME}.sigstore.json", NAME)
    written = (f"--output-signature={NAME}.sig", f"--bundle={NAME}.bundle")
    cosign.ok("sign-blob", *OLD, "--tlog-upload=false", f"--key={private}", *written, NAME)
    for suffix in ("sigstore.json", "sig", "bundle"):
        publish_signed(upstream, cosign, suffix)
        assert prove(own, context)[0].startswith("cosign:")
        with pytest.raises(SignatureError, match=f"^{NAME}.{suffix}: this is no signature of {NAME}"):
            prove(BY_COSIGN, context)


@pytest.mark.parametrize("curve", ["secp384r1", "secp521r1"])
def test_signed_with_a_key_on_a_larger_curve(
    upstream: Upstream, cosign: Cosign, context: SourceContext, curve: str
) -> None:
    private, public = cosign.import_key(curve)
    own = with_key(SIGNED, cosign_key=public.read_text())
    cosign.ok("sign-blob", *cosign.by_key(private), f"--bundle={NAME}.sigstore.json", NAME)
    publish_signed(upstream, cosign, "sigstore.json")
    assert prove(own, context)[0].startswith("cosign:")


def test_signed_as_a_job(
    upstream: Upstream, cosign: Cosign, sigstore: LocalSigstore, make_context: MakeContext
) -> None:
    cosign.ok("sign-blob", *cosign.by_job(sigstore), f"--bundle={NAME}.sigstore.json", NAME)
    written = (f"--output-signature={NAME}.sig", f"--output-certificate={NAME}.pem", f"--bundle={NAME}.bundle")
    services = (f"--fulcio-url={sigstore.server.url}", f"--rekor-url={sigstore.server.url}", "--yes")
    cosign.ok("sign-blob", *OLD, *services, "--identity-token=token", cosign.trusts(sigstore), *written, NAME)
    root = str(cosign.folder / "root.json")
    context = make_context(environ={"KOBUILD_TRUSTED_ROOT": root, "GITHUB_TOKEN": "", "KOBUILD_GITHUB_TOKEN": ""})
    for suffixes in (("sigstore.json",), ("bundle",), ("sig", "pem")):
        publish_signed(upstream, cosign, *suffixes)
        assert prove(with_key(SIGNED, identity=WORKFLOW), context) == (f"sigstore:{WORKFLOW}",)
        with pytest.raises(SignatureError, match=r"expected is .*other\.yml"):
            prove(with_key(SIGNED, identity=STRANGER), context)
