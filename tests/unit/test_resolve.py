"""The resolve flow: what moves, what stays, and what is asked of the network."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kobuild import lock as locks
from kobuild.errors import BaseError, FetchError, LockError, NewsFound, NoMatchingVersion, ResolveError, UsageError
from kobuild.lock import LockedBase
from kobuild.oci.platforms import Platform
from kobuild.resolve import Resolution, ResolveOptions, resolve_file
from kobuild.settings.model import ImageSettings, Settings, SourceSpec, ToolSettings
from kobuild.sources.download import open_artifact
from kobuild.sources.model import SourceContext
from kobuild.store.cache import Cache
from kobuild.transport import Transport
from tests.support.recorders import HeldClock
from tests.support.upstream import Upstream, sha256_of

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
GO = ToolSettings("go", SourceSpec("go", ""), "~=1.27.0", root="/usr/local")
KO = ToolSettings("ko", SourceSpec("github", "ko-build/ko"), ">=0.15,<1", root="/usr/local/bin", only=("ko",))
UPGRADE_ALL = ResolveOptions(upgrade=frozenset())


class Bases:
    """A registry whose tags move."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Platform, ...]]] = []
        self.digest = "1" * 64

    def __call__(self, name: str, platforms: Sequence[Platform], /) -> LockedBase | None:
        self.asked.append((name, tuple(platforms)))
        index = name.partition("@sha256:")[2] or self.digest
        manifests = {platform: f"sha256:{('a' if platform == AMD64 else 'b') * 64}" for platform in platforms}
        return LockedBase(name, f"sha256:{index}", manifests)


class Project:
    """One settings file, its lock, and everything around them."""

    def __init__(self, folder: Path, upstream: Upstream, transport: Transport) -> None:
        self.upstream = upstream
        self.bases = Bases()
        self.context = SourceContext(
            transport=transport,
            cache=Cache(folder / "cache"),
            folder=folder,
            environ={**os.environ, **upstream.environ},
        )
        image = ImageSettings("gcr.io/some/base:alpine", platforms=(AMD64,))
        self.settings = Settings(folder / "kobuild.toml", image, (GO, KO))

    @property
    def lock_path(self) -> Path:
        return self.settings.lock_path

    def change(self, *tools: ToolSettings, **image: Any) -> None:
        self.settings = dataclasses.replace(
            self.settings,
            image=dataclasses.replace(self.settings.image, **image),
            tools=tools or self.settings.tools,
        )

    def resolve(self, options: ResolveOptions | None = None, *, offline: bool = False) -> Resolution:
        context = dataclasses.replace(self.context, offline=offline)
        return resolve_file(self.settings, options or ResolveOptions(), context, self.bases)

    def versions(self) -> dict[str, str]:
        lock = locks.load(self.lock_path)
        assert lock is not None
        return {name: tool.version for name, tool in lock.tools.items()}

    def forget(self) -> None:
        self.upstream.forget()
        self.bases.asked.clear()

    @property
    def requests(self) -> int:
        return self.upstream.count() + len(self.bases.asked)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        for version in ("1.26.9", "1.27.2", "1.27.3"):
            server.add_go_release(version, {"linux/amd64": b"go amd64", "linux/arm64": b"go arm64"})
        publish_ko(server, "0.15.4")
        yield server


def publish_ko(upstream: Upstream, version: str, *, digests: bool = True) -> None:
    assets = {f"ko_{version}_Linux_{arch}.tar.gz": f"ko {version} {arch}".encode() for arch in ("x86_64", "arm64")}
    upstream.add_github_release("ko-build/ko", f"v{version}", assets, digests=digests)


