"""A base's other platforms and annotations: dropped or kept, as the settings say; skopeo reads what came of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.oci import jsonio
from kobuild.oci.descriptor import Descriptor
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Family
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.registry import AnonymousKeychain, RegistryClient
from kobuild.transport import Transport
from tests.support.commandline import Kobuild
from tests.support.images import AMD64, ARM64, make_image, make_layer, make_tar, random_image
from tests.support.registry import DockerRegistry, run_registry, skopeo

S390X = Platform("linux", "s390x")
KEEP = 'other-platforms = "keep"\nbase-annotations = "keep"'


def base_image(platform: Platform, version: str) -> Image:
    image = make_image([make_layer(make_tar({"etc/version": f"{version} {platform}".encode()}))], platform=platform)
    document = {**jsonio.parse_object(image.manifest.raw, "base"), "annotations": {"of": "the base", "note": "base"}}
    return dataclasses.replace(image, manifest=Manifest.from_bytes(jsonio.canonical(document)))


def publish(host: str, version: str = "1") -> list[Descriptor]:
    """Push a base for three platforms; returns their descriptors."""
    images = [base_image(platform, version) for platform in (AMD64, ARM64, S390X)]
    transport = Transport()
    client = RegistryClient(transport, AnonymousKeychain())
    notes = {"index": "of the base", "note": "base"}
    client.push(gather(images, annotations=notes), [Reference.parse(f"{host}/team/base:1")])
    transport.close()
    return [image.descriptor for image in images]


def write_settings(kobuild: Kobuild, registry: DockerRegistry, base_host: str, more: str = "") -> str:
    target = f"{registry.host}/team/ci:1"
    (kobuild.folder / "hello").write_bytes(b"\x7fELF hello")
    kobuild.settings(f"""
