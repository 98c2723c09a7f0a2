"""One cache: damage is found and mended in the same run, many processes share it, and nothing is done twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import Entry, make_tar_gz, make_zip
from tests.support.commandline import Kobuild
from tests.support.registry import DockerRegistry
from tests.support.upstream import Upstream

SETTINGS = """
[image]
base   = "scratch"
target = "{target}"

[tools.one]
source  = "github:a/one"
version = "{one}"
root    = "/opt"

[tools.two]
source  = "github:a/two"
version = "==2.0"
root    = "/srv"
"""


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress, the same each time."""
    value, parts = seed, []
    for _ in range(size // 8):
        value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
        parts.append(value.to_bytes(8, "little"))
    return b"".join(parts)


def publish(upstream: Upstream) -> None:
    for name, versions in {"one": ("1.0", "1.1"), "two": ("2.0",)}.items():
        for version in versions:
            content = noise(300_000, len(name + version)) + f"{name} {version}".encode()
            archive = make_tar_gz([Entry(f"{name}/program", content, mode=0o755)])
            upstream.add_github_release(f"a/{name}", f"v{version}", {f"{name}_linux_amd64.tar.gz": archive})


@pytest.fixture
def project(kobuild: Kobuild, upstream: Upstream) -> Kobuild:
    """Two tools from upstream on nothing."""
    publish(upstream)
    kobuild.environ.update(upstream.environ)
    kobuild.settings(SETTINGS.format(target="localhost:1/a/b:c", one="==1.0"))
    return kobuild


def blob(kobuild: Kobuild, digest: str) -> Path:
    return kobuild.cache / "blobs" / "sha256" / digest.removeprefix("sha256:")


def damage(path: Path) -> None:
    """Change one byte in the middle, and nothing else: neither the size nor the time."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        (byte,) = file.read(1)
        file.seek(status.st_size // 2)
        file.write(bytes([byte ^ 0x10]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def downloads(upstream: Upstream) -> int:
    return sum(item.method == "GET" and item.path.startswith("/release-assets/") for item in upstream.requests)


def test_a_registry_is_asked_once_for_each_document_of_the_base(project: Kobuild, registry: DockerRegistry) -> None:
    base = f"{registry.host}/a/base:1"
    project.ok("push", "--target", base)
    project.settings(SETTINGS.format(target="localhost:1/a/b:c", one="==1.0").replace("scratch", base))
    registry.forget()
    project.ok("build")
    asked = [path.rpartition("/")[2] for method, path, _ in registry.requests() if method == "GET" and path != "/v2/"]
    assert len(asked) == 2, "the manifest by its tag, and the config"
    project.ok("build", "--offline", "--output", "oci:other")


def test_a_damaged_layer_is_made_again_while_it_is_written_to_a_layout(project: Kobuild, upstream: Upstream) -> None:
    built = project.ok("build", "--json").json
    upstream.requests.clear()
    for layer in built["platforms"][0]["layers"]:
        damage(blob(project, layer["digest"]))

    again = project.ok("build", "--json", "--output", "oci:other")

    assert again.json["digest"] == built["digest"]
    assert "is damaged and has been removed; making it again" in again.err
    assert [layer["cached"] for layer in again.json["platforms"][0]["layers"]] != [True, True]
    assert downloads(upstream) == 0
    project.ok("verify", "oci:other")
    assert "none damaged" in project.ok("cache", "verify").out


def test_a_damaged_layer_is_made_again_while_it_is_pushed(project: Kobuild, registry: DockerRegistry) -> None:
    built = project.ok("build", "--json").json
    damage(blob(project, built["platforms"][0]["layers"][1]["digest"]))
    target = f"{registry.host}/a/b:c"

    pushed = project.ok("push", "--json", "--target", target)

    assert pushed.json["digest"] == built["digest"]
    assert "making it again" in pushed.err
    assert sum(method == "PUT" and "/manifests/" in path for method, path, _ in registry.requests()) == 1
    project.ok("verify", target)


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_a_damaged_download_is_fetched_again(project: Kobuild, upstream: Upstream, kind: str) -> None:
    if kind == "zip":
        archive = make_zip([("program", noise(200_000), 0o100755)])
        upstream.add_github_release("a/one", "v1.2", {"one_linux_amd64.zip": archive})
        project.settings(SETTINGS.format(target="localhost:1/a/b:c", one="==1.2"))
    built = project.ok("build", "--json").json
    layer = built["platforms"][0]["layers"][0]["digest"]
    for name in project.cached_blobs() - {item["digest"][7:] for item in built["platforms"][0]["layers"]}:
        damage(project.cache / "blobs" / "sha256" / name)
    blob(project, layer).unlink()
    upstream.requests.clear()

    again = project.ok("build", "--json", "--output", "oci:other")

    assert again.json["digest"] == built["digest"]
    assert "the cache's copy of one_linux_amd64" in again.err
    assert downloads(upstream) == 1


def test_offline_a_damaged_download_is_a_clear_error(project: Kobuild) -> None:
    built = project.ok("build", "--json").json
    for name in project.cached_blobs():
        damage(project.cache / "blobs" / "sha256" / name)
    blob(project, built["platforms"][0]["layers"][0]["digest"]).unlink()
    done = project.run("build", "--offline", "--output", "oci:other")
    assert done.code == 1
    assert "--offline forbids to fetch" in done.err
    assert "Traceback" not in done.err


def test_four_processes_at_once_make_each_layer_once(project: Kobuild, upstream: Upstream) -> None:
    project.ok("resolve")
    runs = [project.start("build", "--json", "--output", f"oci:out-{number}") for number in range(4)]
    ended = [(run.communicate(), run.returncode) for run in runs]

    assert [code for _, code in ended] == [0] * 4, [texts[1] for texts, _ in ended]
    results = [json_of(texts[0]) for texts, _ in ended]
    assert len({result["digest"] for result in results}) == 1
    made = [layer for result in results for layer in result["platforms"][0]["layers"] if not layer["cached"]]
    assert sorted(layer["tool"] for layer in made) == ["one", "two"]
    assert downloads(upstream) == 2
    assert len(project.cached_blobs()) == 4
    assert list((project.cache / "partial").iterdir()) == []


def test_a_build_survives_pruning_beside_it(project: Kobuild) -> None:
    first = project.ok("build", "--json").json
    pruners = [project.start("cache", "prune", "--all") for _ in range(3)]
    builders = [project.start("build", "--json", "--output", f"oci:out-{number}") for number in range(2)]
    ended = [(run.communicate(), run.returncode) for run in builders + pruners]
    for texts, code in ended:
        assert "Traceback" not in texts[1]
        assert "this is a bug" not in texts[1]
        assert code == 0, texts[1]
    assert {json_of(texts[0])["digest"] for texts, _ in ended[:2]} == {first["digest"]}


def test_a_changed_pin_costs_only_its_own_layer(project: Kobuild, upstream: Upstream) -> None:
    first = project.ok("build", "--json").json["platforms"][0]["layers"]
    before = project.cached_blobs()
    upstream.requests.clear()
    project.settings(SETTINGS.format(target="localhost:1/a/b:c", one="==1.1"))

    second = project.ok("build", "--json").json["platforms"][0]["layers"]

    assert [layer["cached"] for layer in second] == [False, True]
    assert downloads(upstream) == 1
    assert len(project.cached_blobs() - before) == 2  # one download, one layer
    assert first[1] | {"cached": True} == second[1]
    # And back: nothing at all is fetched or made.
    upstream.requests.clear()
    project.settings(SETTINGS.format(target="localhost:1/a/b:c", one="==1.0"))
    third = project.ok("build", "--json").json["platforms"][0]["layers"]
    assert [layer["cached"] for layer in third] == [True, True]
    assert downloads(upstream) == 0


def test_the_cache_tells_its_size_by_kind(project: Kobuild) -> None:
    layers = project.ok("build", "--json").json["platforms"][0]["layers"]
    shown = project.ok("cache", "--json").json
    kinds = shown["kinds"]
    assert kinds["layers"] == {"files": 2, "size": sum(layer["size"] for layer in layers)}
    assert kinds["downloads"]["files"] == 2
    assert kinds["base_blobs"] == {"files": 0, "size": 0}
    assert kinds["partial"] == {"files": 0, "size": 0}
    assert shown["size"] == sum(kind["size"] for kind in kinds.values())
    text = project.ok("cache").out
    assert text.splitlines()[0] == str(project.cache)
    assert "downloads" in text


def test_a_base_from_a_registry_is_of_its_own_kind(project: Kobuild, registry: DockerRegistry, tmp_path: Path) -> None:
    base = f"{registry.host}/base:1"
    project.ok("push", "--target", base, "--cache-dir", str(tmp_path / "elsewhere"))
    text = (project.folder / "kobuild.toml").read_text().replace('"scratch"', f'"{base}"')
    project.settings(text.replace('root    = "/', 'root    = "/usr/local/'))
    project.ok("build")
    kinds = project.ok("cache", "--json").json["kinds"]
    assert kinds["base_blobs"]["files"] == 4  # manifest, config and two layers
    assert kinds["layers"]["files"] == 2


def test_pruning_takes_the_least_recently_used_first_and_tells_before(project: Kobuild) -> None:
    layers = project.ok("build", "--json").json["platforms"][0]["layers"]
    old = blob(project, layers[0]["digest"])
    os.utime(old, (1_700_000_000, 1_700_000_000))
    for path in (project.cache / "records" / "layers").iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    dry = project.ok("cache", "prune", "--max-age", "30d", "--dry-run", "--json").json
    assert f"blobs/sha256/{old.name}" in dry["removed"]["paths"]
    assert old.exists()
    done = project.ok("cache", "prune", "--max-age", "30d")
    assert done.out.startswith("removed 2 files, ")
    assert not old.exists()
    again = project.ok("build", "--json", "--output", "oci:other").json["platforms"][0]["layers"]
    assert [layer["cached"] for layer in again] == [False, True]
    project.ok("cache", "prune", "--all")
    assert project.cached_blobs() == set()


def test_what_the_cache_command_cannot_do_is_said(kobuild: Kobuild) -> None:
    for arguments, text in (
        (("prune", "--max-age", "30"), "expected a span of time with a unit"),
        (("prune", "--max-size", "ten"), "expected a size"),
        (("verify", "--dry-run"), "--dry-run is for `kobuild cache prune`"),
        (("--all",), "--all is for `kobuild cache prune`"),
    ):
        done = kobuild.run("cache", *arguments)
        assert done.code == 2
        assert text in done.err


def json_of(text: str) -> Any:
    return json.loads(text)