@pytest.fixture
def project(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    for name in ("GITHUB_TOKEN", "KOBUILD_GITHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    transport = Transport(clock=HeldClock())
    yield Project(tmp_path, upstream, transport)
    transport.close()


def test_pins_become_a_lock(project: Project) -> None:
    resolution = project.resolve()
    assert resolution.written
    assert [str(change) for change in resolution.changes] == [
        "base: (none) → gcr.io/some/base:alpine 111111111111",
        "go: (none) → 1.27.3",
        "ko: (none) → 0.15.4",
    ]
    assert locks.load(project.lock_path) == resolution.lock
    ko = resolution.lock.tools["ko"]
    assert (ko.source, ko.requirement, ko.tag) == ("github:ko-build/ko", ">=0.15,<1", "v0.15.4")
    assert ko.artifacts[AMD64].vouched_by == "publisher"
    assert resolution.lock.base is not None
    assert resolution.lock.base.digest == f"sha256:{'1' * 64}"


def test_unchanged_settings_ask_nothing_and_write_nothing(project: Project) -> None:
    project.resolve()
    before = project.lock_path.stat()
    publish_ko(project.upstream, "0.16.0")
    project.upstream.add_go_release("1.27.4", {"linux/amd64": b"go"})
    project.bases.digest = "2" * 64
    project.forget()
    for options in (
        ResolveOptions(),
        ResolveOptions(locked=True),
        ResolveOptions(frozen=True),
        ResolveOptions(check=True),
    ):
        resolution = project.resolve(options, offline=True)
        assert (resolution.changes, resolution.written) == ((), False)
    assert project.requests == 0
    assert project.lock_path.stat() == before


def test_the_order_of_tools_and_their_layers_change_nothing(project: Project) -> None:
    project.resolve()
    project.forget()
    project.change(dataclasses.replace(KO, root="/bin", only=(), mode=0o755), dataclasses.replace(GO, strip=1))
    assert not project.resolve().written
    assert project.requests == 0


def test_an_upgrade_of_all(project: Project) -> None:
    project.resolve()
    publish_ko(project.upstream, "0.16.0")
    project.upstream.add_go_release("1.27.4", {"linux/amd64": b"go"})
    project.bases.digest = "2" * 64
    changes = project.resolve(UPGRADE_ALL).changes
    assert [str(change) for change in changes] == [
        "base: gcr.io/some/base:alpine 111111111111 → gcr.io/some/base:alpine 222222222222",
        "go: 1.27.3 → 1.27.4",
        "ko: 0.15.4 → 0.16.0",
    ]


@pytest.mark.parametrize(
    ("names", "moved"), [(["ko"], {"ko"}), (["go"], {"go"}), (["base"], {"base"}), (["go", "base"], {"go", "base"})]
)
def test_an_upgrade_of_some(project: Project, names: list[str], moved: set[str]) -> None:
    project.resolve()
    publish_ko(project.upstream, "0.16.0")
    project.upstream.add_go_release("1.27.4", {"linux/amd64": b"go"})
    project.bases.digest = "2" * 64
    resolution = project.resolve(ResolveOptions(upgrade=frozenset(names)))
    assert {change.subject for change in resolution.changes} == moved


def test_an_upgrade_stays_within_the_pin(project: Project) -> None:
    project.resolve()
    project.upstream.add_go_release("1.28.0", {"linux/amd64": b"go"})
    publish_ko(project.upstream, "1.0.0")
    assert project.resolve(UPGRADE_ALL).changes == ()


def test_an_upgrade_of_nothing_is_told(project: Project) -> None:
    with pytest.raises(UsageError, match="--upgrade nothing: there is no such tool") as raised:
        project.resolve(ResolveOptions(upgrade=frozenset({"nothing"})))
    assert "base, go, ko" in (raised.value.hint or "")


@pytest.mark.parametrize(("keeping", "flag"), [({"locked": True}, "--locked"), ({"frozen": True}, "--frozen")])
@pytest.mark.parametrize("more", [{}, {"prove": True}, {"check": True}])
def test_an_upgrade_of_what_is_to_stay_is_refused(
    project: Project, keeping: dict[str, bool], flag: str, more: dict[str, bool]
) -> None:
    project.resolve()
    project.forget()
    with pytest.raises(UsageError, match=f"--upgrade with {flag}: one moves pins, the other keeps them"):
        project.resolve(ResolveOptions(upgrade=frozenset(), **keeping, **more))
    assert project.requests == 0


def test_a_check_tells_news_and_writes_nothing(project: Project) -> None:
    with pytest.raises(NewsFound) as raised:
        project.resolve(ResolveOptions(check=True))
    assert raised.value.exit_code == 4
    assert not project.lock_path.exists()
    project.resolve()
    before = project.lock_path.read_bytes()
    publish_ko(project.upstream, "0.16.0")
    with pytest.raises(NewsFound, match=r"ko: 0\.15\.4 → 0\.16\.0") as raised:
        project.resolve(ResolveOptions(upgrade=frozenset({"ko"}), check=True))
    assert raised.value.changes == ("ko: 0.15.4 → 0.16.0",)
    assert project.lock_path.read_bytes() == before


def test_a_pin_that_still_holds_keeps_its_version(project: Project) -> None:
    project.resolve()
    publish_ko(project.upstream, "0.16.0")
    project.forget()
    project.change(GO, dataclasses.replace(KO, version=">=0.15.4"))
    resolution = project.resolve()
    assert project.versions()["ko"] == "0.15.4"
    assert [str(change) for change in resolution.changes] == [
        "ko: 0.15.4 pinned as '>=0.15,<1' → 0.15.4 pinned as '>=0.15.4'"
    ]
    assert project.requests == 0


def test_a_pin_that_no_longer_holds_moves_that_tool_alone(project: Project) -> None:
    project.resolve()
    publish_ko(project.upstream, "0.16.0")
    project.forget()
    project.change(GO, dataclasses.replace(KO, version=">=0.16"))
    assert [str(change) for change in project.resolve().changes] == ["ko: 0.15.4 → 0.16.0"]
    assert project.upstream.count("/dl/") == 0


def test_another_asset_keeps_the_version(project: Project) -> None:
    project.resolve()
    publish_ko(project.upstream, "0.16.0")
    project.change(GO, dataclasses.replace(KO, asset="ko_*_{os}_{arch}.tar.gz"))
    (change,) = project.resolve().changes
    assert str(change).startswith("ko: settings ")
    assert project.versions()["ko"] == "0.15.4"


def test_another_source_is_looked_up_anew(project: Project) -> None:
    project.resolve()
    other = SourceSpec("github", "google/ko")
    project.upstream.add_github_release("google/ko", "v0.15.4", {"ko_Linux_x86_64.tar.gz": b"other"})
    project.change(GO, dataclasses.replace(KO, source=other))
    (change,) = project.resolve().changes
    assert str(change) == "ko: 0.15.4 from github:ko-build/ko → 0.15.4 from github:google/ko"


def test_a_new_platform_adds_files_of_the_same_version(project: Project) -> None:
    first = project.resolve().lock
    publish_ko(project.upstream, "0.16.0")
    project.upstream.add_go_release("1.27.4", {"linux/amd64": b"go", "linux/arm64": b"go"})
    project.bases.digest = "2" * 64
    project.change(platforms=(AMD64, ARM64))
    lock = project.resolve().lock
    for name in ("go", "ko"):
        assert lock.tools[name].version == first.tools[name].version
        assert lock.tools[name].artifacts[AMD64] == first.tools[name].artifacts[AMD64]
        assert ARM64 in lock.tools[name].artifacts
    assert project.bases.asked[-1] == (f"gcr.io/some/base@sha256:{'1' * 64}", (ARM64,))
    assert lock.base is not None
    assert lock.base.digest == f"sha256:{'1' * 64}"
    assert set(lock.base.platforms) == {AMD64, ARM64}
    project.change(platforms=(AMD64,))
    project.forget()
    assert project.resolve().lock == first
    assert project.requests == 0


def test_a_removed_tool_leaves(project: Project) -> None:
    project.resolve()
    project.change(GO)
    assert [str(change) for change in project.resolve().changes] == ["ko: 0.15.4 → (none)"]
    assert set(project.versions()) == {"go"}


def test_scratch_has_no_base(project: Project) -> None:
    project.resolve()
    project.change(base="scratch")
    assert [change.new for change in project.resolve().changes] == [""]
    assert project.resolve(ResolveOptions(locked=True)).lock.base is None


def test_another_base_is_looked_up(project: Project) -> None:
    project.resolve()
    project.change(base="docker.io/library/debian:12")
    (change,) = project.resolve().changes
    assert change.new == "docker.io/library/debian:12 111111111111"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tools": (GO, dataclasses.replace(KO, version=">=0.16"))}, r"tools\.ko: the pin was '>=0.15,<1'"),
        ({"tools": (GO, dataclasses.replace(KO, asset="x"))}, r"tools\.ko: a key that says which file"),
        ({"tools": (GO, dataclasses.replace(KO, source=GO.source))}, r"tools\.ko: the source was github:ko-build/ko"),
        ({"tools": (GO,)}, r"tools\.ko: is locked, and no longer in the settings"),
        ({"tools": (GO, KO, dataclasses.replace(KO, name="new"))}, r"tools\.new: is not in the lock"),
        ({"platforms": (AMD64, ARM64)}, r"(?s)base: nothing is locked for linux/arm64.*tools\.go: nothing is locked"),
        ({"base": "scratch"}, r"base: the settings say scratch, the lock gcr\.io/some/base:alpine"),
        ({"base": "debian"}, r"base: the settings say debian, the lock gcr\.io/some/base:alpine"),
    ],
)
def test_locked_says_what_does_not_fit(project: Project, change: dict[str, Any], message: str) -> None:
    project.resolve()
    before = project.lock_path.read_bytes()
    project.forget()
    project.change(*change.pop("tools", ()), **change)
    with pytest.raises(LockError, match=message) as raised:
        project.resolve(ResolveOptions(locked=True))
    assert "kobuild resolve" in (raised.value.hint or "")
    assert raised.value.exit_code == 2
    assert project.lock_path.read_bytes() == before
    assert project.requests == 0
    assert project.resolve(ResolveOptions(frozen=True)).lock.tools.keys() == {"go", "ko"}