[image]
base = "{base_host}/team/base:1"
target = "{target}"
annotations = {{ note = "ours" }}
{more}
[tools.hello]
source = "path:hello"
root = "/opt"
""")
    return target


def raw(place: str) -> Any:
    return json.loads(skopeo("inspect", "--raw", "--tls-verify=false", place))


def index_digest(target: str) -> str:
    text = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{target}")
    return Digest.of(text.encode()).hex


def platforms_of(index: Any) -> list[str]:
    return [entry["platform"]["architecture"] for entry in index["manifests"]]


def test_by_default_the_image_is_for_what_was_built(kobuild: Kobuild, registry: DockerRegistry) -> None:
    publish(registry.host)
    target = write_settings(kobuild, registry, registry.host, 'platforms = ["linux/amd64", "linux/s390x"]')
    kobuild.ok("push")
    index = raw(f"docker://{target}")
    assert platforms_of(index) == ["amd64", "s390x"]
    assert index["annotations"] == {"note": "ours"}
    manifest = raw(f"docker://{registry.host}/team/ci@{index['manifests'][0]['digest']}")
    assert set(manifest["annotations"]) == {"note", *(f"org.opencontainers.image.base.{k}" for k in ("name", "digest"))}


def test_a_push_keeps_other_platforms_and_annotations(
    tmp_path: Path, kobuild: Kobuild, registry: DockerRegistry
) -> None:
    of_base = publish(registry.host)
    target = write_settings(kobuild, registry, registry.host, KEEP)
    done = kobuild.ok("push")
    assert "kept of the base: linux/arm64, linux/s390x" in done.err
    index = raw(f"docker://{target}")
    assert platforms_of(index) == ["amd64", "arm64", "s390x"]
    assert index["manifests"][1:] == [descriptor.to_json() for descriptor in of_base[1:]]
    assert index["annotations"] == {"index": "of the base", "note": "ours"}
    ours = raw(f"docker://{registry.host}/team/ci@{index['manifests'][0]['digest']}")
    assert (ours["annotations"]["of"], ours["annotations"]["note"]) == ("the base", "ours")
    # Another program takes it whole, every platform of it.
    skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{target}", f"oci:{tmp_path}/copy:1")
    kobuild.ok("verify", target)
    kobuild.ok("verify", f"oci:{tmp_path}/copy:1", "--rebuild")
    registry.forget()
    again = kobuild.ok("push", "--frozen")
    assert {method for method, _, _ in registry.requests()} <= {"GET", "HEAD"}
    assert again.out == done.out


def test_the_bases_blobs_are_mounted_and_a_part_of_the_platforms_keeps_the_same(
    kobuild: Kobuild, registry: DockerRegistry
) -> None:
    publish(registry.host)
    more = f'platforms = ["linux/amd64", "linux/arm64"]\n{KEEP}'
    target = write_settings(kobuild, registry, registry.host, more)
    done = kobuild.ok("push", "--platform", "linux/amd64")
    # Two layers and the config of the platform that is kept.
    assert "mounted 3" in done.err
    index = raw(f"docker://{target}")
    assert platforms_of(index) == ["amd64", "s390x"], "arm64 is ours to build: the base's has not our tools"


@pytest.mark.parametrize("output", ["oci:out", "oci-archive:out.tar"])
def test_layouts_and_archives_hold_them_too(
    tmp_path: Path, kobuild: Kobuild, registry: DockerRegistry, output: str
) -> None:
    with run_registry(tmp_path / "other") as other:
        of_base = publish(other.host)
        target = write_settings(kobuild, registry, other.host, KEEP)
        kobuild.ok("build", "--output", output)
        pushed = kobuild.ok("push", "--json").json
        assert [item["digest"] for item in pushed["kept"]] == [str(item.digest) for item in of_base[1:]]
    # The registry of the base is gone: all that it takes is in the cache, and the same comes out.
    kobuild.ok("build", "--output", output, "--offline")
    kobuild.ok("verify", output, "--offline")
    kobuild.ok("verify", target)
    kind, _, path = output.partition(":")
    skopeo("copy", "--all", "--dest-tls-verify=false", f"{kind}:{kobuild.folder}/{path}", f"docker://{target}-copy")
    assert raw(f"docker://{target}-copy") == raw(f"docker://{target}")
    for platform in (ARM64, S390X):
        words = (f"--override-arch={platform.architecture}", "inspect", "--tls-verify=false")
        assert json.loads(skopeo(*words, f"docker://{target}-copy"))["Architecture"] == platform.architecture


def test_a_docker_archive_holds_what_was_built(kobuild: Kobuild, registry: DockerRegistry) -> None:
    publish(registry.host)
    write_settings(kobuild, registry, registry.host, KEEP)
    kobuild.ok("build", "--output", "docker-archive:out.tar")
    kobuild.ok("verify", "docker-archive:out.tar")


def test_verify_misses_what_should_be_kept_and_finds_what_should_not(
    kobuild: Kobuild, registry: DockerRegistry
) -> None:
    publish(registry.host)
    target = write_settings(kobuild, registry, registry.host)
    kobuild.ok("push")
    write_settings(kobuild, registry, registry.host, KEEP)
    done = kobuild.run("verify", target)
    assert done.code == 3
    assert "platforms kept of the base" in done.err
    assert "linux/s390x" in done.err
    kobuild.ok("push")
    write_settings(kobuild, registry, registry.host)
    done = kobuild.run("verify", target)
    assert "linux/amd64 alone" in done.err
    write_settings(kobuild, registry, registry.host, 'other-platforms = "keep"')
    kobuild.ok("push")
    write_settings(kobuild, registry, registry.host, KEEP)
    assert "annotation index" in kobuild.run("verify", target).err


def test_a_rebase_keeps_those_of_the_new_base(kobuild: Kobuild, registry: DockerRegistry) -> None:
    publish(registry.host)
    target = write_settings(kobuild, registry, registry.host, KEEP)
    kobuild.ok("push")
    of_base = publish(registry.host, "2")
    kobuild.ok("rebase")
    index = raw(f"docker://{target}")
    assert [entry["digest"] for entry in index["manifests"][1:]] == [str(item.digest) for item in of_base[1:]]
    kobuild.ok("verify", target)
    rebased = raw(f"docker://{target}")
    kobuild.ok("push")
    assert raw(f"docker://{target}") == rebased


def test_bills_and_statements_speak_of_what_was_built(kobuild: Kobuild, registry: DockerRegistry) -> None:
    of_base = publish(registry.host)
    target = write_settings(kobuild, registry, registry.host, KEEP)
    kobuild.ok("push")
    attached = [item["subject"] for item in kobuild.ok("sbom", "--attach", "--json", target).json["attached"]]
    assert len(attached) == 2, "the index and the one image that was built"
    assert not {str(descriptor.digest) for descriptor in of_base} & set(attached)
    statement = kobuild.ok("provenance", target).json
    assert statement["subject"][0]["digest"]["sha256"] == index_digest(target)
    done = kobuild.run("sbom", "--platform", "linux/s390x", target)
    assert done.code == 2
    assert "nothing was built here" in done.err


def test_zstd_on_a_docker_base_turns_what_is_kept_into_oci_too(
    tmp_path: Path, kobuild: Kobuild, registry: DockerRegistry
) -> None:
    transport = Transport()
    images = [random_image(n, family=Family.DOCKER, platform=item) for n, item in enumerate((AMD64, S390X))]
    place = Reference.parse(f"{registry.host}/team/base:1")
    RegistryClient(transport, AnonymousKeychain()).push(gather(images), [place])
    transport.close()
    assert raw(f"docker://{place}")["mediaType"] == Family.DOCKER.index
    target = write_settings(kobuild, registry, registry.host, 'other-platforms = "keep"\ncompression = "zstd"')
    kobuild.ok("push")
    index = raw(f"docker://{target}")
    assert (index["mediaType"], platforms_of(index)) == (Family.OCI.index, ["amd64", "s390x"])
    assert {entry["mediaType"] for entry in index["manifests"]} == {Family.OCI.manifest}
    kept = raw(f"docker://{registry.host}/team/ci@{index['manifests'][1]['digest']}")
    assert kept["config"]["digest"] == str(images[1].config.digest), "the image ID is the same"
    skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{target}", f"oci:{tmp_path}/copy:1")
    kobuild.ok("verify", target)
