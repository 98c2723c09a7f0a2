"""What could move, asked of servers that answer as go.dev, GitHub and a registry do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kobuild import cli
from kobuild.image.mutate import gather
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
from tests.support.archives import Entry, make_tar_gz
from tests.support.images import AMD64, ARM64, layout_of, random_image
from tests.support.programs import require_program
from tests.support.registry import DockerRegistry
from tests.support.upstream import Upstream
from tests.support.wheels import make_index, make_wheel

GO = make_tar_gz([Entry("go/bin/go", b"go")])
KO = make_tar_gz([Entry("ko", b"ko")])


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    with Upstream() as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        server.add_go_release("1.27.2", {"linux/amd64": GO})
        add_ko(server, "v0.15.0")
        yield server


def add_ko(server: Upstream, tag: str, content: bytes = KO) -> None:
    server.add_github_release("ko-build/ko", tag, {f"ko_{tag[1:]}_Linux_x86_64.tar.gz": content})


def project(folder: Path, base: str = "scratch", go: str = "~=1.27.0", ko: str = ">=0.15,<0.16") -> list[str]:
    """Settings and their lock; returns the options of a command."""
    text = f"""
[image]
base = "{base}"
[tools.go]
source = "go"
version = "{go}"
[tools.ko]
source = "github:ko-build/ko"
version = "{ko}"
"""
    (folder / "kobuild.toml").write_text(text)
    options = ["-q", "-C", str(folder)]
    assert cli.main(["resolve", *options]) == 0
    return options


def ask(options: list[str], capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = cli.main(["outdated", *options, "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def test_nothing_could_move(upstream: Upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = project(tmp_path)
    capsys.readouterr()
    upstream.forget()
    assert cli.main(["outdated", *options]) == 0
    assert capsys.readouterr().out == "nothing could move\n"
    assert upstream.count("/download/") == 0
    assert upstream.count("/go/") == 0


def test_within_and_beyond_the_pins(upstream: Upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = project(tmp_path)
    upstream.add_go_release("1.27.3", {"linux/amd64": GO})
    add_ko(upstream, "v0.18.0")
    before = (tmp_path / "kobuild.lock").read_bytes()
    capsys.readouterr()
    assert cli.main(["outdated", *options]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["go", "1.27.2"], ["ko", "0.15.0"]]
    assert lines[1].split()[2:] == ["1.27.3", "https://go.dev/doc/devel/release#go1.27.3"]
    assert "0.18.0 (2026-01-02)" in lines[2]
    assert lines[2].endswith(f"{upstream.url}/ko-build/ko/releases/tag/v0.18.0")
    _, value = ask(options, capsys)
    go, ko = value["tools"]
    assert go["within"] == {
        "version": "1.27.3",
        "tag": "go1.27.3",
        "page": "https://go.dev/doc/devel/release#go1.27.3",
        "published": None,
    }
    assert (go["beyond"], ko["within"], ko["beyond"]["version"]) == (None, None, "0.18.0")
    assert ko["beyond"]["published"] == "2026-01-02T03:14:05Z"
    assert (tmp_path / "kobuild.lock").read_bytes() == before


def test_beyond_counts_only_when_asked(upstream: Upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = project(tmp_path)
    add_ko(upstream, "v0.18.0")
    code, value = ask(options, capsys)
    assert (code, value["can_move"], value["goes_beyond"]) == (0, False, True)
    assert ask(options, capsys, "--beyond")[0] == 4


def test_what_is_older_than_an_allowed_pre_release_is_no_news(
    upstream: Upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_ko(upstream, "v0.19.0-rc.1")
    code, value = ask(project(tmp_path, ko="==0.19.0rc1"), capsys, "--beyond")
    assert (code, value["tools"][1]["locked"], value["tools"][1]["beyond"]) == (0, "0.19.0-rc.1", None)


@pytest.mark.usefixtures("upstream")
def test_an_archive_that_was_published_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = project(tmp_path)
    lock = tmp_path / "kobuild.lock"
    text = lock.read_text()
    sums = [line for line in text.splitlines() if line.startswith("sha256")]
    lock.write_text(text.replace(sums[0], f'sha256 = "{"0" * 64}"'))
    code, value = ask(options, capsys)
    assert code == 4
    assert value["tools"][0]["published_anew"] == ["linux/amd64"]
    capsys.readouterr()
    cli.main(["outdated", *options])
    assert "1.27.2, published anew for linux/amd64" in capsys.readouterr().out


def test_a_newest_release_without_our_platform_is_noted(
    upstream: Upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = project(tmp_path)
    upstream.add_github_release("ko-build/ko", "v0.18.0", {"ko_0.18.0_Darwin_arm64.tar.gz": KO})
    code, value = ask(options, capsys, "--beyond")
    assert code == 0
    assert "the newest of all was not found" in value["tools"][1]["note"]


@pytest.mark.usefixtures("upstream")
def test_whether_the_base_s_tag_moved(
    registry: DockerRegistry,
    client: RegistryClient,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reference = Reference.parse(f"{registry.host}/outdated/base:1")
    amd64 = random_image(1, platform=AMD64)
    client.push(gather([amd64, random_image(2, platform=ARM64)]), [reference])
    options = project(tmp_path, str(reference))
    registry.forget()
    code, value = ask(options, capsys)
    assert (code, value["base"]["moved"]) == (0, False)
    assert [method for method, _, _ in registry.requests() if method != "GET"] == ["HEAD"]
    client.push(gather([amd64, random_image(3, platform=ARM64)]), [reference])
    code, value = ask(options, capsys)
    assert (code, value["base"]["moved"], value["base"]["platforms"]) == (4, True, [])
    client.push(gather([random_image(4, platform=AMD64)]), [reference])
    code, value = ask(options, capsys)
    assert (code, value["base"]["platforms"]) == (4, ["linux/amd64"])
    capsys.readouterr()
    cli.main(["outdated", *options])
    assert f"base {reference}" in capsys.readouterr().out


@pytest.mark.usefixtures("upstream")
def test_local_bases_and_tools_are_looked_at_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout_of(tmp_path / "base", random_image(1))
    options = project(tmp_path, "oci:base")
    assert ask(options, capsys)[0] == 0
    layout_of(tmp_path / "base", random_image(2))
    code, value = ask(options, capsys)
    assert (code, value["base"]["platforms"]) == (4, ["linux/amd64"])
    (tmp_path / "file").write_text("x")
    text = (tmp_path / "kobuild.toml").read_text() + '[tools.local]\nsource = "path:file"\n'
    (tmp_path / "kobuild.toml").write_text(text)
    assert cli.main(["resolve", *options]) == 0
    code, value = ask(options, capsys)
    assert "a local file" in value["tools"][2]["note"]


@pytest.mark.usefixtures("upstream")
def test_what_is_not_locked_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = project(tmp_path)
    text = (tmp_path / "kobuild.toml").read_text()
    (tmp_path / "kobuild.toml").write_text(text + '[tools.more]\nsource = "go"\n')
    assert cli.main(["outdated", *options]) == 2
    assert "has nothing for tools.more" in capsys.readouterr().err
    (tmp_path / "kobuild.toml").write_text(text.replace("scratch", "registry.test/a"))
    assert cli.main(["outdated", *options]) == 2
    assert "has another base than registry.test/a" in capsys.readouterr().err
    (tmp_path / "kobuild.lock").unlink()
    assert cli.main(["outdated", *options]) == 2
    assert "kobuild.lock is missing" in capsys.readouterr().err


@pytest.mark.usefixtures("upstream")
def test_pages_and_days_as_npm_pip_and_a_listing_tell_them(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_program("npm")
    (tmp_path / "npmrc").touch()
    npm = {"registry": f"{upstream.url}/npm/", "userconfig": f"{tmp_path}/npmrc", "cache": f"{tmp_path}/npm"}
    for name, value in npm.items():
        monkeypatch.setenv(f"npm_config_{name}", value)
    for name, value in (("CONFIG_FILE", os.devnull), ("EXTRA_INDEX_URL", ""), ("FIND_LINKS", ""), ("CONSTRAINT", "")):
        monkeypatch.setenv(f"PIP_{name}", value)
    page = "Project-URL: Changelog, https://wheel.test/changes\n"
    publish = Publisher(upstream, tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", publish.wheels(page, "1.0"))
    publish.package("1.0.0")
    publish.listing('["1.0"]')
    (tmp_path / "kobuild.toml").write_text(f"""
