"""A layer that one machine has made is taken by the others, as far as it is proved, and no failure stops a build."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from kobuild.errors import UsageError
from kobuild.image.blobs import Blob, BytesSource
from kobuild.layercache import Notary
from kobuild.layercache.records import (
    CONTENT,
    PROOF,
    Record,
    claim_manifest,
    read,
    record_manifest,
    tag_of,
)
from kobuild.layers.plan import LayerResult
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.mediatypes import Compression
from kobuild.registry.tagged import EMPTY_BLOB
from tests.support.fakeregistry import Fault, run_fake
from tests.support.images import compress, make_tar
from tests.support.registry import PASSWORD, USERNAME, run_registry
from tests.support.scripted import Reply, serve
from tests.unit.layercache.conftest import KEY, Shop, kinds

EVIL = make_tar({"opt/t0": b"#!/bin/sh\necho pwned\n" * 100})


def recipes(shop: Shop) -> list[str]:
    """The recipes that the layer cache has something of."""
    folder = shop.registry.storage / "repositories" / shop.layers.partition("/")[2] / "_manifests" / "tags"
    return sorted(path.name.removeprefix("layer-") for path in folder.glob("layer-*"))


def found(shop: Shop, recipe: str, key: str = KEY) -> Record:
    """The record of a recipe."""
    manifest = shop.artifacts.find(tag_of(recipe), writing=False)
    assert manifest is not None
    record = read(manifest, recipe, Notary(key))
    assert isinstance(record, Record)
    return record


def poison(shop: Shop, recipe: str, notary: Notary, *, diff_id: Digest | None = None) -> LayerResult:
    """Put another layer under the recipe, as who can write to the repository can."""
    honest = found(shop, recipe)
    data = compress(EVIL, Compression.GZIP)
    result = dataclasses.replace(
        honest.result,
        digest=Digest.of(data),
        size=len(data),
        diff_id=diff_id or Digest.of(EVIL),
        uncompressed_size=len(EVIL),
    )
    manifest = record_manifest(recipe, result, honest.media_type, notary)
    assert manifest is not None
    shop.artifacts.push(tag_of(recipe), manifest, (Blob(manifest.layers[0], BytesSource(data)), EMPTY_BLOB))
    return result


def test_the_second_runner_takes_what_the_first_has_made(shop: Shop) -> None:
    first = shop.push("a")
    assert kinds(first) == ["new", "new"]
    assert len(recipes(shop)) == 2
    assert len({target.partition("digest=")[2] for target in shop.sent("layers")}) == 3  # two layers and the empty blob
    assert len(shop.sent("app")) == 1  # the config: the layers are mounted
    shop.registry.forget()
    second = shop.push("b", "--tag", "2")
    assert kinds(second) == ["shared", "shared"]
    assert second["digest"] == first["digest"]
    assert (shop.sent("layers"), shop.read()) == ([], [])
    looks = [target for _, target, _ in shop.registry.requests() if "/layers/manifests/" in target]
    assert len(looks) == 2  # one for each layer
    assert "layer cache: 2 taken" in shop.err


def test_into_another_repository_it_is_mounted_unread(shop: Shop) -> None:
    shop.push("a")
    shop.registry.forget()
    result = shop.push("b", "--target", f"{shop.room}/other:1")
    assert kinds(result) == ["shared", "shared"]
    assert shop.read() == []
    assert len(shop.sent("other")) == 1
    shop.run("verify", "c", f"{shop.room}/other:1")


@pytest.mark.parametrize("compression", ["estargz", "zstd:chunked"])
def test_a_layout_gets_the_very_same_image(shop: Shop, compression: str) -> None:
    shop.write(image=f'compression = "{compression}"')
    pushed = shop.push("a")
    built = shop.run("build", "b")
    assert kinds(built) == ["shared", "shared"]
    assert built["digest"] == pushed["digest"]
    shop.run("verify", "b", f"oci:{shop.folder / 'b-image'}")
    assert kinds(shop.run("build", "b")) == ["shared", "shared"]
    shop.registry.forget()
    assert kinds(shop.run("build", "b")) == ["shared", "shared"]
    assert shop.read() == []  # the layers are in the runner's own cache by now


def test_only_what_the_layer_depends_on_is_in_its_recipe(shop: Shop) -> None:
    shop.push("a")
    (shop.folder / "tool1").write_text("another")
    shop.run("resolve", "b")
    assert kinds(shop.push("b")) == ["shared", "new"]
    shop.write(image='labels = { a = "b" }')
    shop.run("resolve", "c")
    assert kinds(shop.push("c")) == ["shared", "shared"]


def test_without_the_key_it_is_not_used(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.push("a")
    shop.registry.forget()
    monkeypatch.delenv("KOBUILD_LAYER_CACHE_KEY")
    assert kinds(shop.push("b")) == ["new", "new"]
    assert "is not used: KOBUILD_LAYER_CACHE_KEY is not set" in shop.err
    assert not [target for _, target, _ in shop.registry.requests() if "/layers/" in target]
    monkeypatch.setenv("KOBUILD_LAYER_CACHE_KEY", "short")
    shop.push("c", code=2)
    assert "is shorter than 16 bytes" in shop.err


def test_who_can_write_but_has_no_key_puts_nothing_into_an_image(shop: Shop) -> None:
    honest = shop.push("a")
    for recipe in recipes(shop):
        poison(shop, recipe, Notary(None))
    second = shop.push("b")
    assert (kinds(second), second["digest"]) == (["new", "new"], honest["digest"])
    for recipe in recipes(shop):
        poison(shop, recipe, Notary("the key of somebody else"))
    third = shop.push("c")
    assert (kinds(third), third["digest"]) == (["new", "new"], honest["digest"])
    assert kinds(shop.push("d")) == ["shared", "shared"]  # what was made is there again


def test_a_proof_is_good_for_its_recipe_alone(shop: Shop) -> None:
    honest = shop.push("a")
    one, two = recipes(shop)
    manifests = [shop.artifacts.find(tag_of(recipe), writing=False) for recipe in (one, two)]
    assert manifests[0] is not None
    assert manifests[1] is not None
    shop.artifacts.push(tag_of(one), manifests[1], (EMPTY_BLOB,))
    shop.artifacts.push(tag_of(two), manifests[0], (EMPTY_BLOB,))
    again = shop.push("b")
    assert (kinds(again), again["digest"]) == (["new", "new"], honest["digest"])


def test_a_changed_record_has_no_proof(shop: Shop) -> None:
    shop.push("a")
    (recipe, _) = recipes(shop)
    manifest = shop.artifacts.find(tag_of(recipe), writing=False)
    assert manifest is not None
    for name, old, new in (
        (CONTENT, '"members":1', '"members":2'),
        (CONTENT, recipe, "0" * 64),
        (CONTENT, "{", "["),
        (PROOF, manifest.annotations[PROOF], ""),
        (PROOF, manifest.annotations[PROOF], "ü" * 32),
    ):
        notes = {**manifest.annotations, name: manifest.annotations[name].replace(old, new)}
        changed = Manifest.from_bytes(
            Manifest.build(
                media_type=manifest.media_type,
                config=manifest.config,
                layers=manifest.layers,
                annotations=notes,
                artifact_type=manifest.artifact_type,
            ).raw
        )
        seen = read(changed, recipe, Notary(KEY))
        assert seen is None or not seen.is_proved
        assert getattr(read(manifest, recipe, Notary(KEY)), "is_proved", False)


def test_where_writers_are_trusted_the_layer_is_read_and_compared(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOBUILD_LAYER_CACHE_KEY")
    shop.write(sources='layer-cache-trust = "writers"')
    honest = shop.push("a")
    second = shop.push("b")
    assert (kinds(second), second["digest"]) == (["shared", "shared"], honest["digest"])
    one, two = recipes(shop)
    poison(shop, one, Notary(None), diff_id=found(shop, one).result.diff_id)
    third = shop.push("c")
    assert sorted(kinds(third)) == ["new", "shared"]
    assert third["digest"] == honest["digest"]
    assert "the layer cache is wrong, and the layer is made here" in shop.err
    assert kinds(shop.push("d")) == ["shared", "shared"]
    assert two != one


def test_a_layer_that_is_gone_from_the_registry_is_made_again(shop: Shop) -> None:
    honest = shop.push("a")
    result = found(shop, recipes(shop)[0]).result
    blob = shop.registry.storage / "blobs" / "sha256" / result.digest.hex[:2] / result.digest.hex / "data"
    data = blob.read_bytes()
    blob.unlink()
    links = shop.registry.storage / "repositories" / shop.layers.partition("/")[2] / "_layers" / "sha256"
    (links / result.digest.hex / "link").unlink()
    built = shop.run("build", "b")
    assert (sorted(kinds(built)), built["digest"]) == (["new", "shared"], honest["digest"])
    assert "making it again" in shop.err
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    damaged = shop.run("build", "c")
    assert (sorted(kinds(damaged)), damaged["digest"]) == (["new", "shared"], honest["digest"])
    blob.write_bytes(data)  # other tests' layers have the same content


def test_modes(shop: Shop) -> None:
    assert kinds(shop.push("a", "--layer-cache-mode", "read")) == ["new", "new"]
    assert recipes(shop) == []
    shop.registry.forget()
    shop.push("b", "--layer-cache-mode", "off")
    assert not [target for _, target, _ in shop.registry.requests() if "/layers/" in target]
    shop.push("c")
    assert kinds(shop.push("d", "--layer-cache-mode", "read")) == ["shared", "shared"]
    assert kinds(shop.push("e", "--layer-cache-mode", "audit")) == ["new", "new"]
    poison(shop, recipes(shop)[0], Notary(None))
    shop.push("e2", "--layer-cache-mode", "audit")
    shop.push("e3")
    poison(shop, recipes(shop)[0], Notary(KEY))
    shop.push("f", "--layer-cache-mode", "audit", code=1)
    assert "as made here" in shop.err
    assert "renew the key" in shop.err


def test_an_audit_says_what_it_has_compared(shop: Shop) -> None:
    shop.push("a")
    shop.push("b", "--layer-cache-mode", "audit")
    assert "audited: 2 layers are as" in shop.err
    assert "of 0 it says nothing" in shop.err
    (shop.folder / "tool1").write_text("another")
    shop.run("resolve", "b")
    shop.push("b", "--layer-cache-mode", "audit")
    assert "audited: 1 layers are as" in shop.err
    assert "of 1 it says nothing" in shop.err
    for recipe in recipes(shop):
        poison(shop, recipe, Notary(KEY))
    shop.push("b", "--layer-cache-mode", "audit", code=1)  # what it made before counts too
    assert "as made here" in shop.err


def test_an_audit_that_can_compare_nothing_fails(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.push("a")
    with serve(lambda seen: Reply(200 if seen.path == "/v2/" else 418)) as server:
        shop.push("b", "--layer-cache-mode=audit", f"--layer-cache={server.host}/layers", code=1)
    shop.run("build", "a", "--layer-cache-mode=audit", "--offline", code=2)
    assert "--offline forbids to look" in shop.err
    monkeypatch.delenv("KOBUILD_LAYER_CACHE_KEY")
    shop.push("a", "--layer-cache-mode=audit", code=2)
    assert "KOBUILD_LAYER_CACHE_KEY is not set" in shop.err


def test_layers_are_read_from_where_they_were_put_not_from_mirrors(shop: Shop) -> None:
    shop.write(sources=f'mirrors = {{ "{shop.room}" = "{shop.room}/mirror" }}\nmirrors-only = true')
    shop.push("a")
    assert kinds(shop.run("build", "b")) == ["shared", "shared"]
    assert "making it again" not in shop.err


def test_offline_no_registry_is_asked(shop: Shop) -> None:
    shop.push("a")
    text = (shop.folder / "kobuild.toml").read_text()
    (shop.folder / "kobuild.toml").write_text(text.replace('base = "scratch"', f'base = "{shop.room}/app:1"'))
    shop.run("resolve", "a")
    shop.registry.forget()
    shop.run("build", "empty", "--offline", code=1)
    assert "is needed, and --offline forbids the network" in shop.err
    shop.push("a", "--offline", code=2)
    assert "push: --offline forbids the network" in shop.err
    assert shop.registry.requests() == []


def test_a_layer_that_may_not_be_read_is_made_again(shop: Shop) -> None:
    with run_fake() as fake:
        shop.write(cache=f"{fake.host}/layers")
        honest = shop.push("a")
        fake.faults.append(
            Fault(lambda seen: seen.method == "GET" and "/layers/blobs/" in seen.path, Reply(403), times=99)
        )
        built = shop.run("build", "b")
    # Each is made when it is missed; one that was made before another was missed is found then.
    assert "shared" not in kinds(built)
    assert built["digest"] == honest["digest"]
    assert "cannot be used" in shop.err


def test_another_repository_can_be_named(shop: Shop) -> None:
    shop.push("a", "--layer-cache", f"{shop.room}/elsewhere")
    assert recipes(shop) == []
    assert kinds(shop.push("b", "--layer-cache", f"{shop.room}/elsewhere")) == ["shared", "shared"]
    shop.push("c", "--layer-cache", f"{shop.room}/elsewhere:tag", code=2)
    assert "expected a repository alone" in shop.err


def test_a_registry_that_fails_costs_a_warning(shop: Shop) -> None:
    with serve(lambda seen: Reply(200 if seen.path == "/v2/" else 418)) as server:
        result = shop.push("a", "--layer-cache", f"{server.url.removeprefix('http://')}/layers")
    assert kinds(result) == ["new", "new"]
    assert len(re.findall("is not used", shop.err)) == 1


def test_who_may_only_read_takes_layers_and_who_may_not_makes_them(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_registry(tmp_path / "closed", htpasswd=True) as closed:
        shop.write(cache=f"{closed.host}/layers")
        assert kinds(shop.push("a")) == ["new", "new"]
        assert "is not used" in shop.err
        monkeypatch.setenv("KOBUILD_REGISTRY", closed.host)
        monkeypatch.setenv("KOBUILD_REGISTRY_USERNAME", USERNAME)
        monkeypatch.setenv("KOBUILD_REGISTRY_PASSWORD", PASSWORD)
        assert kinds(shop.push("b")) == ["new", "new"]
        # Another registry than the target's: the layers go across.
        second = shop.push("c", "--target", f"{shop.room}/fresh:1")
        assert kinds(second) == ["shared", "shared"]
    with run_registry(tmp_path / "frozen", extra={"storage": _read_only(tmp_path / "frozen")}) as frozen:
        shop.write(cache=f"{frozen.host}/layers")
        assert kinds(shop.push("d")) == ["new", "new"]
        assert len(re.findall("nothing is put into the layer cache", shop.err)) == 1


def _read_only(folder: Path) -> dict[str, object]:
    return {
        "filesystem": {"rootdirectory": str(folder / "storage")},
        "maintenance": {"readonly": {"enabled": True}},
    }


def test_keys_that_could_be_guessed_are_refused() -> None:
    with pytest.raises(UsageError, match="shorter than 16 bytes"):
        Notary("0123456789abcde")
    assert not Notary("").has_key
    assert not Notary(None).is_proved("x", Notary(KEY).prove("x")[PROOF])


def test_a_record_without_end_is_none(shop: Shop) -> None:
    shop.push("a")
    recipe = recipes(shop)[0]
    manifest = shop.artifacts.find(tag_of(recipe), writing=False)
    assert manifest is not None
    text = re.sub(r'"size":\d+', '"size":1e999', manifest.annotations[CONTENT])
    endless = Manifest.build(
        media_type=manifest.media_type,
        config=manifest.config,
        layers=manifest.layers,
        annotations=Notary(KEY).prove(text),
        artifact_type=manifest.artifact_type,
    )
    assert read(endless, recipe, Notary(KEY)) is None


def test_a_claim_is_no_record() -> None:
    manifest = claim_manifest("0" * 64, "nonce", 3, Notary(KEY))
    seen = read(manifest, "0" * 64, Notary(KEY))
    assert not isinstance(seen, Record)
    assert seen is not None
    assert (seen.nonce, seen.beat, seen.is_proved) == ("nonce", 3, True)
    assert read(manifest, "1" * 64, Notary(KEY)) is None
