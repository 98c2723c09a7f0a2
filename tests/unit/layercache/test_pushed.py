"""matrix --pushed: an image is left out only where its targets hold what settings and lock make, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kobuild.image.mutate import gather
from kobuild.oci.reference import Reference
from tests.support.archives import Entry, folder, make_tar, symlink
from tests.support.images import make_image, make_layer, random_image
from tests.unit.layercache.conftest import Shop

Reasons = Callable[..., str]
NOTHING = ""


@pytest.fixture
def reason(shop: Shop) -> Reasons:
    """Why the image is out of date, as a machine that has made nothing sees it; empty where it is not."""
    machines = iter(range(99))

    def run(*words: str, runner: str = "") -> str:
        file = str(shop.folder / "kobuild.toml")
        found = shop.run("matrix", runner or f"plan{next(machines)}", "--pushed", *words, file)
        assert len(found["include"]) == len(found["changed"]) <= 1
        return str(found["changed"].get(file.lstrip("/"), found["changed"].get(file, NOTHING)))

    return run


def test_what_was_pushed_is_left_out_until_it_changes(shop: Shop, reason: Reasons) -> None:
    assert "not pushed yet" in reason()
    shop.push("a")
    assert reason() == NOTHING
    shop.write(image='workdir = "/srv"')
    assert "these differ: WorkingDir" in reason()
    shop.push("a")
    assert reason() == NOTHING
    (shop.folder / "tool0").write_text("another")
    assert "path:tool0 is not as it was locked" in reason()
    shop.run("resolve", "a")
    assert "nobody knows what t0 makes for linux/amd64" in reason()
    shop.push("a")
    assert reason() == NOTHING


def test_what_only_a_layer_shows_is_seen(shop: Shop, reason: Reasons) -> None:
    shop.push("a")
    text = (shop.folder / "kobuild.toml").read_text()
    changed = text.replace('source = "path:tool1"', 'source = "path:tool1"\nmode = "0700"')
    (shop.folder / "kobuild.toml").write_text(changed)
    assert "nobody knows what t1 makes" in reason()
    shop.push("b", "--tag", "elsewhere")
    assert "t1 for linux/amd64 makes another layer by now" in reason()


def test_a_tag_that_somebody_moved_is_seen(shop: Shop, reason: Reasons) -> None:
    shop.push("a")
    shop.client.push(gather([random_image(1)]), [Reference.parse(f"{shop.room}/app:1")])
    assert "is not what the lock and the settings make" in reason()


def test_every_target_counts(shop: Shop, reason: Reasons) -> None:
    shop.push("a")
    text = (shop.folder / "kobuild.toml").read_text()
    (shop.folder / "kobuild.toml").write_text(
        text.replace(f'"{shop.room}/app:1"', f'["{shop.room}/app:1", "{shop.room}/app:2"]')
    )
    assert "app:2 points at nothing" in reason()


def test_without_a_target_or_a_lock_it_is_made(shop: Shop, reason: Reasons) -> None:
    text = (shop.folder / "kobuild.toml").read_text()
    (shop.folder / "kobuild.toml").write_text(text.replace(f'target = "{shop.room}/app:1"', ""))
    assert reason() == "it has no target"
    (shop.folder / "kobuild.lock").unlink()
    assert reason() == "there is no lock"


def test_a_lock_that_the_settings_have_left_behind_is_seen(shop: Shop, reason: Reasons) -> None:
    shop.push("a")
    text = (shop.folder / "kobuild.toml").read_text()
    (shop.folder / "tool2").write_bytes((shop.folder / "tool1").read_bytes())
    (shop.folder / "kobuild.toml").write_text(text.replace("path:tool1", "path:tool2"))
    assert "the lock does not fit the settings: tools.t1: the source was path:tool1" in reason()
    (shop.folder / "kobuild.toml").write_text(text.replace('base = "scratch"', f'base = "{shop.room}/base:1"'))
    assert "the lock does not fit the settings: base: " in reason()
    (shop.folder / "kobuild.toml").write_text(text)
    assert reason() == NOTHING


def test_a_machine_knows_what_it_has_made(shop: Shop, reason: Reasons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOBUILD_LAYER_CACHE_KEY")
    shop.push("a")
    assert "nobody knows" in reason()
    assert reason(runner="a") == NOTHING


def test_layers_that_land_in_the_base_are_fitted_to_it(shop: Shop, reason: Reasons) -> None:
    tar = make_tar([folder("usr"), folder("usr/bin"), Entry("usr/bin/sh"), symlink("bin", "usr/bin")])
    shop.client.push(gather([make_image([make_layer(tar)])]), [Reference.parse(f"{shop.room}/base:1")])
    text = (shop.folder / "kobuild.toml").read_text()
    text = text.replace('base = "scratch"', f'base = "{shop.room}/base:1"').replace('root = "/opt"', 'root = "/bin"')
    (shop.folder / "kobuild.toml").write_text(text)
    shop.run("resolve", "a")
    first = shop.push("a")
    assert reason() == NOTHING
    again = shop.push("b")
    assert again["digest"] == first["digest"]
    assert all(layer["shared"] for layer in again["platforms"][0]["layers"])
    shop.run("verify", "c", f"{shop.room}/app:1")


def test_offline_nobody_can_tell(shop: Shop) -> None:
    shop.run("matrix", "p", "--pushed", "--offline", str(shop.folder / "kobuild.toml"), code=2)
    assert "--offline forbids to ask the registries" in shop.err


def test_the_targets_themselves_are_asked_not_their_mirrors(shop: Shop, reason: Reasons) -> None:
    shop.push("a")
    shop.push("a", "--target", f"{shop.room}/mirror/app:1")
    with (shop.folder / "kobuild.toml").open("a") as file:
        file.write(f'mirrors = {{ "{shop.room}" = "{shop.room}/mirror" }}\n')
    assert reason() == NOTHING
    shop.client.push(gather([random_image(1)]), [Reference.parse(f"{shop.room}/app:1")])
    assert "is not what the lock and the settings make" in reason()


def test_several_images_are_looked_at_together(shop: Shop, tmp_path: Path) -> None:
    shop.push("a")
    text = (shop.folder / "kobuild.toml").read_text()
    for number in range(3):
        (tmp_path / f"i{number}.toml").write_text(text.replace("app:1", f"app{number}:1"))
        (tmp_path / f"i{number}.lock").write_text((tmp_path / "kobuild.lock").read_text())
    found = shop.run("matrix", "p", "--pushed", str(tmp_path / "*.toml"))
    assert [image["name"] for image in found["images"]] == ["i0", "i1", "i2"]
