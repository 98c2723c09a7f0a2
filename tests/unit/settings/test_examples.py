"""The examples say what they are meant to say."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import tomli

from kobuild.oci.mediatypes import Compression
from kobuild.settings.model import SourceSpec
from kobuild.settings.parse import parse_settings, parse_text
from kobuild.settings.schema import load_schema

ROOT = Path(__file__).parents[3]
FILES = sorted([*ROOT.glob("examples/*/kobuild.toml"), *ROOT.glob("kobuild.toml")])
CLOUD_RUN = ROOT / "examples" / "cloud-run" / "kobuild.toml"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_fit_the_parser_and_the_schema(path: Path) -> None:
    assert parse_settings(path).tools
    jsonschema.Draft7Validator(load_schema()).validate(tomli.loads(path.read_text(encoding="utf-8")))


def test_the_cloud_run_image_is_gcloud_go_and_ko() -> None:
    settings = parse_settings(CLOUD_RUN)
    image = settings.image
    assert image.base == "gcr.io/google.com/cloudsdktool/cloud-sdk:alpine"
    assert [str(target) for target in image.targets] == ["us-central1-docker.pkg.dev/com-seankhliao/run/ko:latest"]
    assert (image.workdir, image.path) == ("/workspace", ("/usr/local/go/bin",))
    assert image.env == {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
    assert image.compression is Compression.GZIP
    assert [(tool.name, tool.source, tool.root, tool.only) for tool in settings.tools] == [
        ("go", SourceSpec("go", ""), "/usr/local", ()),
        ("ko", SourceSpec("github", "ko-build/ko"), "/usr/local/bin", ("ko",)),
    ]


def test_estargz_is_one_line_more() -> None:
    line = 'compression = "estargz"'
    assert line in (CLOUD_RUN.parent / "README.md").read_text(encoding="utf-8").splitlines()
    text = CLOUD_RUN.read_text(encoding="utf-8").replace("[image]\n", f"[image]\n{line}\n")
    assert parse_text(text.encode(), CLOUD_RUN).image.compression is Compression.ESTARGZ


def test_the_readmes_settings_parse() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition("```toml\n")[2].partition("```")[0]
    assert [tool.name for tool in parse_text(block.encode(), ROOT / "kobuild.toml").tools] == ["go", "ko"]
