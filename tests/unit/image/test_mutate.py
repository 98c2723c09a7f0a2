"""Edits of images: what changes, what stays, and in which family."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from kobuild.errors import BaseError
from kobuild.image.image import Image
from kobuild.image.mutate import Addition, ConfigEdits, append_layers, as_oci, base_annotations, gather, with_config
from kobuild.oci import mediatypes
from kobuild.oci.config import ImageConfig
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Compression, Family
from kobuild.oci.platforms import Platform
from tests.support.images import AMD64, ARM64, make_image, make_layer, make_tar, random_image

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def addition(name: str = "tool", **options: Any) -> Addition:
    return Addition(make_layer(make_tar({name: b"x"}), **options), f"kobuild: {name} 1.0 under /")


def document(image: Image) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(image.config.raw)
    return value


def check_consistent(image: Image) -> None:
    assert image.manifest.config.digest == image.config.digest
    assert image.manifest.layers == tuple(layer.descriptor for layer in image.layers)
    assert image.config.diff_ids == tuple(layer.diff_id for layer in image.layers)
    families = {Family.of(item.media_type) for item in (*image.manifest.layers, image.manifest.config)}
    assert families == {image.manifest.family}


def test_layers_go_on_top_with_a_line_of_history_each() -> None:
    base = random_image(1)
    image = append_layers(base, [addition("go"), addition("ko")], created=MOMENT)
    check_consistent(image)
    assert image.layers[:2] == base.layers
    assert image.config.history[:2] == base.config.history
    assert image.config.history[2:] == (
        {"created": "2026-01-02T03:04:05Z", "created_by": "kobuild: go 1.0 under /"},
        {"created": "2026-01-02T03:04:05Z", "created_by": "kobuild: ko 1.0 under /"},
    )
    assert image.config.created == MOMENT
    assert len(base.layers) == 2


def test_scratch_takes_layers() -> None:
    image = append_layers(Image.empty(ARM64), [addition()], created=MOMENT)
    check_consistent(image)
    assert image.platform == ARM64
    assert len(image.config.history) == 1


def test_two_layers_may_be_the_same() -> None:
    image = append_layers(Image.empty(AMD64), [addition(), addition()], created=MOMENT)
    check_consistent(image)
    assert len(image.layers) == 2
    assert len(image.blobs) == 2


def test_history_that_does_not_match_is_left_as_it_is() -> None:
    base = random_image(1)
    value = document(base)
    value["history"] = [{"created_by": "squashed"}, {"empty_layer": True}, {"x": 1}, {"y": 2}]
    odd = replace(base, config=ImageConfig.from_value(value))
    image = append_layers(odd, [addition()], created=MOMENT)
    assert image.config.history[:4] == tuple(value["history"])
    assert len(image.config.history) == 5


def test_null_history_is_no_history() -> None:
    base = make_image(members={"history": None})
    assert len(append_layers(base, [addition()], created=MOMENT).config.history) == 1


def test_a_base_whose_config_lists_other_layers_is_refused() -> None:
    base = random_image(1)
    value = document(base)
    value["rootfs"]["diff_ids"].pop()
    with pytest.raises(BaseError, match="lists 1 layers and its manifest 2"):
        append_layers(replace(base, config=ImageConfig.from_value(value)), [addition()], created=MOMENT)


def test_unknown_members_of_the_config_survive() -> None:
    members = {"os.version": "10", "moby.buildkit.buildinfo": "zzz", "author": "Zoë \ud83d", "n": [1, 2.5, None]}
    base = make_image(config={"OnBuild": ["RUN x"], "Healthcheck": {"Test": ["CMD"]}, "Env": None}, members=members)
    image = with_config(append_layers(base, [addition()], created=MOMENT), ConfigEdits(env={"A": "1"}, workdir="/w"))
    value = document(image)
    assert {key: value[key] for key in members} == members
    assert value["config"]["OnBuild"] == ["RUN x"]
    assert value["config"]["Healthcheck"] == {"Test": ["CMD"]}


def test_no_edits_change_no_byte_of_a_canonical_config() -> None:
    base = random_image(1)
    assert with_config(base, ConfigEdits()).config.raw == base.config.raw


def test_a_docker_base_stays_docker() -> None:
    image = append_layers(random_image(1, family=Family.DOCKER), [addition()], created=MOMENT)
    check_consistent(image)
    assert image.manifest.media_type == mediatypes.DOCKER_MANIFEST
    assert image.layers[-1].descriptor.media_type == mediatypes.DOCKER_LAYER_GZIP


def test_an_oci_base_turns_dockers_layers_into_its_own() -> None:
    image = append_layers(random_image(1), [addition(family=Family.DOCKER)], created=MOMENT)
    check_consistent(image)
    assert image.manifest.media_type == mediatypes.OCI_MANIFEST


def test_zstd_turns_a_docker_base_into_oci() -> None:
    base = random_image(1, family=Family.DOCKER)
    image = append_layers(base, [addition(compression=Compression.ZSTD)], created=MOMENT)
    check_consistent(image)
    assert image.manifest.media_type == mediatypes.OCI_MANIFEST
    assert [layer.descriptor.digest for layer in image.layers[:2]] == [layer.descriptor.digest for layer in base.layers]


def test_a_base_that_mixes_families_comes_out_in_one() -> None:
    base = random_image(1, family=Family.DOCKER)
    odd = replace(base.layers[1], descriptor=replace(base.layers[1].descriptor, media_type=mediatypes.OCI_LAYER_GZIP))
    image = append_layers(replace(base, layers=(base.layers[0], odd)), [addition()], created=MOMENT)
    check_consistent(image)


def test_foreign_layers_have_a_twin_in_each_family() -> None:
    assert mediatypes.in_family(mediatypes.DOCKER_FOREIGN_LAYER, Family.DOCKER) == mediatypes.DOCKER_FOREIGN_LAYER
    twin = mediatypes.in_family(mediatypes.DOCKER_FOREIGN_LAYER, Family.OCI)
    assert twin is not None
    assert mediatypes.is_foreign(twin)
    assert mediatypes.in_family(twin, Family.DOCKER) == mediatypes.DOCKER_FOREIGN_LAYER


def test_a_layers_annotations_survive_a_change_of_family() -> None:
    layer = addition(annotations={"containerd.io/snapshot/stargz/toc.digest": "sha256:0"})
    image = append_layers(random_image(1, family=Family.DOCKER), [layer], created=MOMENT)
    assert image.manifest.layers[-1].annotations == layer.layer.descriptor.annotations


def edited(runtime: dict[str, Any], edits: ConfigEdits) -> dict[str, Any]:
    result: dict[str, Any] = document(with_config(make_image(config=runtime), edits))["config"]
    return result


def test_every_edit_is_made() -> None:
    edits = ConfigEdits(
        env={"CGO_ENABLED": "0"},
        path=("/usr/local/go/bin",),
        workdir="/workspace",
        user="1000:1000",
        entrypoint=("/bin/go",),
        cmd=("version",),
        expose=("8080/tcp",),
        volumes=("/data",),
        stop_signal="SIGINT",
        labels={"a": "b"},
    )
    assert edited({"Env": ["PATH=/bin"], "Labels": None, "Volumes": None, "ExposedPorts": {"1/udp": {}}}, edits) == {
        "Env": ["PATH=/usr/local/go/bin:/bin", "CGO_ENABLED=0"],
        "Labels": {"a": "b"},
        "Volumes": {"/data": {}},
        "ExposedPorts": {"1/udp": {}, "8080/tcp": {}},
        "Entrypoint": ["/bin/go"],
        "Cmd": ["version"],
        "WorkingDir": "/workspace",
        "User": "1000:1000",
        "StopSignal": "SIGINT",
    }


@pytest.mark.parametrize(
    ("edits", "entrypoint", "cmd"),
    [
        (ConfigEdits(), ["/old"], ["arg"]),
        (ConfigEdits(entrypoint=("/new",)), ["/new"], None),
        (ConfigEdits(entrypoint=("/new",), cmd=("x",)), ["/new"], ["x"]),
        (ConfigEdits(cmd=("x",)), ["/old"], ["x"]),
        (ConfigEdits(cmd=()), ["/old"], None),
        (ConfigEdits(entrypoint=()), None, None),
    ],
)
def test_an_entrypoint_drops_the_bases_cmd(edits: ConfigEdits, entrypoint: object, cmd: object) -> None:
    runtime = edited({"Entrypoint": ["/old"], "Cmd": ["arg"]}, edits)
    assert (runtime.get("Entrypoint"), runtime.get("Cmd")) == (entrypoint, cmd)


def test_an_empty_string_clears() -> None:
    runtime = {"WorkingDir": "/x", "User": "root", "StopSignal": "SIGINT"}
    assert edited(runtime, ConfigEdits(workdir="", user="", stop_signal="")) == {}


def test_path_in_env_is_what_path_is_put_before() -> None:
    edits = ConfigEdits(env={"PATH": "/mine"}, path=("/go",))
    assert edited({"Env": ["PATH=/bin"]}, edits) == {"Env": ["PATH=/go:/mine"]}


def test_annotations_are_ours_alone() -> None:
    digest = Digest.of(b"base")
    base = with_config(random_image(1), ConfigEdits(annotations={"org.opencontainers.image.revision": "the base's"}))
    image = with_config(base, ConfigEdits(annotations={"z": "1", **base_annotations("debian:12", digest)}))
    assert dict(image.manifest.annotations) == {
        "org.opencontainers.image.base.digest": str(digest),
        "org.opencontainers.image.base.name": "debian:12",
        "z": "1",
    }
    assert base_annotations("scratch", None) == {}


def test_dockers_manifests_hold_no_annotations() -> None:
    image = with_config(random_image(1, family=Family.DOCKER), ConfigEdits(annotations={"a": "b"}))
    assert dict(image.manifest.annotations) == {}


def test_a_narrower_platform_is_written() -> None:
    image = with_config(random_image(1), ConfigEdits(platform=Platform("linux", "amd64", "v3")))
    assert image.platform == Platform("linux", "amd64", "v3")
    assert document(image)["variant"] == "v3"
    assert with_config(image, ConfigEdits(platform=AMD64)).platform == AMD64


def test_one_image_needs_no_index() -> None:
    image = random_image(1)
    assert gather([image]).root == image.manifest
    indexed = gather([image], indexed=True)
    assert indexed.index is not None
    assert indexed.index.manifests == (image.descriptor,)


def test_an_index_lists_the_platforms_and_keeps_its_family() -> None:
    images = [random_image(1, family=Family.DOCKER), random_image(2, platform=ARM64, family=Family.DOCKER)]
    index = gather(images).index
    assert index is not None
    assert index.media_type == mediatypes.DOCKER_MANIFEST_LIST
    assert index.platforms == (AMD64, ARM64)


def test_an_index_of_both_families_becomes_oci() -> None:
    images = gather([random_image(1), random_image(2, platform=ARM64, family=Family.DOCKER)], annotations={"a": "b"})
    assert images.index is not None
    assert images.index.media_type == mediatypes.OCI_INDEX
    assert dict(images.index.annotations) == {"a": "b"}
    for image in images.images:
        check_consistent(image)
        assert image.manifest.family is Family.OCI


def test_as_oci_keeps_the_image_id() -> None:
    image = random_image(1, family=Family.DOCKER)
    assert as_oci(image).image_id == image.image_id
