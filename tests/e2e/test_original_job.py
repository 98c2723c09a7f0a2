"""The job that kobuild began with: Go and ko on a base image, from upstream's own servers to a registry.

Real archives over real HTTP, a real Debian base in a real docker-registry, and four other programs that read what was
pushed. They unpack all of it once, from a registry that asks for no login; where one asks, each of them takes less.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commandline import Kobuild
from tests.support.engines import Engines, run
from tests.support.loads import GO_VERSION, KO_VERSION, Loads
from tests.support.programs import require_program
from tests.support.registry import PASSWORD, USERNAME, DockerRegistry, run_registry
from tests.support.upstream import Upstream

LOGIN = f"{USERNAME}:{PASSWORD}"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[DockerRegistry]:
    """A registry that wants the login."""
    with run_registry(tmp_path / "locked", htpasswd=True) as registry:
        yield registry


def publish(upstream: Upstream, loads: Loads) -> None:
    """What go.dev and GitHub have, with the traps that the original fell into."""
    upstream.add_go_release("1.26.9", {"linux/amd64": b"an older one"})
    upstream.add_go_release(GO_VERSION, {"linux/amd64": loads.go_tarball(), "linux/arm64": b"another platform's"})
    upstream.add_go_release("1.28rc1", {"linux/amd64": b"a release candidate"})
    name = f"ko_{KO_VERSION}_Linux_x86_64.tar.gz"
    upstream.add_github_release(
        "ko-build/ko",
        f"v{KO_VERSION}",
        {
            f"{name}.sbom.json": b"{}",
            "checksums.txt": b"",
            f"ko_{KO_VERSION}_Darwin_x86_64.tar.gz": b"a Mac's",
            f"ko_{KO_VERSION}_Linux_arm64.tar.gz": b"another platform's",
            name: loads.ko_tarball(),
        },
    )
    upstream.add_github_release("ko-build/ko", "v0.99.0-rc.1", {name: b"a pre-release"}, prerelease=True)


def put_base(loads: Loads, registry: DockerRegistry, login: str | None = None) -> None:
    require_program("skopeo")
    credentials = ["--dest-creds", login] if login else []
    source = f"oci:{loads.debian_layout()}:bookworm"
    run("skopeo", "copy", "--dest-tls-verify=false", *credentials, source, f"docker://{registry.host}/debian:bookworm")


def log_in(tmp_path: Path, registry: DockerRegistry) -> None:
    """What `docker login` writes."""
    folder = tmp_path / "docker-config"
    folder.mkdir(exist_ok=True)
    auth = base64.b64encode(LOGIN.encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))


GO = """
[tools.go]
source  = "go"
version = "~=1.27.0"
root    = "/usr/local"
"""
SETTINGS = f"""
[image]
base    = "{{host}}/debian:bookworm"
target  = ["{{host}}/ci/ko:latest", "{{host}}/ci/ko:v1"]
workdir = "/workspace"
path    = ["/usr/local/go/bin"]
env     = {{{{ CGO_ENABLED = "0", GOFLAGS = "-trimpath" }}}}
{GO}
[tools.ko]
source  = "github:ko-build/ko"
version = ">=0.15,<1"
root    = "/usr/local/bin"
only    = ["ko"]
"""


def push_and_look(kobuild: Kobuild, upstream: Upstream, loads: Loads, registry: DockerRegistry) -> Any:
    """Push Go and ko on the base that lies in the registry; returns what was pushed for the one platform, as JSON."""
    publish(upstream, loads)
    kobuild.environ.update(upstream.environ)
    kobuild.settings(SETTINGS.format(host=registry.host))
    registry.forget()

    pushed = kobuild.ok("push", "--json").json

    digest = pushed["digest"]
    assert pushed["images"] == [f"{registry.host}/ci/ko:latest@{digest}", f"{registry.host}/ci/ko:v1@{digest}"]
    (platform,) = pushed["platforms"]
    assert [(layer["tool"], layer["version"]) for layer in platform["layers"]] == [
        ("go", GO_VERSION),
        ("ko", KO_VERSION),
    ]
    # The base's layers were mounted: nothing of it was downloaded but its manifest and config.
    base_config = json.loads(run("skopeo", "inspect", "--raw", "--config", f"oci:{loads.debian_layout()}:bookworm"))
    assert len(base_config["rootfs"]["diff_ids"]) == platform["base_layers"] == 1
    fetched = [target for method, target, _ in registry.requests() if method == "GET" and "/debian/blobs/" in target]
    assert len(set(fetched)) == 1
    assert any("mount=" in target and status == 201 for _, target, status in registry.requests())
    return platform


def test_go_and_ko_on_debian_pushed_and_read_by_everyone(
    tmp_path: Path, kobuild: Kobuild, upstream: Upstream, loads: Loads, registry: DockerRegistry
) -> None:
    put_base(loads, registry)
    platform = push_and_look(kobuild, upstream, loads, registry)

    engines = Engines(tmp_path / "engines")
    reference = f"{registry.host}/ci/ko:latest"
    said = engines.buildah_run(f"docker://{reference}", "sh", "-c", "go version; ko -h 2>&1 || true")
    assert f"go version go{GO_VERSION} linux/amd64" in said
    assert "usage: gofmt" in said
    assert engines.podman_pull(reference) == platform["image_id"].removeprefix("sha256:")

    layout = engines.skopeo_pull(reference)
    rootfs = engines.umoci_unpack(layout, "pulled")
    assert (rootfs / "usr/local/go/VERSION").read_text().startswith(f"go{GO_VERSION}")
    assert (rootfs / "usr/local/bin/ko").stat().st_mode & 0o777 == 0o755
    assert not (rootfs / "usr/local/bin/README.md").exists()
    assert (rootfs / "bin").is_symlink()

    inspected = json.loads(run("skopeo", "inspect", "--config", f"oci:{layout}:pulled"))
    assert inspected["config"]["WorkingDir"] == "/workspace"
    environment = dict(item.split("=", 1) for item in inspected["config"]["Env"])
    assert environment["PATH"].startswith("/usr/local/go/bin:/usr/local/sbin:")
    assert (environment["CGO_ENABLED"], environment["GOFLAGS"]) == ("0", "-trimpath")

    kobuild.ok("verify", reference)


def test_with_a_login_the_same_is_pushed_and_everyone_who_has_it_reads(
    tmp_path: Path, kobuild: Kobuild, upstream: Upstream, loads: Loads, locked: DockerRegistry
) -> None:
    put_base(loads, locked, LOGIN)
    log_in(tmp_path, locked)
    platform = push_and_look(kobuild, upstream, loads, locked)
    reference = f"{locked.host}/ci/ko:latest"
    kobuild.ok("verify", reference)

    engines = Engines(tmp_path / "engines", LOGIN)
    inspected = json.loads(run("skopeo", "inspect", f"oci:{engines.skopeo_pull(reference)}:pulled"))
    assert inspected["Layers"][platform["base_layers"] :] == [layer["digest"] for layer in platform["layers"]]

    # The two that unpack what they pull: ko without the thousands of files that are Go.
    kobuild.settings(SETTINGS.format(host=locked.host).replace(GO, ""))
    (small,) = kobuild.ok("push", "--json").json["platforms"]
    assert engines.podman_pull(reference) == small["image_id"].removeprefix("sha256:")
    assert "usage: gofmt" in engines.buildah_run(f"docker://{reference}", "sh", "-c", "ko -h 2>&1 || true")


def test_a_push_with_nothing_new_uploads_nothing_and_is_quick(
    kobuild: Kobuild, upstream: Upstream, loads: Loads, registry: DockerRegistry
) -> None:
    publish(upstream, loads)
    put_base(loads, registry)
    kobuild.environ.update(upstream.environ)
    kobuild.settings(SETTINGS.format(host=registry.host))
    first = kobuild.ok("push").out
    registry.forget()
    upstream.forget()

    walls, processor = [], []
    for _ in range(5):
        start, before = time.monotonic(), os.times()
        assert kobuild.ok("push").out == first
        after = os.times()
        walls.append(time.monotonic() - start)
        processor.append(after.children_user + after.children_system - before.children_user - before.children_system)

    assert {method for method, _, _ in registry.requests()} <= {"GET", "HEAD"}
    assert upstream.count() == 0
    assert min(processor) < 0.5
    # Where other tests keep the processors busy, the clock tells of them and not of this one.
    if os.getloadavg()[0] < (os.cpu_count() or 1) / 2:
        assert min(walls) < 0.5


def test_building_twice_gives_the_same_digest(
    tmp_path: Path, kobuild: Kobuild, upstream: Upstream, loads: Loads, registry: DockerRegistry
) -> None:
    publish(upstream, loads)
    put_base(loads, registry)
    kobuild.environ.update(upstream.environ)
    kobuild.settings(SETTINGS.format(host=registry.host))

    first = kobuild.ok("build", "--output", "oci:one").out
    other = {"KOBUILD_CACHE_DIR": str(tmp_path / "another-cache"), "TZ": "Asia/Tokyo"}
    second = kobuild.ok("build", "--output", "oci:two", environ=other).out

    assert first.partition("@")[2] == second.partition("@")[2] != ""
    assert kobuild.ok("verify", "oci:two", "--rebuild", environ=other).code == 0
