"""Two images or locks, compared: tools, base, config, layers, files; as text, JSON and Markdown."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from kobuild import cli, lock
from kobuild.explain.diffmarkdown import diff_markdown
from kobuild.explain.diffview import diff_json, diff_text
from kobuild.explain.imagediff import Difference, compare
from kobuild.explain.imagetree import inspect_image
from kobuild.explain.subjects import Subject, image_subject, lock_subject
from kobuild.image.image import Image
from kobuild.image.mutate import ConfigEdits, gather, with_config
from kobuild.lock import Lock, LockedArtifact, LockedBase, LockedTool
from kobuild.oci.mediatypes import Compression
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient, RegistryStore
from kobuild.store.layout import Layout
from kobuild.store.locations import Location
from tests.support.archives import Entry
from tests.support.images import AMD64, ARM64, layout_of, random_image
from tests.support.registry import DockerRegistry
from tests.support.toolimages import BASE_DIGEST, BASE_NAME, base_image, tool, tool_image

KO = [Entry("ko", b"k" * 900, mode=0o755)]


def go_image(version: str, *, compression: Compression = Compression.GZIP, **edits: object) -> Image:
    """A base, go of a version, and ko."""
    go = [
        Entry("go/VERSION", f"go{version}".encode()),
        Entry("go/bin/go", b"g" * 5000, mode=0o755),
        Entry(f"go/only-{version}", b"x" * (50 if version == "1.27.3" else 20)),
    ]
    tools = [
        tool("go", version, go, compression=compression),
        tool("ko", "0.18.0", KO, root="/usr/local/bin", compression=compression),
    ]
    return tool_image(base_image(), tools, **edits)


def subject(folder: Path, *images: Image) -> Subject:
    store = Layout.folder(layout_of(folder, *images))
    return image_subject(inspect_image(store), store)


@pytest.fixture
def moved(tmp_path: Path) -> Difference:
    old = subject(tmp_path / "old", go_image("1.27.2", env={"A": "1", "GONE": "x"}))
    new = subject(tmp_path / "new", go_image("1.27.3", env={"A": "2"}, workdir="/workspace", labels={"l": "v"}))
    return compare(old, new)


def test_a_moved_tool_as_a_person_reads_it(moved: Difference, tmp_path: Path) -> None:
    lines = diff_text(moved, 20).splitlines()
    (item,) = moved.platforms
    assert item.layers is not None
    old_layer, new_layer = item.layers[0][0].descriptor, item.layers[1][0].descriptor
    assert lines == [
        f"--- oci:{tmp_path}/old  {moved.old.digest}",
        f"+++ oci:{tmp_path}/new  {moved.new.digest}",
        "tools",
        "  ~ go 1.27.2 → 1.27.3",
        "config",
        "  ~ Env.A: 1 → 2",
        "  - Env.GONE = x",
        "  + WorkingDir = /workspace",
        "  + Labels.l = v",
        "layers",
        f"  - {old_layer.size} B {old_layer.digest.short} go 1.27.2",
        f"  + {new_layer.size} B {new_layer.digest.short} go 1.27.3",
        "files: 1 added, 1 changed, 1 removed, +30 B",
        "  ~ /usr/local/go/VERSION  8 B (content)",
        "  - /usr/local/go/only-1.27.2  20 B",
        "  + /usr/local/go/only-1.27.3  50 B",
    ]
    assert "only-1.27.3" in diff_text(moved, 1)
    assert "VERSION" not in diff_text(moved, 1)


def test_a_moved_tool_for_machines(moved: Difference) -> None:
    value = diff_json(moved)
    assert json.loads(json.dumps(value)) == value
    assert value["different"]
    (item,) = value["platforms"]
    (changed,) = item["tools"]
    assert (changed["name"], changed["old"]["version"], changed["new"]["version"]) == ("go", "1.27.2", "1.27.3")
    assert [entry["change"] for entry in item["files"]] == ["changed", "removed", "added"]
    assert item["files"][0]["what"] == ["content"]
    assert [layer["tool"] for layer in (*item["layers_removed"], *item["layers_added"])] == ["go", "go"]


def test_a_moved_tool_in_a_pull_request(moved: Difference) -> None:
    text = diff_markdown(moved, 2)
    assert "| tool | go | 1.27.2 | 1.27.3 |" in text
    assert "| config | Env.A | `1` | `2` |" in text
    assert "<details><summary>files: 1 added, 1 changed, 1 removed, +30 B</summary>" in text
    assert "| added | `/usr/local/go/only-1.27.3` | +50 B |  |" in text
    assert "and 1 more" in text
    same = compare(moved.old, moved.old)
    assert "No difference." in diff_markdown(same, 2)
    assert diff_text(same, 2).endswith("no difference")


def test_markdown_takes_no_orders_from_names(tmp_path: Path) -> None:
    old = subject(tmp_path / "old", go_image("1"))
    new = subject(tmp_path / "new", go_image("2](http://x)<img>", labels={"a|b": "`c`|d"}))
    text = diff_markdown(compare(old, new), 5)
    assert "2\\]\\(http://x\\)\\<img\\>" in text
    assert "| config | Labels.a\\|b |  | `` `c`\\|d `` |" in text


def test_the_same_tar_in_another_compression_is_the_same_layer(tmp_path: Path) -> None:
    old = subject(tmp_path / "old", go_image("1.27.3"))
    new = subject(tmp_path / "new", go_image("1.27.3", compression=Compression.ZSTD))
    assert old.digest != new.digest
    assert compare(old, new).is_empty


def test_eStargz_adds_nothing_that_counts_as_a_file(tmp_path: Path) -> None:  # noqa: N802
    old = subject(tmp_path / "old", go_image("1.27.3"))
    new = subject(tmp_path / "new", go_image("1.27.3", compression=Compression.ESTARGZ))
    (item,) = compare(old, new).platforms
    assert item.files == ()
    assert item.layers is not None
    assert [change.name for change in item.tools] == ["go", "ko"]


def test_remote_images_cost_their_unshared_layers_alone(registry: DockerRegistry, client: RegistryClient) -> None:
    stores = []
    for version in ("1.27.2", "1.27.3"):
        reference = Reference.parse(f"{registry.host}/diff/image:{version}")
        client.push(gather([go_image(version)]), [reference])
        stores.append(RegistryStore(client, reference))
    registry.forget()
    old, new = (image_subject(inspect_image(store), store) for store in stores)
    found = compare(old, new)
    (item,) = found.platforms
    assert item.layers is not None
    wanted = {layer.descriptor.digest for side in item.layers for layer in side}
    configs = {node.image.config.digest for one in (old, new) for node in one.platforms.values() if node.image}
    fetched = [target.rpartition("/")[2] for _, target, _ in registry.requests() if "/blobs/" in target]
    assert sorted(fetched) == sorted(map(str, wanted | configs))
    registry.forget()
    compare(old, new, files=False)
    assert registry.requests() == []


def test_platforms_that_one_side_lacks(tmp_path: Path) -> None:
    both = subject(tmp_path / "both", random_image(1, platform=AMD64), random_image(2, platform=ARM64))
    one = subject(tmp_path / "one", random_image(1, platform=AMD64))
    assert "- platform linux/arm64" in diff_text(compare(both, one), 0)
    assert "+ platform linux/arm64" in diff_text(compare(one, both), 0)
    assert not compare(one, both).is_empty
    assert compare(one, both, platforms=[AMD64]).is_empty
    assert "platform removed: `linux/arm64`" in diff_markdown(compare(both, one), 0)


def test_the_base_that_moved(tmp_path: Path) -> None:
    image = go_image("1")
    other = with_config(image, ConfigEdits(annotations={**image.manifest.annotations, "note": "n"}))
    notes = {**image.manifest.annotations, "org.opencontainers.image.base.digest": f"sha256:{'0' * 64}"}
    moved = with_config(image, ConfigEdits(annotations=notes))
    (item,) = compare(subject(tmp_path / "a", image), subject(tmp_path / "b", moved)).platforms
    assert item.base is not None
    text = diff_text(compare(subject(tmp_path / "c", image), subject(tmp_path / "d", moved)), 0)
    assert f"  + registry.test/base:1@sha256:{'0' * 64}" in text
    assert "+ annotations.note = n" in diff_text(
        compare(subject(tmp_path / "e", image), subject(tmp_path / "f", other)), 0
    )


def locked(version: str, sha256: str = "1" * 64, proofs: tuple[str, ...] = ()) -> Lock:
    artifact = LockedArtifact("https://example.test/go.tar.gz", "go.tar.gz", 10, sha256, "publisher", proofs)
    go = LockedTool("go", "go", "~=1.27", version, f"go{version}", "f", {AMD64: artifact, ARM64: artifact})
    base = LockedBase("registry.test/base:1", f"sha256:{'a' * 64}", {AMD64: f"sha256:{'b' * 64}"})
    return Lock(base, {"go": go})


def test_locks_are_compared_too() -> None:
    old, new = lock_subject("old", locked("1.27.2")), lock_subject("new", locked("1.27.3"))
    lines = diff_text(compare(old, new), 5).splitlines()
    assert lines[:2] == ["--- old", "+++ new"]
    assert lines[2:] == [
        line for name in (AMD64, ARM64) for line in (f"{name}:", "  tools", "    ~ go 1.27.2 → 1.27.3")
    ]
    again = compare(old, lock_subject("new", locked("1.27.2", "2" * 64)))
    assert "~ go 1.27.2 (same version, other content)" in diff_text(again, 5)
    assert compare(old, old).is_empty
    assert f"| tool | go | 1.27.2 `{'1' * 12}` | 1.27.2 `{'2' * 12}` |" in diff_markdown(again, 5)


def test_a_proof_that_is_gone_from_a_lock_is_told() -> None:
    one, other = (lock_subject("x", locked("1.27.2", proofs=proofs)) for proofs in (("minisign:A1",), ()))
    diff = compare(one, other)
    assert not diff.is_empty
    assert "~ go 1.27.2: proven by minisign:A1 → proven by nothing" in diff_text(diff, 5)
    assert "| tool | go | 1.27.2, proven by minisign:A1 | 1.27.2, proven by nothing |" in diff_markdown(diff, 5)
    assert diff_json(diff)["platforms"][0]["tools"][0]["old"]["proven"] == ["minisign:A1"]


def test_an_image_against_a_lock(tmp_path: Path) -> None:
    image = subject(tmp_path / "image", go_image("1.27.3"))
    base = replace(locked("1.27.3").base, digest=next(iter(image.platforms.values())).base.digest)  # type: ignore[union-attr,type-var]
    fits = Lock(base, {**locked("1.27.3").tools, "ko": replace(locked("0.18.0").tools["go"], name="ko")})
    assert compare(lock_subject("lock", fits), image, platforms=[AMD64]).is_empty
    differs = diff_text(compare(lock_subject("lock", locked("1.27.2")), image, platforms=[AMD64]), 5)
    assert "~ go 1.27.2 → 1.27.3" in differs
    assert "+ ko 0.18.0" in differs
    assert "config" not in differs


def test_diff_as_it_is_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout_of(tmp_path / "old", go_image("1.27.2"))
    layout_of(tmp_path / "new", go_image("1.27.3"))
    (tmp_path / "kobuild.lock").write_bytes(lock.dump(locked("1.27.3")))
    base = ["diff", "-q", "-C", str(tmp_path)]
    assert cli.main([*base, "oci:old", "oci:new"]) == 0
    assert "~ go 1.27.2 → 1.27.3" in capsys.readouterr().out
    assert cli.main([*base, "oci:old", "oci:new", "--check", "--json", "--files", "0"]) == 4
    assert json.loads(capsys.readouterr().out)["platforms"][0]["files"] is None
    assert cli.main([*base, "oci:old", "oci:old", "--check", "--shared"]) == 0
    assert cli.main([*base, "kobuild.lock", "oci:new", "--markdown", "--platform", "linux/amd64"]) == 0
    assert "| tool | ko |  | 0.18.0 |" in capsys.readouterr().out
    assert cli.main([*base, "none.lock", "oci:new"]) == 2
    assert "no such lock" in capsys.readouterr().err
    assert cli.main([*base, "oci:old", "oci:new", "--platform", "linux/s390x"]) == 2
    assert "they have linux/amd64" in capsys.readouterr().err


PLACES = ["oci:", "oci-archive:", "docker-archive:", "registry", "lock", "-"]


@pytest.mark.parametrize("new", PLACES)
@pytest.mark.parametrize("old", PLACES[:-1])
def test_any_pair_in_any_form(
    old: str,
    new: str,
    tmp_path: Path,
    registry: DockerRegistry,
    client: RegistryClient,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [
        put(place, version, tmp_path, registry, client, monkeypatch)
        for place, version in ((old, "1.27.2"), (new, "1.27.3"))
    ]
    options = ["diff", "-q", "-C", str(tmp_path), "--platform", "linux/amd64", *names]
    assert cli.main([*options, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["platforms"]
    changes = {item["name"]: (item["old"]["version"], item["new"]["version"]) for item in found["tools"]}
    assert changes == {"go": ("1.27.2", "1.27.3")}
    are_images = not {old, new} & {"lock", "-"}
    assert (found["layers_added"] != [], found["config"] != [], bool(found["files"])) == (are_images,) * 3
    if new == "-":
        return  # it can be read once
    assert cli.main(options) == 0
    assert "~ go 1.27.2 → 1.27.3" in capsys.readouterr().out
    assert cli.main([*options, "--markdown"]) == 0
    assert "| tool | go | 1.27.2 | 1.27.3 |" in capsys.readouterr().out


def put(
    place: str,
    version: str,
    folder: Path,
    registry: DockerRegistry,
    client: RegistryClient,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The image of a version, or its lock, at such a place; returns what it is called there."""
    made = go_image(version, env={"V": version})
    name = f"x{version}"
    if place == "registry":
        reference = Reference.parse(f"{registry.host}/pairs/{folder.name.lower()}:{version}")
        client.push(gather([made]), [reference])
        return str(reference)
    if place in ("lock", "-"):
        base = LockedBase(BASE_NAME, str(BASE_DIGEST), {AMD64: str(BASE_DIGEST)})
        go = locked(version).tools["go"]
        ko = replace(locked("0.18.0").tools["go"], name="ko")
        data = lock.dump(Lock(base, {"go": go, "ko": ko}))
        (folder / f"{name}.lock").write_bytes(data)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        return "-" if place == "-" else f"{name}.lock"
    location = Location.parse(f"{place}{folder / name}")
    assert location is not None
    location.write(gather([made]))
    return f"{place}{folder / name}"


def test_one_standard_input_is_not_two_locks(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diff", "-q", "-", "-"]) == 2
    assert "both sides cannot be read from standard input" in capsys.readouterr().err
