"""verify: an image as settings and lock say passes; whatever differs is found and named."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from kobuild.errors import LayoutMissing, VerificationError
from kobuild.image.image import Image
from kobuild.image.mutate import Addition, ConfigEdits, append_layers, gather, with_config
from kobuild.image.store import ImageStore
from kobuild.oci.annotations import TOOL_NAME
from kobuild.oci.config import ImageConfig
from kobuild.oci.digest import Digest
from kobuild.oci.mediatypes import Compression, Family
from kobuild.oci.platforms import Platform
from kobuild.store.dockerarchive import DockerArchive, write_docker_archive
from kobuild.store.layout import Layout
from kobuild.store.ociarchive import write_oci_archive
from kobuild.toollayers import ToolExpectation
from kobuild.verify import ImageExpectation, VerifyReport, verify
from tests.support.images import AMD64, ARM64, layout_of, make_layer, make_tar, random_image

MOMENT = datetime(2026, 1, 2, tzinfo=timezone.utc)
EDITS = ConfigEdits(
    env={"CGO_ENABLED": "0"},
    path=("/usr/local/go/bin",),
    workdir="/workspace",
    labels={"team": "ci"},
    annotations={"org.opencontainers.image.base.name": "example.com/base"},
)
GO = {"usr/local/go/": b"", "usr/local/go/bin/go": b"#!/bin/sh\n"}
KO = {"usr/local/bin/ko": b"ko itself"}


def tools() -> tuple[ToolExpectation, ...]:
    return (
        ToolExpectation("go", "/usr/local", diff_id=Digest.of(make_tar(GO))),
        ToolExpectation("ko", "/usr/local/bin", only=("ko",)),
    )


def additions(go: Mapping[str, bytes] = GO, ko: Mapping[str, bytes] = KO, **options: Any) -> list[Addition]:
    return [
        Addition(
            make_layer(make_tar(members), annotations={TOOL_NAME: name}, **options), f"kobuild: {name} 1.0 under {root}"
        )
        for name, members, root in (("go", go, "/usr/local"), ("ko", ko, "/usr/local/bin"))
    ]


def make(base: Image, layers: list[Addition] | None = None, edits: ConfigEdits = EDITS) -> Image:
    return with_config(append_layers(base, additions() if layers is None else layers, created=MOMENT), edits)


def expect(base: Image, **changes: Any) -> ImageExpectation:
    return replace(ImageExpectation(base.platform, base, EDITS, tools()), **changes)


def texts(report: VerifyReport) -> list[str]:
    return [str(finding) for finding in report.findings]


def check(folder: Path, image: Image, base: Image, **changes: Any) -> list[str]:
    """The findings in a layout of `image`, expected to be what is made from `base`."""
    return texts(verify(Layout.folder(layout_of(folder / "out", image)), [expect(base, **changes)]))


@pytest.mark.parametrize("family", Family)
def test_an_image_as_asked_passes(tmp_path: Path, family: Family) -> None:
    base = random_image(1, family=family)
    image = make(base)
    layout = Layout.folder(layout_of(tmp_path / "out", image))
    report = verify(layout, [expect(base)], rebuild=lambda _: make(base), names=["latest"])
    report.raise_for_findings()
    assert report.digest == image.manifest.digest
    assert report.blobs == 6
    [platform] = report.platforms
    assert (platform.platform, platform.image_id, platform.base_layers) == (AMD64, image.image_id, 2)
    assert [(tool.name, tool.members) for tool in platform.tools] == [("go", 2), ("ko", 1)]
    assert platform.rebuilt


def test_every_platform_is_checked(tmp_path: Path) -> None:
    bases = [random_image(1), random_image(2, platform=ARM64)]
    layout = Layout.folder(layout_of(tmp_path / "out", *(make(base) for base in bases)))
    report = verify(layout, [expect(base) for base in bases], names=["latest"])
    report.raise_for_findings()
    # Both platforms have the same tool layers, which are read once and reported for both.
    assert [[tool.members for tool in platform.tools] for platform in report.platforms] == [[2, 1], [2, 1]]


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_archives_are_checked_alike(tmp_path: Path, compression: Compression) -> None:
    base = random_image(1)
    images = gather([make(base, additions(compression=compression))])
    write_oci_archive(tmp_path / "oci.tar", images)
    write_docker_archive(tmp_path / "docker.tar", images)
    stores: list[ImageStore] = [Layout.archive(tmp_path / "oci.tar"), DockerArchive(tmp_path / "docker.tar")]
    for store in stores:
        report = verify(store, [expect(base)], rebuild=lambda _: make(base))
        report.raise_for_findings()
        assert [tool.members for tool in report.platforms[0].tools] == [2, 1]


def test_scratch_and_no_tools_pass(tmp_path: Path) -> None:
    base = Image.empty(AMD64)
    assert check(tmp_path, make(base, []), base, tools=()) == []


def test_what_differs_is_one_error_with_its_own_exit_code(tmp_path: Path) -> None:
    base = random_image(1)
    layout = Layout.folder(layout_of(tmp_path / "out", make(base, edits=replace(EDITS, workdir="/worspace"))))
    with pytest.raises(VerificationError, match='WorkingDir: expected "/workspace", found "/worspace"') as caught:
        verify(layout, [expect(base)]).raise_for_findings()
    assert caught.value.exit_code == 3


def test_no_image_at_all_is_no_difference(tmp_path: Path) -> None:
    with pytest.raises(LayoutMissing):
        verify(Layout.folder(tmp_path), [expect(random_image(1))])


# What may differ.


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        (replace(EDITS, env={"CGO_ENABLED": "1"}), 'variable CGO_ENABLED: expected "0", found "1"'),
        (replace(EDITS, env={}), 'variable CGO_ENABLED: expected "0", found nothing'),
        (replace(EDITS, env={"CGO_ENABLED": "0", "X": "y"}), 'variable X: expected nothing, found "y"'),
        (replace(EDITS, path=()), 'variable PATH: expected "/usr/local/go/bin:/usr/bin:/bin", found "/usr/bin:/bin"'),
        (replace(EDITS, user="root"), 'config.User: expected nothing, found "root"'),
        (replace(EDITS, labels={}), 'config.Labels: expected {"team": "ci"}, found nothing'),
        (replace(EDITS, entrypoint=("/x",)), 'config.Entrypoint: expected nothing, found ["/x"]'),
        (replace(EDITS, annotations={}), 'annotation org.opencontainers.image.base.name: expected "example.com/base"'),
        (replace(EDITS, platform=Platform("linux", "amd64", "v3")), "linux/amd64 alone, found linux/amd64/v3"),
    ],
)
def test_a_config_that_is_not_as_asked(tmp_path: Path, edits: ConfigEdits, expected: str) -> None:
    base = random_image(1)
    assert any(expected in text for text in check(tmp_path, make(base, edits=edits), base))


def test_the_order_of_variables_counts(tmp_path: Path) -> None:
    base = random_image(1)
    image = make(base)
    value = image.config.value()
    value["config"]["Env"].reverse()
    [finding] = check(tmp_path, swap_config(image, value), base)
    assert "config.Env: expected" in finding


def test_a_base_whose_history_does_not_fit_is_noted_and_no_more(tmp_path: Path) -> None:
    base = random_image(1)
    base = swap_config(base, {**base.config.value(), "history": []})
    report = verify(Layout.folder(layout_of(tmp_path / "out", make(base))), [expect(base)])
    report.raise_for_findings()
    assert len(report.notes) == 1


def swap_config(image: Image, value: Mapping[str, Any]) -> Image:
    """The same layers under another config, with a manifest that fits it."""
    annotations = dict(image.manifest.annotations)
    return with_config(replace(image, config=ImageConfig.from_value(value)), ConfigEdits(annotations=annotations))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda value: value["history"].pop(), "history"),
        (lambda value: value["history"].__setitem__(0, {"created_by": "evil"}), "expected the base's lines first"),
        (lambda value: value.update(author="me"), 'author: expected nothing, found "me"'),
    ],
)
def test_the_rest_of_the_config_counts(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    base = random_image(1)
    image = make(base)
    value = image.config.value()
    change(value)
    assert any(expected in text for text in check(tmp_path, swap_config(image, value), base))


def test_another_base(tmp_path: Path) -> None:
    findings = check(tmp_path, make(random_image(2)), random_image(1))
    assert sum("of the base: diff ID" in text for text in findings) == 2
    assert any(str(random_image(1).layers[0].diff_id) in text for text in findings)


def test_the_bases_layers_compressed_anew(tmp_path: Path) -> None:
    base, other = random_image(1), random_image(1, compression=Compression.NONE)
    findings = check(tmp_path, make(other), base)
    assert len(findings) == 2
    assert all("of the base: digest" in text for text in findings)


def test_a_docker_archive_cannot_tell_compression(tmp_path: Path) -> None:
    base = random_image(1)
    write_docker_archive(tmp_path / "docker.tar", gather([make(base)]))
    assert texts(verify(DockerArchive(tmp_path / "docker.tar"), [expect(base)])) == []


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_or_more_layers(tmp_path: Path, count: int) -> None:
    base = random_image(1)
    layers = [*additions(), *additions()][:count]
    findings = check(tmp_path, make(base, layers), base)
    assert any(f"layers: expected 4: 2 of the base, 2 of tools, found {2 + count}" in text for text in findings)


def test_tools_in_another_order(tmp_path: Path) -> None:
    base = random_image(1)
    findings = check(tmp_path, make(base, additions()[::-1]), base)
    assert any("expected the layer of tool go, found that of tool ko" in text for text in findings)
    assert any("expected entries under /usr/local/bin alone, found 'usr/local/go'" in text for text in findings)
    assert any('a member for "ko" of `only`' in text for text in findings)


def test_another_layer_than_the_lock_gives(tmp_path: Path) -> None:
    base = random_image(1)
    other = {**GO, "usr/local/go/bin/go": b"something else"}
    [finding] = check(tmp_path, make(base, additions(go=other)), base)
    assert f"tool go: diff ID: expected {Digest.of(make_tar(GO))} (from the locked archive)" in finding


def test_a_file_elsewhere(tmp_path: Path) -> None:
    base = random_image(1)
    [finding] = check(tmp_path, make(base, additions(ko={**KO, "etc/passwd": b"root::0:0"})), base)
    assert "tool ko: names: expected entries under /usr/local/bin alone, found 'etc/passwd'" in finding


def test_a_platform_that_is_missing_and_one_too_many(tmp_path: Path) -> None:
    bases = [random_image(1), random_image(2, platform=ARM64)]
    layout = Layout.folder(layout_of(tmp_path / "out", make(bases[0])))
    findings = texts(verify(layout, [expect(base) for base in bases]))
    assert any("platforms: expected linux/arm64, found linux/amd64" in text for text in findings)
    findings = texts(verify(layout, [expect(bases[1])]))
    assert any("platforms: expected linux/arm64 alone, found linux/amd64" in text for text in findings)


def test_an_image_that_does_not_follow_from_the_lock(tmp_path: Path) -> None:
    base = random_image(1)
    other = make(base, additions(ko={"usr/local/bin/ko": b"another ko"}))
    layout = Layout.folder(layout_of(tmp_path / "out", other))
    [finding] = texts(verify(layout, [expect(base)], rebuild=lambda _: make(base)))
    assert f"image ID of linux/amd64, rebuilt: expected {make(base).image_id}, found {other.image_id}" in finding
    assert "they differ in layer 4, rootfs" in finding


# Tampering.


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bases = [random_image(1, count=1), random_image(2, count=1, platform=ARM64)]
    return layout_of(tmp_path_factory.mktemp("pristine") / "out", *(make(base) for base in bases))


def verify_pristine(folder: Path) -> VerifyReport:
    bases = [random_image(1, count=1), random_image(2, count=1, platform=ARM64)]
    return verify(Layout.folder(folder), [expect(base) for base in bases], names=["latest"])


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_every_byte_of_the_layouts_own_documents_counts(pristine: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    shutil.copytree(pristine, folder)
    data = (folder / name).read_bytes()
    assert verify_pristine(folder).findings == ()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        (folder / name).write_bytes(changed)
        findings = verify_pristine(folder).findings
        assert any(name in str(finding) or str(folder) in str(finding) for finding in findings), (place, findings)


def test_a_byte_of_any_blob_counts(pristine: Path, tmp_path: Path) -> None:
    source = random.Random(3)  # noqa: S311 - test data
    folder = tmp_path / "out"
    shutil.copytree(pristine, folder)
    for path in sorted(folder.glob("blobs/sha256/*")):
        data = path.read_bytes()
        for place in source.sample(range(len(data)), 3):
            changed = bytearray(data)
            changed[place] ^= 1 << source.randrange(8)
            path.write_bytes(changed)
            findings = verify_pristine(folder).findings
            assert any(path.name in str(finding) for finding in findings), (path.name, place)
        path.write_bytes(data)
    assert verify_pristine(folder).findings == ()


def test_a_layout_that_was_copied_by_others_may_spell_its_index_otherwise(pristine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(pristine, folder)
    index = json.loads((folder / "index.json").read_text())
    del index["mediaType"]
    (folder / "index.json").write_text(json.dumps(index, indent=1))
    assert verify_pristine(folder).findings == ()


@pytest.mark.parametrize("names", [["latest"], ["v1", "v2"]])
def test_a_single_images_index_counts_too(tmp_path: Path, names: list[str]) -> None:
    base = random_image(1, count=1)
    folder = layout_of(tmp_path / "out", make(base), names=names)
    data = (folder / "index.json").read_bytes()
    assert verify(Layout.folder(folder), [expect(base)], names=names).findings == ()
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        (folder / "index.json").write_bytes(changed)
        assert verify(Layout.folder(folder), [expect(base)], names=names).findings, (place, bytes(changed))
