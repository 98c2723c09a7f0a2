"""The action's logic alone: inputs to arguments, results to outputs, nothing of either taken for more than data."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.action.conftest import ROOT, load
from tests.support.runner import read_outputs

FOLDER = Path("/work space")
HOSTILE = ["$(touch pwned)", "`id`", '"; id; "', "--upgrade", "a b", "::set-output name=digest::x", "'\\''", "${{ x }}"]


def arguments(helper: ModuleType, **inputs: str) -> list[str]:
    environ = {f"KOBUILD_ACTION_{name.upper()}": text for name, text in inputs.items()}
    read = helper.Inputs.read(environ)
    found: list[str] = helper.session_arguments(read.command, read, FOLDER)
    return found


def test_inputs_become_arguments_of_one_command(helper: ModuleType) -> None:
    assert arguments(
        helper,
        command="push",
        file="images/ci.toml",
        tags="v1\n\n latest \n",
        target="ghcr.io/a/b:x",
        platforms="linux/amd64\nlinux/arm64",
        locked="true",
        versions="go=~=1.27.0\nko=0.15.1",
        layer_cache="ghcr.io/a/cache",
        by_digest="true",
    ) == [
        "--json",
        "--directory=/work space",
        "--file=images/ci.toml",
        "--platform=linux/amd64",
        "--platform=linux/arm64",
        "--pin=go=~=1.27.0",
        "--pin=ko=0.15.1",
        "--locked",
        "--layer-cache=ghcr.io/a/cache",
        "--target=ghcr.io/a/b:x",
        "--tag=v1",
        "--tag=latest",
        "--by-digest",
    ]


def test_each_command_gets_what_it_knows(helper: ModuleType) -> None:
    common = ["--json", "--directory=/work space", "--file=kobuild.toml"]
    everything = {"output": "oci:out", "platforms": "linux/amd64", "tags": "t", "image": "oci:x", "upgrade": "go\nko"}
    assert arguments(helper, command="resolve", check="true", **everything) == [
        *common,
        "--markdown",
        "--check",
        "--upgrade",
        "go",
        "ko",
    ]
    assert arguments(helper, command="resolve", upgrade="true") == [*common, "--markdown", "--upgrade"]
    assert arguments(helper, command="resolve", upgrade="false") == [*common, "--markdown"]
    assert arguments(helper, command="build", **everything) == [*common, "--platform=linux/amd64", "--output=oci:out"]
    assert arguments(helper, command="verify", **everything) == [*common, "--platform=linux/amd64", "--", "oci:x"]
    assert arguments(helper, command="index", digests="a@sha256:1\nb@sha256:2", tags="t") == [
        *common, "--tag=t", "--", "a@sha256:1", "b@sha256:2",
    ]  # fmt: skip
    matrix = arguments(helper, command="matrix", file="a/*.toml\nb.toml", since="origin/main", runners="linux/arm64=x")
    assert matrix == [
        *("--json", "--directory=/work space", "--since=origin/main", "--runner=linux/arm64=x"),
        *("--", "a/*.toml", "b.toml"),
    ]
    assert arguments(helper, command="matrix", pushed="true", layer_cache="ghcr.io/a/layers")[2:] == [
        *("--pushed", "--layer-cache=ghcr.io/a/layers", "--", "kobuild.toml")
    ]


@pytest.mark.parametrize("text", ["rm -rf /", "$(id)", "build; id", "--help", "\n::set-output name=x::y"])
def test_a_command_that_is_none_is_refused(helper: ModuleType, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert helper.main(["run"], {"KOBUILD_ACTION_COMMAND": text, "RUNNER_TEMP": "/nowhere"}) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("::error title=kobuild::input command: expected one of resolve, build, push, verify, all,")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"locked": "yes"}, "input locked: expected true or false, got 'yes'"),
        ({"cache": "on"}, "input cache: expected true or false"),
        ({"username": "a"}, "one of them is missing"),
        ({"username": "a", "password": "b"}, "say which registry"),
        ({"command": "resolve", "upgrade": "--frozen"}, "not tools: '--frozen'"),
        ({"extras": "proof\nsign,sbom"}, "expected some of google, proof, sbom, sign, one a line, got 'sign,sbom'"),
    ],
)
def test_inputs_that_cannot_be_meant_are_told(helper: ModuleType, inputs: dict[str, str], words: str) -> None:
    with pytest.raises(helper.InputError, match=words):
        arguments(helper, **inputs)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", ["tags", "target", "platforms", "versions", "output", "file", "layer_cache"])
def test_hostile_inputs_stay_one_argument(helper: ModuleType, name: str, text: str) -> None:
    plain = arguments(helper, command="build", output="oci:x") if name == "output" else None
    found = arguments(helper, command="build" if name == "output" else "push", **{name: text})
    assert sum(text in item for item in found) == 1
    assert all(item.startswith("--") for item in found)
    assert plain is None or len(found) == len(plain)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_follow_the_mark_that_ends_the_options(helper: ModuleType, text: str) -> None:
    for inputs in ({"command": "verify", "image": text}, {"command": "index", "digests": text}):
        found = arguments(helper, **inputs)
        assert found[-2:] == ["--", text]


helper_module = load("action_helper")


@given(
    st.dictionaries(
        st.sampled_from(["digest", "image", "tags"]), st.text(alphabet=st.characters(exclude_characters="\r"))
    )
)
def test_outputs_cannot_be_forged_by_a_value(tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]) -> None:
    file = tmp_path_factory.mktemp("outputs") / "output"
    helper_module.write_outputs({"GITHUB_OUTPUT": str(file)}, values)
    written = {name: value.encode(errors="replace").decode() for name, value in values.items()}
    assert (read_outputs(file.read_text()) if values else {}) == written


def test_results_are_shown_where_they_are_no_commands(helper: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    helper.show('{"x": 1}\n::add-path::/evil')
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("::stop-commands::")
    assert last == f"::{first.removeprefix('::stop-commands::')}::"


def test_the_password_is_masked_and_goes_to_its_registry_alone(helper: ModuleType) -> None:
    environ = {
        "KOBUILD_ACTION_REGISTRY": "ghcr.io",
        "KOBUILD_ACTION_USERNAME": "me",
        "KOBUILD_ACTION_PASSWORD": "s3cret",
        "PATH": "/bin",
    }
    inputs = helper.Inputs.read(environ)
    assert list(helper.masks(inputs)) == ["::add-mask::s3cret"]
    seen = helper.session_environ(inputs, environ)
    assert (seen["KOBUILD_REGISTRY"], seen["KOBUILD_REGISTRY_PASSWORD"]) == ("ghcr.io", "s3cret")
    assert not any(name.startswith("KOBUILD_ACTION_") for name in seen)
    nothing = helper.session_environ(helper.Inputs.read({}), {"PATH": "/bin"})
    assert not any(name.startswith("KOBUILD_REGISTRY") for name in nothing)


def plan(helper: ModuleType, folder: Path, **inputs: str) -> dict[str, str]:
    environ = {f"KOBUILD_ACTION_{name.upper()}": text for name, text in {"cache": "true", **inputs}.items()}
    environ |= {"GITHUB_WORKSPACE": str(folder), "RUNNER_TEMP": "/temp", "RUNNER_OS": "Linux", "RUNNER_ARCH": "X64"}
    found: dict[str, str] = helper.cache_plan(helper.Inputs.read(environ), environ)
    return found


def test_the_cache_key_follows_lock_and_settings(helper: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "kobuild.toml").write_text("a")
    one = plan(helper, tmp_path)
    assert one["cache-dir"] == "/temp/kobuild-cache"
    assert one["cache-key"].startswith("kobuild-1-Linux-X64-")
    assert all(one["cache-key"].startswith(prefix) for prefix in one["restore-keys"].splitlines())
    assert plan(helper, tmp_path) == one
    (tmp_path / "kobuild.lock").write_text("")
    assert plan(helper, tmp_path)["cache-key"] == one["cache-key"], "a build that makes the lock finds its cache again"
    (tmp_path / "kobuild.lock").write_text("b")
    two = plan(helper, tmp_path)
    (tmp_path / "kobuild.toml").write_text("c")
    three = plan(helper, tmp_path)
    assert len({one["cache-key"], two["cache-key"], three["cache-key"]}) == 3
    assert one["restore-keys"] == two["restore-keys"] == three["restore-keys"]
    other = plan(helper, tmp_path, file="other.toml")
    assert other["restore-keys"].splitlines()[0] not in one["restore-keys"].splitlines()
    assert other["restore-keys"].splitlines()[1] == one["restore-keys"].splitlines()[1]


def test_without_a_cache_there_is_no_key(helper: ModuleType, tmp_path: Path) -> None:
    assert "cache-key" not in plan(helper, tmp_path, cache="false")
    assert "cache-key" not in plan(helper, tmp_path, command="matrix")


def test_windows_is_refused_with_a_word(helper: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert helper.main(["plan"], {"RUNNER_OS": "Windows", "RUNNER_TEMP": "C:"}) == 2
    assert "Linux and macOS runners" in capsys.readouterr().out


def test_results_become_outputs(helper: ModuleType) -> None:
    inputs = helper.Inputs.read({})
    result: dict[str, Any] = {
        "digest": "sha256:1",
        "images": ["localhost:5000/a/b:v1@sha256:1", "localhost:5000/a/b:latest@sha256:1"],
        "platforms": [{"image_id": "sha256:2", "layers": [{"tool": "go", "version": "1.27.3"}]}],
        "changed": False,
    }
    outputs = helper.Outputs()
    outputs.add("push", result, inputs, FOLDER)
    values = outputs.values
    assert values["image"] == "localhost:5000/a/b:v1@sha256:1"
    assert values["name"] == "localhost:5000/a/b"
    assert values["tags"] == "localhost:5000/a/b:v1\nlocalhost:5000/a/b:latest"
    assert values["versions"] == '{"go": "1.27.3"}'
    assert (values["image-id"], values["changed"]) == ("sha256:2", "false")
    outputs.add("matrix", {"include": [], "images": []}, inputs, FOLDER)
    assert (values["matrix"], values["changed"]) == ('{"include": []}', "false")


def test_the_versions_that_the_action_installs_are_pinned() -> None:
    lines = (ROOT / ".github" / "constraints.txt").read_text().splitlines()[1:]
    assert all("==" in line for line in lines)
    assert {"nox", "requests", "hatchling", "pip"} <= {line.partition("==")[0] for line in lines}


def test_every_pip_installs_the_same_and_nothing_is_resolved(
    helper: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper.sys, "version_info", (3, 11))
    listed, own = helper.requirements()
    assert "--no-deps" in listed
    assert "--only-binary=:all:" in listed
    assert own == ["--no-deps", "--no-build-isolation", str(ROOT)]
    monkeypatch.setattr(helper.sys, "version_info", (3, 10))
    assert list(helper.requirements()) == [["pip", "nox", str(ROOT)]]
    assert list(helper.requirements(("proof", "sign"))) == [["pip", "nox", f"{ROOT}[proof,sign]"]]


def test_extras_are_those_of_the_project(helper: ModuleType) -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert list(helper.EXTRAS) == sorted(project["optional-dependencies"])


@pytest.mark.parametrize("extra", ["google", "proof", "sbom", "sign"])
def test_all_that_an_extra_needs_is_pinned(helper: ModuleType, monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    """Nothing is resolved where the action runs, so what the libraries need in their turn is listed too."""
    monkeypatch.setattr(helper.sys, "version_info", (3, 11))
    listed, own = helper.requirements((extra,))
    assert own == ["--no-deps", "--no-build-isolation", str(ROOT)]
    pins = [Requirement(text) for text in listed if not text.startswith("--")]
    assert all(str(pin.specifier).startswith("==") for pin in pins)
    pinned = {canonicalize_name(pin.name) for pin in pins}
    assert len(pinned) == len(pins), "a package that is listed twice"
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert needed(*project["dependencies"], *project["optional-dependencies"][extra]) <= pinned


def needed(*texts: str) -> set[str]:
    """The packages that these need on this Python, by what the installed ones say of themselves."""
    queue: list[tuple[Requirement, tuple[str, ...]]] = [(Requirement(text), ("",)) for text in texts]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while queue:
        wanted, asked = queue.pop()
        name, extras = canonicalize_name(wanted.name), ("", *sorted(wanted.extras))
        applies = wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in asked)
        if applies and (name, extras) not in seen:
            seen.add((name, extras))
            queue += [(Requirement(text), extras) for text in metadata.requires(name) or ()]
    return {name for name, _ in seen}


@pytest.mark.parametrize(("version", "enough"), [("22.3", True), ("26.3.1", True), ("22.2.2", False), ("x", False)])
def test_an_old_pip_leaves_the_work_to_a_new_one(
    helper: ModuleType, monkeypatch: pytest.MonkeyPatch, version: str, enough: bool
) -> None:
    monkeypatch.setattr(helper.importlib.metadata, "version", lambda _name: version)
    assert helper.own_pip_is_enough() is enough


def test_pip_sees_no_secret_of_the_inputs(helper: ModuleType) -> None:
    environ = {
        "GITHUB_TOKEN": "t",
        "KOBUILD_ACTION_PASSWORD": "p",
        "KOBUILD_LAYER_CACHE_KEY": "k",
        "PIP_INDEX_URL": "https://index.example.com",
    }
    assert helper.install_environ(environ) == {"PIP_INDEX_URL": "https://index.example.com"}


def test_two_releases_in_one_job_have_an_environment_each(
    helper: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ = {"RUNNER_TEMP": str(tmp_path)}
    one = helper.environment_folder(environ)
    assert helper.environment_folder(environ) == one
    assert helper.environment_folder(environ, ("sign",)) != one, "what was installed without it lacks it"
    monkeypatch.setattr(helper, "ROOT", tmp_path / "another")
    assert helper.environment_folder(environ) != one