@pytest.mark.parametrize("options", [ResolveOptions(locked=True), ResolveOptions(frozen=True)])
def test_a_missing_lock_is_not_made_where_that_is_forbidden(project: Project, options: ResolveOptions) -> None:
    with pytest.raises(LockError, match=r"kobuild\.lock is missing"):
        project.resolve(options)
    assert project.requests == 0


def test_a_broken_lock_is_never_overwritten(project: Project) -> None:
    project.lock_path.write_text("version = 1\n[tools", "utf-8")
    with pytest.raises(LockError, match=r"kobuild\.lock:2: broken"):
        project.resolve()
    assert project.lock_path.read_text("utf-8") == "version = 1\n[tools"


def test_offline_says_which_tool_needs_what(project: Project) -> None:
    project.change(GO)
    with pytest.raises(FetchError, match=r"^tools\.go: http://127.*mode=json is needed, and --offline forbids"):
        project.resolve(offline=True)
    assert not project.lock_path.exists()


def test_all_faults_are_told_at_once(project: Project) -> None:
    project.change(dataclasses.replace(GO, version=">=9"), dataclasses.replace(KO, version=">=9"))
    with pytest.raises(ResolveError, match=r"(?s)tools\.go: Go has no version '>=9'.*\ntools\.ko: github:ko-build"):
        project.resolve()
    project.change(GO, dataclasses.replace(KO, version=">=9"))
    with pytest.raises(NoMatchingVersion, match=r"^tools\.ko: "):
        project.resolve()


