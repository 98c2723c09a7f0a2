"""Proof in the flow: what the lock keeps of it, when it is looked for again, and what is refused without it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kobuild import lock as locks
from kobuild.errors import LockError, MissingProof, SignatureError
from kobuild.fitting import fingerprint
from kobuild.lock import LockedArtifact, LockedTool
from kobuild.lockdiff import compare
from kobuild.oci.platforms import Platform
from kobuild.resolve import Resolution, ResolveOptions, resolve_file
from kobuild.settings.model import ImageSettings, Settings, SourceSpec, ToolSettings
from kobuild.sources.model import SourceContext
from kobuild.store.cache import Cache
from kobuild.transport import Transport
from tests.support.recorders import HeldClock, RecordingReporter
from tests.support.signers import MinisignSigner
from tests.support.upstream import Upstream, sha256_of

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
SIGNER = MinisignSigner()
PLAIN = ToolSettings("ko", SourceSpec("github", "ko-build/ko"), ">=1")
KEYED = dataclasses.replace(PLAIN, minisign_keys=(SIGNER.public,))
STRICT = dataclasses.replace(KEYED, require="signature", attestations=False)
PROOFS = ("checksums:SHA256SUMS", f"minisign:{SIGNER.name}")
UPGRADE = ResolveOptions(upgrade=frozenset())


def publish(upstream: Upstream, version: str, *, signer: MinisignSigner | None = SIGNER) -> None:
    files = {f"ko_{version}_Linux_{arch}.tar.gz": f"ko {version} {arch}".encode() for arch in ("x86_64", "arm64")}
    sums = "".join(f"{sha256_of(content)}  {name}\n" for name, content in files.items()).encode()
    signature = {"SHA256SUMS.minisig": signer.sign(sums)} if signer is not None else {}
    upstream.add_github_release("ko-build/ko", f"v{version}", {**files, "SHA256SUMS": sums, **signature})


class Project:
    """One settings file with one tool, and its lock."""

    def __init__(self, folder: Path, upstream: Upstream, transport: Transport) -> None:
        self.reporter = RecordingReporter()
        environ = {**os.environ, **upstream.environ}
        self.context = SourceContext(
            transport, Cache(folder / "cache"), folder, environ=environ, reporter=self.reporter
        )
        self.settings = Settings(folder / "kobuild.toml", ImageSettings("scratch"), (PLAIN,))

    def resolve(self, tool: ToolSettings, *, platforms: tuple[Platform, ...] = (AMD64,), **options: Any) -> Resolution:
        image = dataclasses.replace(self.settings.image, platforms=platforms)
        self.settings = dataclasses.replace(self.settings, image=image, tools=(tool,))
        return resolve_file(self.settings, ResolveOptions(**options), self.context, lambda *_: None)

    def proofs(self) -> dict[Platform, tuple[str, ...]]:
        return {platform: artifact.proofs for platform, artifact in self.tool().artifacts.items()}

    def tool(self) -> LockedTool:
        lock = locks.load(self.settings.lock_path)
        assert lock is not None
        return lock.tools["ko"]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        publish(server, "1.0")
        yield server


@pytest.fixture
def project(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    for name in ("GITHUB_TOKEN", "KOBUILD_GITHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    transport = Transport(clock=HeldClock())
    yield Project(tmp_path, upstream, transport)
    transport.close()


def test_the_lock_keeps_what_was_proven(project: Project, upstream: Upstream) -> None:
    project.resolve(PLAIN)
    before = project.settings.lock_path.read_bytes()
    assert b"proofs" not in before
    (change,) = project.resolve(KEYED).changes
    assert str(change).endswith(f"proven by {', '.join(PROOFS)}")
    assert project.proofs() == {AMD64: PROOFS}
    upstream.forget()
    again = project.resolve(KEYED)
    assert (again.changes, again.written, upstream.count()) == ((), False, 0)
    project.resolve(KEYED, platforms=(ARM64, AMD64))
    assert project.proofs() == {ARM64: PROOFS, AMD64: PROOFS}
    project.resolve(PLAIN)
    assert project.settings.lock_path.read_bytes() == before


def test_without_the_required_proof_nothing_is_locked(project: Project, upstream: Upstream) -> None:
    publish(upstream, "1.1", signer=None)
    with pytest.raises(MissingProof, match=r"^tools\.ko: ko_1\.1_Linux_x86_64\.tar\.gz: require"):
        project.resolve(STRICT)
    assert not project.settings.lock_path.exists()
    project.resolve(dataclasses.replace(STRICT, version="<1.1"))
    assert project.proofs() == {AMD64: PROOFS}


def test_a_wrong_signature_is_an_error_though_none_is_required(project: Project, upstream: Upstream) -> None:
    publish(upstream, "1.1", signer=MinisignSigner(SIGNER.key_id))
    with pytest.raises(SignatureError, match=r"^tools\.ko: SHA256SUMS\.minisig: "):
        project.resolve(KEYED)


def test_a_signature_that_is_gone_in_a_newer_version_is_told(project: Project, upstream: Upstream) -> None:
    project.resolve(KEYED)
    publish(upstream, "1.1", signer=None)
    project.resolve(KEYED, upgrade=frozenset())
    assert project.proofs() == {AMD64: ("checksums:SHA256SUMS",)}
    assert project.reporter.warnings[-1] == (
        'ko: a signature was verified for 1.0, and none for 1.1; require = "signature" would refuse that'
    )
    with pytest.raises(MissingProof):
        project.resolve(STRICT, upgrade=frozenset())
    publish(upstream, "1.2")
    project.resolve(STRICT, upgrade=frozenset())
    assert project.tool().version == "1.2"


def test_a_platform_that_is_added_without_its_signature_is_told(project: Project, upstream: Upstream) -> None:
    project.resolve(KEYED)
    publish(upstream, "1.0", signer=None)
    project.resolve(KEYED, platforms=(AMD64, ARM64))
    assert project.proofs()[ARM64] == ("checksums:SHA256SUMS",)
    assert "a signature was verified for 1.0, and none for 1.0" in project.reporter.warnings[-1]


def test_a_lock_without_the_required_proof_does_not_fit(project: Project) -> None:
    project.resolve(PLAIN)
    with pytest.raises(LockError, match=r"tools\.ko: a key that says which file is taken, or what must be proven"):
        project.resolve(STRICT, locked=True)
    project.resolve(STRICT)
    path = project.settings.lock_path
    project.resolve(STRICT, locked=True)
    good = path.read_bytes()
    path.write_bytes(b"".join(line for line in good.splitlines(keepends=True) if not line.startswith(b"proofs")))
    with pytest.raises(
        LockError, match=r"tools\.ko: signature is required, and of ko_1\.0.* no signature was verified"
    ):
        project.resolve(STRICT, locked=True)
    project.resolve(STRICT)
    assert path.read_bytes() == good


def test_proofs_in_the_lock_need_not_be_believed(project: Project, upstream: Upstream) -> None:
    publish(upstream, "1.1", signer=None)
    loose = dataclasses.replace(KEYED, version="v1.1")
    project.resolve(loose)
    path = project.settings.lock_path
    good = path.read_bytes()
    project.resolve(loose, locked=True, prove=True)
    path.write_bytes(good.replace(b'"checksums:SHA256SUMS"', b'"checksums:SHA256SUMS", "minisign:FEDCBA"'))
    strict = dataclasses.replace(STRICT, version="v1.1")
    path.write_bytes(path.read_bytes().replace(fingerprint(loose).encode(), fingerprint(strict).encode()))
    project.resolve(strict, locked=True)  # a lock is believed, as its sums are
    ways: tuple[dict[str, Any], ...] = ({"locked": True}, {"frozen": True}, {}, {"check": True})
    for options in ways:
        with pytest.raises(MissingProof):
            project.resolve(strict, prove=True, **options)
    path.write_bytes(good.replace(b"checksums:SHA256SUMS", b"minisign:FEDCBA"))
    with pytest.raises(
        LockError, match=r"is not what its sources and their proofs say:\n  ko: .* proven by minisign:FED"
    ):
        project.resolve(loose, locked=True, prove=True)
    project.resolve(loose, prove=True)
    assert path.read_bytes() == good
    sha256 = project.tool().artifacts[AMD64].sha256
    path.write_bytes(good.replace(sha256.encode(), b"0" * 64))
    with pytest.raises(LockError, match=r"is not what its sources and their proofs say"):
        project.resolve(loose, locked=True, prove=True)


def test_settings_without_proof_have_the_fingerprint_that_they_had() -> None:
    assert fingerprint(PLAIN) == "44136fa355b3678a"
    different = [PLAIN, KEYED, STRICT, dataclasses.replace(PLAIN, attestations=True)]
    different += [dataclasses.replace(PLAIN, identity="a"), dataclasses.replace(PLAIN, require="checksum")]
    assert len({fingerprint(tool) for tool in different}) == len(different)


def _artifact(*proofs: str, vouched_by: str = "publisher") -> LockedArtifact:
    return LockedArtifact("https://example.com/x", "x", 1, "0" * 64, vouched_by, proofs)


@pytest.mark.parametrize(
    ("artifact", "lacks_sum", "lacks_signature"),
    [
        (_artifact(), False, True),
        (_artifact("checksums:SUMS"), False, True),
        (_artifact(vouched_by="first-download"), True, True),
        (_artifact("minisign:1", vouched_by="first-download"), False, False),
        (_artifact("cosign:1"), False, False),
        (_artifact("sigstore:https://x"), False, False),
        (_artifact("github-attestation:https://x"), False, False),
        (_artifact("something-later:x"), False, True),
    ],
)
def test_what_fulfils_a_requirement(artifact: LockedArtifact, lacks_sum: bool, lacks_signature: bool) -> None:
    assert artifact.lacks("") is None
    assert (artifact.lacks("checksum") is not None) is lacks_sum
    assert (artifact.lacks("signature") is not None) is lacks_signature


def test_proofs_in_the_lock_are_sorted_and_checked() -> None:
    tool = LockedTool("t", "go", "", "1", "1", "f", {AMD64: _artifact("minisign:2", 'checksums:a "b"', "minisign:1")})
    data = locks.dump(locks.Lock(None, {"t": tool}))
    assert b'proofs = ["checksums:a \\"b\\"", "minisign:1", "minisign:2"]\n' in data
    assert locks.dump(locks.parse(data, Path("kobuild.lock"))) == data
    for bad in (
        '"x"',
        "[1]",
        '["x"]',
        '["Minisign:1"]',
        '["minisign:"]',
        '["minisign:\\u0007"]',
        "[" + '"a:b",' * 40 + "]",
    ):
        broken = b"".join(
            f"proofs = {bad}\n".encode() if line.startswith(b"proofs") else line
            for line in data.splitlines(keepends=True)
        )
        with pytest.raises(LockError, match=r"kobuild\.lock:\d+: .*proofs: expected an array of KIND:WHO"):
            locks.parse(broken, Path("kobuild.lock"))


@pytest.mark.parametrize("changes", [{"size": 4}, {"sha256": f"{'0' * 63}1"}])
def test_a_change_that_short_words_hide_is_told(changes: dict[str, Any]) -> None:
    def lock(artifact: LockedArtifact) -> locks.Lock:
        return locks.Lock(None, {"t": LockedTool("t", "go", "", "1", "1", "f", {AMD64: artifact})})

    artifact = LockedArtifact("https://example.com/x", "x", 3, "0" * 64, "publisher")
    (change,) = compare(lock(artifact), lock(dataclasses.replace(artifact, **changes)))
    assert change.old != change.new


def test_a_change_of_proof_alone_is_told() -> None:
    one, other = (
        locks.Lock(None, {"t": LockedTool("t", "go", "", "1", "1", "f", {AMD64: artifact})})
        for artifact in (_artifact(), _artifact("minisign:1"))
    )
    assert [str(change) for change in compare(one, other)] == ["t: x proven by nothing → x proven by minisign:1"]
