from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kobuild.oci.reference import Reference, Repository
from kobuild.registry.credentials import Credential
from kobuild.registry.googlecloud import GoogleKeychain
from tests.support.certificates import Authority
from tests.support.recorders import HeldClock
from tests.support.scripted import Reply, replies, serve

PLACE = Reference.parse("europe-docker.pkg.dev/project/repo/image").repository
TOKEN = "ya29.pl4nted"


def keychain(tmp_path: Path, clock: HeldClock | None = None, **environ: str) -> GoogleKeychain:
    return GoogleKeychain(
        {"HOME": str(tmp_path), "PATH": f"{tmp_path}", **environ}, clock=clock, hardware=tmp_path / "x"
    )


def gcloud(folder: Path, script: str) -> None:
    program = folder / "gcloud"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize("name", ["gcr.io/p/x", "eu.gcr.io/p/x", "us-central1-docker.pkg.dev/p/r/x"])
def test_gcloud_gives_a_token_for_googles_registries(name: str, tmp_path: Path) -> None:
    gcloud(tmp_path, f'[ "$*" = "auth print-access-token --quiet" ] && echo {TOKEN}')
    found = keychain(tmp_path).resolve(Reference.parse(name).repository)
    assert found == Credential("gcloud auth print-access-token", "oauth2accesstoken", TOKEN)
    assert TOKEN not in repr(found)


@pytest.mark.parametrize(
    "name", ["ghcr.io/a/b", "evil-docker.pkg.dev.example/a", "gcr.io.example/a", "docker.io/gcr.io/a"]
)
def test_no_other_registry_gets_it(name: str, tmp_path: Path) -> None:
    gcloud(tmp_path, f"echo {TOKEN}; touch {tmp_path}/asked")
    found = keychain(tmp_path)
    assert found.resolve(Reference.parse(name).repository) is None
    assert found.problems(Reference.parse(name).repository) == ()
    assert not (tmp_path / "asked").exists()


def test_a_token_is_kept_for_a_while(tmp_path: Path) -> None:
    gcloud(tmp_path, f"echo x >> {tmp_path}/asked; echo {TOKEN}")
    clock = HeldClock()
    found = keychain(tmp_path, clock)
    for seconds, asked in ((0.0, 1), (1799.0, 1), (2.0, 2)):
        clock.advance(seconds)
        found.resolve(PLACE)
        assert len((tmp_path / "asked").read_text().split()) == asked


def test_a_gcloud_that_is_not_logged_in_is_a_problem(tmp_path: Path) -> None:
    gcloud(tmp_path, "echo 'ERROR: You do not currently have an active account selected.' >&2; exit 1")
    found = keychain(tmp_path)
    assert found.resolve(PLACE) is None
    (problem,) = found.problems(PLACE)
    assert "active account" in problem


def test_a_machine_without_google_is_not_kept_waiting(tmp_path: Path) -> None:
    found = keychain(tmp_path)
    assert found.resolve(PLACE) is None
    assert found.problems(PLACE) == ()


def test_a_service_accounts_key_is_used(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("google.auth", reason="google-auth comes with kobuild[google]")
    with serve(replies(Reply(body=json.dumps({"access_token": TOKEN, "expires_in": 3600}).encode()))) as server:
        account = {
            "type": "service_account",
            "project_id": "project",
            "private_key": authority.key.read_text(),
            "client_email": "robot@project.example",
            "token_uri": f"{server.url}/token",
        }
        (tmp_path / "key.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        found = keychain(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json")).resolve(PLACE)
    assert found == Credential("Google application default credentials", "oauth2accesstoken", TOKEN)
    assert len(server.log) == 1


def test_a_broken_key_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("google.auth", reason="google-auth comes with kobuild[google]")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    found = keychain(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "none.json"))
    assert found.resolve(PLACE) is None
    assert "ask for Google credentials" in found.problems(PLACE)[0]


def test_the_metadata_server_is_asked_on_googles_machines(tmp_path: Path) -> None:
    pytest.importorskip("google.auth", reason="google-auth comes with kobuild[google]")
    (tmp_path / "product_name").write_text("Google Compute Engine\n")
    answer = {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer", "email": "a@b", "scopes": []}
    reply = Reply(
        body=json.dumps(answer).encode(), headers={"Metadata-Flavor": "Google", "Content-Type": "application/json"}
    )
    script = (
        "import os, pathlib, sys\n"
        "from kobuild.oci.reference import Reference\n"
        "from kobuild.registry.googlecloud import GoogleKeychain\n"
        "hardware = pathlib.Path(sys.argv[1]) / 'product_name'\n"
        "found = GoogleKeychain({'HOME': sys.argv[1], 'PATH': ''}, hardware=hardware)\n"
        "credential = found.resolve(Reference.parse('gcr.io/p/x').repository)\n"
        "print(credential.password if credential else found.problems(Reference.parse('gcr.io/p/x').repository))\n"
    )
    with serve(replies(reply)) as server:
        # google-auth reads these when it is imported.
        environ = {
            **os.environ,
            "HOME": str(tmp_path),
            "GCE_METADATA_HOST": server.host,
            "GCE_METADATA_IP": server.host,
            "CLOUDSDK_CONFIG": str(tmp_path),
            "GOOGLE_CLOUD_PROJECT": "project",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-c", script, str(tmp_path)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == TOKEN, done.stderr


def test_a_missing_library_is_named_where_it_would_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    found = keychain(tmp_path, K_SERVICE="x")
    repository: Repository = PLACE
    assert found.resolve(repository) is None
    assert "kobuild[google]" in found.problems(repository)[0]
