"""Everything that a build can become, read back by other programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commandline import Kobuild
from tests.support.engines import Engines, run
from tests.support.programs import require_program
from tests.support.registry import DockerRegistry, run_registry, skopeo
from tests.support.schemas import check_schema

SCRATCH = """
[image]
base        = "scratch"
target      = "{target}"
platforms   = {platforms}
entrypoint  = ["/opt/hello"]
user        = "1000:1000"
expose      = [8080]
volumes     = ["/data"]
stop-signal = "SIGINT"
labels      = {{ "org.example.team" = "ci" }}
annotations = {{ "org.opencontainers.image.title" = "hello" }}

[tools.hello]
source = "path:hello-{{arch}}"
root   = "/opt"
rename = "hello"
"""


def write_settings(kobuild: Kobuild, *, target: str = "localhost:1/a/b:c", platforms: str = '["linux/amd64"]') -> None:
    for arch in ("amd64", "arm64"):
        (kobuild.folder / f"hello-{arch}").write_bytes(b"\x7fELF hello on " + arch.encode())
    kobuild.settings(SCRATCH.format(target=target, platforms=platforms))


def test_a_layout_has_the_whole_config_and_fits_the_schemas(kobuild: Kobuild) -> None:
    write_settings(kobuild)
    kobuild.ok("build")
    layout = kobuild.folder / "dist" / "image"
    raw_index = (layout / "index.json").read_bytes()
    (entry,) = json.loads(raw_index)["manifests"]
    raw_manifest = (layout / "blobs/sha256" / entry["digest"][7:]).read_bytes()
    manifest = json.loads(raw_manifest)
    raw_config = (layout / "blobs/sha256" / manifest["config"]["digest"][7:]).read_bytes()
    config = json.loads(raw_config)
    assert config["config"] == {
        "Entrypoint": ["/opt/hello"],
        "User": "1000:1000",
        "ExposedPorts": {"8080/tcp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
        "Labels": {"org.example.team": "ci"},
    }
    assert manifest["annotations"] == {"org.opencontainers.image.title": "hello"}
    check_schema(raw_index, "image-index-schema.json")
    check_schema(raw_manifest, "image-manifest-schema.json")
    check_schema(raw_config, "config-schema.json")


def test_several_platforms_make_an_index(kobuild: Kobuild, registry: DockerRegistry) -> None:
    write_settings(kobuild, target=f"{registry.host}/a/b:c", platforms='["linux/amd64", "linux/arm64"]')
    built = kobuild.ok("build", "--json").json
    assert [item["platform"] for item in built["platforms"]] == ["linux/amd64", "linux/arm64"]
    kobuild.ok("verify")
    assert kobuild.ok("push").out == f"{registry.host}/a/b:c@{built['digest']}\n"
    kobuild.ok("verify", f"{registry.host}/a/b:c")
    for arch in ("amd64", "arm64"):
        override = f"--override-arch={arch}"
        found = json.loads(skopeo(override, "inspect", "--tls-verify=false", f"docker://{registry.host}/a/b:c"))
        assert found["Architecture"] == arch


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_archives_are_read_by_skopeo_and_by_verify(tmp_path: Path, kobuild: Kobuild, transport: str) -> None:
    write_settings(kobuild)
    require_program("skopeo")
    kobuild.ok("build", "--output", f"{transport}:image.tar")
    built = kobuild.ok("build", "--json").json
    archive = kobuild.folder / "image.tar"
    config = run("skopeo", "inspect", "--raw", "--config", f"{transport}:{archive}")
    assert json.loads(config)["config"]["Entrypoint"] == ["/opt/hello"]
    kobuild.ok("verify", f"{transport}:image.tar")
    run("skopeo", "copy", f"{transport}:{archive}", f"oci:{tmp_path / 'copied'}:x")
    copied = run("skopeo", "inspect", "--config", f"oci:{tmp_path / 'copied'}:x", "--raw")
    assert json.loads(copied)["rootfs"]["diff_ids"] == [built["platforms"][0]["layers"][0]["diff_id"]]


def test_two_builds_of_one_archive_are_the_same_bytes(kobuild: Kobuild) -> None:
    write_settings(kobuild)
    kobuild.ok("build", "--output", "oci-archive:one.tar")
    kobuild.ok("build", "--output", "oci-archive:two.tar")
    assert (kobuild.folder / "one.tar").read_bytes() == (kobuild.folder / "two.tar").read_bytes()


def test_a_docker_base_stays_docker_and_its_layers_stream_across_registries(
    tmp_path: Path, kobuild: Kobuild, registry: DockerRegistry
) -> None:
    write_settings(kobuild, target="localhost:1/base:1")
    kobuild.ok("build", "--cache-dir", str(tmp_path / "cache-of-the-base"))
    layout = kobuild.folder / "dist" / "image"
    with run_registry(tmp_path / "other") as other:
        require_program("skopeo")
        plain = "--dest-tls-verify=false"
        run("skopeo", "copy", plain, "--format=v2s2", f"oci:{layout}", f"docker://{other.host}/base:1")
        text = (kobuild.folder / "kobuild.toml").read_text().replace('"scratch"', f'"{other.host}/base:1"')
        kobuild.settings(text.replace("localhost:1/base:1", f"{registry.host}/a/b:c").replace('"/opt"', '"/srv"'))
        kobuild.ok("push")
        base = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{other.host}/base:1"))
        kobuild.ok("verify", f"{registry.host}/a/b:c", "--rebuild")
    raw = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/a/b:c"))
    assert raw["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert {layer["mediaType"] for layer in raw["layers"]} == {"application/vnd.docker.image.rootfs.diff.tar.gzip"}
    assert raw["layers"][0]["digest"] == base["layers"][0]["digest"]
    assert len(raw["layers"]) == 2
    # Nothing of the base's layer was kept on the way.
    assert raw["layers"][0]["digest"][7:] not in kobuild.cached_blobs()


def test_zstd_turns_a_docker_base_into_oci(kobuild: Kobuild, registry: DockerRegistry) -> None:
    write_settings(kobuild, target=f"{registry.host}/base:1")
    kobuild.ok("build")
    require_program("skopeo")
    plain = "--dest-tls-verify=false"
    source = f"oci:{kobuild.folder / 'dist' / 'image'}"
    run("skopeo", "copy", plain, "--format=v2s2", source, f"docker://{registry.host}/base:1")
    text = (kobuild.folder / "kobuild.toml").read_text().replace('"scratch"', f'"{registry.host}/base:1"')
    kobuild.settings(text.replace("[image]", '[image]\ncompression = "zstd"').replace('"/opt"', '"/srv"'))
    kobuild.ok("build")
    kobuild.ok("verify")
    raw = json.loads(run("skopeo", "inspect", "--raw", source))
    assert raw["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert [layer["mediaType"].rpartition("+")[2] for layer in raw["layers"]] == ["gzip", "zstd"]
    assert {layer["mediaType"].partition("+")[0] for layer in raw["layers"]} == {
        "application/vnd.oci.image.layer.v1.tar"
    }


def test_a_directory_gives_the_same_image_id_whatever_the_umask_the_clock_and_the_order(
    tmp_path: Path, kobuild: Kobuild
) -> None:
    digests = set()
    for number, (umask, names) in enumerate([(0o022, ["a", "b", "c"]), (0o077, ["c", "a", "b"])]):
        folder = kobuild.folder / "tree"
        before = os.umask(umask)
        try:
            folder.mkdir()
            for name in names:
                (folder / name).write_text(name)
                os.utime(folder / name, (1_700_000_000 + number, 1_700_000_000 + number))
        finally:
            os.umask(before)
        kobuild.settings('[image]\nbase = "scratch"\n[tools.tree]\nsource = "path:tree"\nroot = "/srv"\n')
        digests.add(kobuild.ok("build", "--json", "--cache-dir", str(tmp_path / f"cache-{number}")).json["digest"])
        run("rm", "-r", str(folder))
    assert len(digests) == 1


def test_the_image_runs(tmp_path: Path, kobuild: Kobuild) -> None:
    """A static program in an image from nothing."""
    require_program("gcc")
    (kobuild.folder / "hello.c").write_text('#include <stdio.h>\nint main(void) { puts("hello from scratch"); }\n')
    run("gcc", "-static", "-o", str(kobuild.folder / "hello"), str(kobuild.folder / "hello.c"))
    kobuild.settings('[image]\nbase = "scratch"\n[tools.hello]\nsource = "path:hello"\nroot = "/bin"\n')
    kobuild.ok("build")
    layout = kobuild.folder / "dist" / "image"
    assert Engines(tmp_path / "engines").buildah_run(f"oci:{layout}", "/bin/hello") == "hello from scratch\n"


def test_source_date_epoch_is_the_time_of_everything_without_one(kobuild: Kobuild) -> None:
    write_settings(kobuild)
    kobuild.ok("build", environ={"SOURCE_DATE_EPOCH": "1600000000"})
    require_program("skopeo")
    config = json.loads(run("skopeo", "inspect", "--config", f"oci:{kobuild.folder / 'dist' / 'image'}"))
    assert config["created"] == "2020-09-13T12:26:40Z"
    done = kobuild.run("build", environ={"SOURCE_DATE_EPOCH": "yesterday"})
    assert done.code == 2
    assert "SOURCE_DATE_EPOCH" in done.err


def test_results_are_one_line_each_and_everything_else_is_on_stderr(kobuild: Kobuild) -> None:
    write_settings(kobuild)
    done = kobuild.ok("build")
    assert done.out.startswith("oci:dist/image@sha256:")
    assert done.out.count("\n") == 1
    assert "hello" in done.err
    assert "\x1b" not in done.err
    assert kobuild.ok("build", "--quiet").err == ""


def test_a_terminal_gets_bars_and_a_log_gets_none(kobuild: Kobuild) -> None:
    write_settings(kobuild)
    command = f"{sys.executable} -m kobuild build"
    require_program("script")
    environ = {**kobuild.variables({"TERM": "xterm-256color"})}
    environ.pop("CI", None)
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        cwd=kobuild.folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout
    assert "\x1b[" in done.stdout
    assert "oci:dist/image@sha256:" in done.stdout


def test_tags_may_be_kept_from_moving(kobuild: Kobuild, registry: DockerRegistry) -> None:
    write_settings(kobuild, target=f"{registry.host}/a/b:c")
    first = kobuild.ok("push", "--keep-tags").out
    assert kobuild.ok("push", "--keep-tags").out == first, "where it points at the image, it need not move"
    text = (kobuild.folder / "kobuild.toml").read_text()
    kobuild.settings(text.replace("hello", "other", 1).replace('"1000:1000"', '"2000:2000"'))
    registry.forget()
    done = kobuild.run("push", "--keep-tags")
    assert done.code == 1
    assert "is not to be moved" in done.err
    assert "without --keep-tags" in done.err
    assert {method for method, _, _ in registry.requests()} <= {"GET", "HEAD"}, "nothing was sent"
    assert kobuild.ok("push", "--keep-tags", "--tag", "d").out != first
    assert kobuild.ok("push").out != first
