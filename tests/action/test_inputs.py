"""What each input does, in real runs: pins, platforms, targets, logins and the kept cache."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.action.conftest import write_project
from tests.support.archives import Entry, make_tar_gz
from tests.support.registry import PASSWORD, USERNAME, DockerRegistry, run_registry
from tests.support.runner import Runner
from tests.support.signers import MinisignSigner
from tests.support.upstream import Upstream

AMD64, ARM64 = "linux/amd64", "linux/arm64"
SETTINGS = """
[image]
base = "scratch"
target = "{host}/team/app:latest"
platforms = ["linux/amd64", "linux/arm64"]

[tools.go]
source = "go"
version = "~=1.27.0"
root = "/usr/local"
"""


def go(version: str, platform: str) -> bytes:
    return make_tar_gz([Entry("go/bin/go", f"{version} {platform}".encode(), mode=0o755)])


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        for version in ("1.27.1", "1.27.2"):
            server.add_go_release(version, {platform: go(version, platform) for platform in (AMD64, ARM64)})
        yield server


@pytest.fixture
def project(runner: Runner, upstream: Upstream, registry: DockerRegistry) -> Runner:
    """A job whose workspace has an image of Go for two platforms."""
    (runner.workspace / "kobuild.toml").write_text(SETTINGS.format(host=registry.host))
    runner.environ = dict(upstream.environ)
    return runner


def test_versions_platforms_targets_and_the_lock_are_as_the_inputs_say(
    project: Runner, registry: DockerRegistry
) -> None:
    first = project.run(versions="go===1.27.1", platforms=AMD64, target=f"{registry.host}/other/app:x")
    assert first.code == 0, first.log
    assert json.loads(first.outputs["versions"]) == {"go": "1.27.1"}
    assert first.outputs["tags"] == f"{registry.host}/other/app:x"
    (platform,) = json.loads(first.outputs["result"])["platforms"]
    assert platform["platform"] == AMD64
    stale = project.run(locked="true")
    assert stale.code != 0
    assert [command for command in stale.commands if command[0] == "error"], "the lock has another pin"
    whole = project.run()
    assert len(json.loads(whole.outputs["result"])["platforms"]) == 2
    fits = project.run(locked="true")
    assert (fits.code, fits.outputs["digest"], fits.outputs["changed"]) == (0, whole.outputs["digest"], "false")


def test_what_has_changed_since_is_in_the_summary_and_groups_fold_the_log(project: Runner) -> None:
    project.run(versions="go===1.27.1")
    ran = project.run(versions="go===1.27.2")
    assert (ran.code, ran.outputs["changed"]) == (0, "true"), ran.log
    assert "What has changed" in ran.summary
    assert "1.27.1" in ran.summary.partition("What has changed")[2]
    assert ran.outputs["digest"] in ran.summary
    assert f"docker pull {ran.outputs['name']}@{ran.outputs['digest']}" in ran.summary
    assert "| go | 1.27.2 |" in ran.summary
    groups = [text for name, _, text in ran.commands if name == "group"]
    assert groups == ["Resolve the pins", "Make the layers", "Push"]
    assert [name for name, _, _ in ran.commands].count("endgroup") == 3


def test_the_kept_cache_is_all_that_a_second_job_needs(project: Runner, upstream: Upstream) -> None:
    first = project.run()
    assert first.code == 0, first.log
    (kept,) = [used.inputs for used in first.used if used.action.startswith("actions/cache@")]
    assert Path(kept["path"], "blobs").is_dir()
    upstream.forget()
    second = project.run(locked="true")
    assert second.outputs["digest"] == first.outputs["digest"]
    assert upstream.requests == []
    (again,) = [used.inputs for used in second.used if used.action.startswith("actions/cache@")]
    assert again["restore-keys"] == kept["restore-keys"]
    assert again["key"] != kept["key"], "the lock is there now"


def test_what_docker_login_action_has_stored_is_used(runner: Runner, tmp_path: Path) -> None:
    with run_registry(tmp_path / "registry", htpasswd=True) as registry:
        write_project(runner.workspace, host=registry.host)
        folder = tmp_path / "home" / ".docker"
        folder.mkdir(parents=True)
        runner.environ = {"DOCKER_CONFIG": str(folder)}
        # As `docker login` writes it where the runner has no credential store.
        auth = b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        ran = runner.run(command="push")
        assert ran.code == 0, ran.log
        assert PASSWORD not in ran.log
        assert auth not in ran.log
        checked = runner.run(command="verify", image=ran.outputs["image"])
        assert (checked.code, checked.outputs["digest"]) == (0, ran.outputs["digest"]), checked.log


SIGNED = """
[image]
base = "scratch"

[tools.ko]
source = "github:ko-build/ko"
require = "signature"
minisign-key = "{key}"
"""


def test_extras_bring_what_signatures_need(project: Runner, upstream: Upstream) -> None:
    signer, archive = MinisignSigner(), make_tar_gz([Entry("ko", b"ko", mode=0o755)])
    name = "ko_1.0_Linux_x86_64.tar.gz"
    upstream.add_github_release("ko-build/ko", "v1.0", {name: archive, f"{name}.minisig": signer.sign(archive)})
    (project.workspace / "kobuild.toml").write_text(SIGNED.format(key=signer.public))
    lacking = project.run(command="resolve", github_token="")
    assert lacking.code != 0
    assert "in the action: extras: proof" in lacking.log
    ran = project.run(command="resolve", github_token="", extras="proof")
    assert ran.code == 0, ran.log
    assert f"minisign:{signer.name}" in (project.workspace / "kobuild.lock").read_text()


def test_an_error_about_a_tool_stands_at_the_tool(project: Runner) -> None:
    (project.workspace / "kobuild.toml").write_text(SETTINGS.format(host="localhost:1").replace("~=1.27.0", "==1.99.0"))
    ran = project.run(command="resolve")
    (error,) = [command for command in ran.commands if command[0] == "error"]
    assert (ran.code != 0, error[1]["file"], error[1]["line"]) == (True, "kobuild.toml", "7")