[image]
base = "scratch"
[tools.package]
source = "npm:package"
[tools.wheel]
source = "pypi:wheel-tool"
[tools.web]
source = "url:{upstream.url}/web-{{version}}.tgz"
versions = "{upstream.url}/versions.json"
""")
    options = ["-q", "-C", str(tmp_path)]
    assert cli.main(["resolve", *options]) == 0
    assert ask(options, capsys)[0] == 0
    publish.wheels(page, "1.0", "1.1")
    publish.package("1.0.0", "1.1.0")
    publish.listing('[{"version": "1.1", "date": "2026-03-04", "html_url": "https://web.test/1.1"}, "1.0"]')
    code, value = ask(options, capsys)
    assert code == 4
    assert {item["name"]: item["within"] for item in value["tools"]} == {
        "package": candidate("1.1.0", "https://package.test/", "2026-01-02T03:04:05Z"),
        "wheel": candidate("1.1", "https://wheel.test/changes", None),  # pip does not tell the day
        "web": candidate("1.1", "https://web.test/1.1", "2026-03-04T00:00:00Z"),
    }


def candidate(version: str, page: str | None, published: str | None) -> dict[str, str | None]:
    return {"version": version, "tag": version, "page": page, "published": published}


class Publisher:
    """A package, a wheel and a file, in the versions named."""

    def __init__(self, upstream: Upstream, folder: Path) -> None:
        self.upstream = upstream
        self.folder = folder

    def wheels(self, metadata: str, *versions: str) -> str:
        """Returns the index's address."""
        made = [
            make_wheel(self.folder / "wheels", "wheel-tool", version, "py3-none-any", metadata=metadata)
            for version in versions
        ]
        return make_index(self.folder, "wheel-tool", made)

    def package(self, *versions: str) -> None:
        documents = {
            version: {
                "name": "package",
                "version": version,
                "homepage": "https://package.test/#readme",
                "dist": {"tarball": self.upstream.add_file(f"/npm/package/-/package-{version}.tgz", b"package")},
            }
            for version in versions
        }
        document = {
            "name": "package",
            "dist-tags": {"latest": versions[-1]},
            "versions": documents,
            "time": {version: f"2026-01-{day:02}T03:04:05.678Z" for day, version in enumerate(versions, 1)},
        }
        self.upstream.add_file("/npm/package", json.dumps(document).encode(), "application/json", etag=False)

    def listing(self, text: str) -> None:
        self.upstream.add_file("/versions.json", text.encode(), "application/json")
        for version in ("1.0", "1.1"):
            self.upstream.add_file(f"/web-{version}.tgz", b"web")