def test_what_nobody_vouches_for_is_downloaded_once_and_serves_the_build(project: Project) -> None:
    publish_ko(project.upstream, "0.16.0", digests=False)
    ko = project.resolve().lock.tools["ko"].artifacts[AMD64]
    assert (ko.vouched_by, ko.size) == ("first-download", len(b"ko 0.16.0 x86_64"))
    project.forget()
    with open_artifact(ko, dataclasses.replace(project.context, offline=True)) as opened:
        assert opened.path().read_bytes() == b"ko 0.16.0 x86_64"
    assert project.resolve(UPGRADE_ALL).changes == ()
    assert project.upstream.count("/release-assets/") <= 1, "asked whether it changed, at most"


def test_a_size_that_is_not_listed_is_asked_for(project: Project) -> None:
    content = b"tool 1.0"
    url = project.upstream.add_file("/tool-1.0", content)
    sums = project.upstream.add_file("/SHA256SUMS", f"{sha256_of(content)}  tool-1.0\n".encode())
    tool = ToolSettings("tool", SourceSpec("url", url.replace("1.0", "{version}")), "1.0", checksums=sums)
    project.change(tool)
    artifact = project.resolve().lock.tools["tool"].artifacts[AMD64]
    assert (artifact.size, artifact.vouched_by) == (len(content), "checksums-file")
    assert [request.method for request in project.upstream.logged("/tool-1.0")] == ["HEAD"]


