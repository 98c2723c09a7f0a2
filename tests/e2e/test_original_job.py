"""The job that kobuild began with: Go and ko on a base image, from upstream's own servers to a registry.

Real archives over real HTTP, a real Debian base in a real docker-registry, and four other programs that read what was
pushed.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commandline import Kobuild
from tests.support.engines import Engines, run
from tests.support.loads import GO_VERSION, KO_VERSION, Loads
from tests.support.programs import require_program
from tests.support.registry import PASSWORD, USERNAME, DockerRegistry, run_registry
from tests.support.upstream import Upstream

pytestmark = pytest.mark.xdist_group("original-job")


@pytest.fixture(params=["open", "htpasswd"])
def login(request: pytest.FixtureRequest) -> str | None:
    return f"{USERNAME}:{PASSWORD}" if request.param == "htpasswd" else None


@pytest.fixture
def shop(tmp_path: Path, login: str | None) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path / "registry", htpasswd=login is not None) as registry:
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


def put_base(loads: Loads, registry: DockerRegistry, login: str | None) -> str:
    require_program("skopeo")
    credentials = ["--dest-creds", login] if login else []
    target = f"{registry.host}/debian:bookworm"
    source = f"oci:{loads.debian_layout()}:bookworm"
    run("skopeo", "copy", "--dest-tls-verify=false", *credentials, source, f"docker://{target}")
    return target


def log_in(tmp_path: Path, registry: DockerRegistry, login: str | None) -> None:
    """What `docker login` writes."""
    if login is not None:
        folder = tmp_path / "docker-config"
        folder.mkdir(exist_ok=True)
        auth = base64.b64encode(login.encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))


SETTINGS = """
[image]
base    = "{host}/debian:bookworm"
target  = ["{host}/ci/ko:latest", "{host}/ci/ko:v1"]
workdir = "/workspace"
path    = ["/usr/local/go/bin"]
env     = {{ CGO_ENABLED = "0", GOFLAGS = "-trimpath" }}

[tools.go]
source  = "go"
version = "~=1.27.0"
root    = "/usr/local"

[tools.ko]
source  = "github:ko-build/ko"
version = ">=0.15,<1"
root    = "/usr/local/bin"
only    = ["ko"]
"""


def test_go_and_ko_on_debian_pushed_and_read_by_everyone(
    tmp_path: Path, kobuild: Kobuild, upstream: Upstream, loads: Loads, shop: DockerRegistry, login: str | None
) -> None:
    publish(upstream, loads)
    put_base(loads, shop, login)
    log_in(tmp_path, shop, login)
    kobuild.environ.update(upstream.environ)
    kobuild.settings(SETTINGS.format(host=shop.host))
    shop.forget()

    pushed = kobuild.ok("push", "--json").json

    digest = pushed["digest"]
    assert pushed["images"] == [f"{shop.host}/ci/ko:latest@{digest}", f"{shop.host}/ci/ko:v1@{digest}"]
    (platform,) = pushed["platforms"]
    assert [(layer["tool"], layer["version"]) for layer in platform["layers"]] == [
        ("go", GO_VERSION),
        ("ko", KO_VERSION),
    ]
    # The base's layers were mounted: nothing of it was downloaded but its manifest and config.
    base_config = json.loads(run("skopeo", "inspect", "--raw", "--config", f"oci:{loads.debian_layout()}:bookworm"))
    assert len(base_config["rootfs"]["diff_ids"]) == platform["base_layers"] == 1
    fetched = [target for method, target, _ in shop.requests() if method == "GET" and "/debian/blobs/" in target]
    assert len(set(fetched)) == 1
    assert any("mount=" in target and status == 201 for _, target, status in shop.requests())

    engines = Engines(tmp_path / "engines", login)
    reference = f"{shop.host}/ci/ko:latest"
    assert f"go version go{GO_VERSION} linux/amd64" in engines.buildah_run(f"docker://{reference}", "go", "version")
    assert "usage: gofmt" in engines.buildah_run(f"docker://{reference}", "sh", "-c", "ko -h 2>&1 || true")
    assert engines.podman_pull(reference) == platform["image_id"].removeprefix("sha256:")

    rootfs = engines.umoci_unpack(engines.skopeo_pull(reference), "pulled")
    assert (rootfs / "usr/local/go/VERSION").read_text().startswith(f"go{GO_VERSION}")
    assert (rootfs / "usr/local/bin/ko").stat().st_mode & 0o777 == 0o755
    assert not (rootfs / "usr/local/bin/README.md").exists()
    assert (rootfs / "bin").is_symlink()

    inspected = json.loads(
        run("skopeo", "inspect", "--config", f"oci:{tmp_path / 'engines' / 'skopeo'}:pulled"),
    )
    assert inspected["config"]["WorkingDir"] == "/workspace"
    environment = dict(item.split("=", 1) for item in inspected["config"]["Env"])
    assert environment["PATH"].startswith("/usr/local/go/bin:/usr/local/sbin:")
    assert (environment["CGO_ENABLED"], environment["GOFLAGS"]) == ("0", "-trimpath")

    kobuild.ok("verify", reference)


def test_a_push_with_nothing_new_uploads_nothing_and_is_quick(
    kobuild: Kobuild, upstream: Upstream, loads: Loads, registry: DockerRegistry
) -> None:
    publish(upstream, loads)
    put_base(loads, registry, None)
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
    put_base(loads, registry, None)
    kobuild.environ.update(upstream.environ)
    kobuild.settings(SETTINGS.format(host=registry.host))

    first = kobuild.ok("build", "--output", "oci:one").out
    other = {"KOBUILD_CACHE_DIR": str(tmp_path / "another-cache"), "TZ": "Asia/Tokyo"}
    second = kobuild.ok("build", "--output", "oci:two", environ=other).out

    assert first.partition("@")[2] == second.partition("@")[2] != ""
    assert kobuild.ok("verify", "oci:two", "--rebuild", environ=other).code == 0
