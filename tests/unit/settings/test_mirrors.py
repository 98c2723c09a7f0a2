from __future__ import annotations

from pathlib import Path

import pytest

from kobuild.errors import SettingsError
from kobuild.oci.reference import Reference
from kobuild.progress import NullReporter
from kobuild.registry import RegistryStore
from kobuild.settings.model import Settings
from kobuild.settings.parse import parse_text
from kobuild.workshop import open_workshop
from tests.support.fakeregistry import run_fake
from tests.support.images import random_image


def parse(lines: str) -> Settings:
    return parse_text(f'[image]\nbase = "scratch"\n{lines}'.encode(), Path("kobuild.toml"))


def test_mirrors_are_read_in_order_and_in_normal_form() -> None:
    sources = parse(
        """
        [sources]
        mirrors-only = true
        [sources.mirrors]
        "index.docker.io/" = "mirror.example.com/hub"
        "gcr.io/distroless" = ["One.example.com:5000", "localhost:5000/x/"]
        "[::1]:5000" = "127.0.0.1:5001"
        """
    ).sources
    assert sources.mirrors == {
        "docker.io": ("mirror.example.com/hub",),
        "gcr.io/distroless": ("one.example.com:5000", "localhost:5000/x"),
        "[::1]:5000": ("127.0.0.1:5001",),
    }
    assert sources.mirrors_only


def test_there_are_none_unless_they_are_named() -> None:
    assert parse("").sources.mirrors == {}
    assert not parse("").sources.mirrors_only


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"docker.io" = "https://mirror.example.com/"', "a registry is named without a scheme"),
        ('"https://docker.io" = "mirror.example.com"', "a registry is named without a scheme"),
        ('"docker.io" = []', "must not be empty"),
        ('"docker.io" = 5', "expected a string or an array of strings"),
        ('"docker.io" = ""', "must not be empty"),
        ('hub = "mirror.example.com"', "not a registry or a path in one"),
        ('"docker.io" = "mirror.example.com/Hub"', "not a registry or a path in one"),
        ('"docker.io" = "mirror.example.com/a@sha256:b"', "not a registry or a path in one"),
        ('"docker.io" = ["a.example.com", "A.example.com"]', "named twice"),
    ],
)
def test_what_is_no_mirror_is_a_fault(line: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(f"[sources.mirrors]\n{line}\n")


def test_a_base_is_read_from_a_mirror(tmp_path: Path) -> None:
    image = random_image(1)
    with run_fake() as mirror:
        mirror.add_manifest("hub/library/debian", "stable", image.manifest.raw, image.manifest.media_type)
        settings = parse(f'[sources]\nmirrors = {{ "docker.io" = "{mirror.host}/hub" }}\nmirrors-only = true\n')
        with open_workshop(settings, NullReporter(), cache_dir=tmp_path) as workshop:
            store = RegistryStore(workshop.registry, Reference.parse("debian:stable"))
            assert store.root().raw == image.manifest.raw