def test_local_files_are_followed(project: Project) -> None:
    path = project.settings.folder / "tool"
    path.write_bytes(b"one")
    project.change(ToolSettings("tool", SourceSpec("path", "tool")))
    project.resolve()
    assert not project.resolve().written
    path.write_bytes(b"two!")
    (change,) = project.resolve().changes
    assert str(change).startswith("tool: tool sha256:")
    assert project.resolve(UPGRADE_ALL).changes == ()


def test_a_local_base_is_followed(project: Project) -> None:
    project.change(base="oci:base")
    project.resolve()
    project.bases.digest = "2" * 64
    assert [change.subject for change in project.resolve().changes] == ["base"]


def test_licences_are_locked_and_one_that_is_not_told_again_stays(project: Project) -> None:
    project.upstream.licenses["ko-build/ko"] = "Apache-2.0"
    project.resolve()
    lock = locks.load(project.lock_path)
    assert lock is not None
    assert {name: tool.license for name, tool in lock.tools.items()} == {"go": "BSD-3-Clause", "ko": "Apache-2.0"}
    before = project.lock_path.read_bytes()
    del project.upstream.licenses["ko-build/ko"]
    assert project.resolve(UPGRADE_ALL).changes == ()
    assert project.lock_path.read_bytes() == before
    project.upstream.licenses["ko-build/ko"] = "MIT"
    (change,) = project.resolve(UPGRADE_ALL).changes
    assert str(change) == "ko: 0.15.4 under Apache-2.0 → 0.15.4 under MIT"


def test_a_licence_is_not_taken_over_for_another_version(project: Project) -> None:
    project.upstream.licenses["ko-build/ko"] = "Apache-2.0"
    project.resolve()
    project.upstream.licenses["ko-build/ko"] = "NOASSERTION"
    publish_ko(project.upstream, "0.16.0")
    project.resolve(UPGRADE_ALL)
    lock = locks.load(project.lock_path)
    assert lock is not None
    assert (lock.tools["ko"].version, lock.tools["ko"].license) == ("0.16.0", "")


def test_a_platform_that_the_base_lacks_is_told_before_any_tool_is_asked_for(project: Project) -> None:
    def lacking(name: str, platforms: Sequence[Platform], /) -> LockedBase | None:
        raise BaseError(f"{name} has no image for {platforms[0]}")

    context = project.context
    with pytest.raises(BaseError, match=r"base: gcr\.io/some/base:alpine has no image for linux/amd64"):
        resolve_file(project.settings, ResolveOptions(), context, lacking)
    assert project.upstream.count() == 0
    assert not project.lock_path.exists()
