"""No secret in a log, an error, a process list, the lock, the cache or the image, whatever way it came."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.certificates import Authority, make_authority
from tests.support.commandline import Done, Kobuild
from tests.support.registry import PASSWORD, USERNAME, DockerRegistry, TokenServer, run_registry, run_token_server

PAIR = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
IDENTITY = "identity-t0ken-of-mira"
SECRETS = (PASSWORD, PAIR, IDENTITY, "eyJ")
"""The last is how every signed token begins."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tokens(authority: Authority) -> Iterator[TokenServer]:
    with run_token_server(authority, identity_tokens={IDENTITY: USERNAME}) as server:
        yield server


@pytest.fixture(scope="module")
def token_registry(tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer) -> Iterator[DockerRegistry]:
    with run_registry(tmp_path_factory.mktemp("token"), token=tokens) as running:
        yield running


def command_line(process: Path, mark: bytes) -> str:
    """How a process was called, as anybody on the machine can read it; empty for one that is not marked as ours."""
    try:
        is_ours = mark in (process / "environ").read_bytes()
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace") if is_ours else ""
    except OSError:
        return ""


@contextmanager
def watched_processes(kobuild: Kobuild) -> Iterator[set[str]]:
    """The command lines of kobuild and of all that it starts meanwhile."""
    seen: set[str] = set()
    over = threading.Event()
    mark = f"KOBUILD_CACHE_DIR={kobuild.cache}".encode()

    def watch() -> None:
        while not over.wait(0.005):
            seen.update(command_line(process, mark) for process in Path("/proc").glob("[0-9]*"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def by_file(kobuild: Kobuild, host: str) -> None:
    (kobuild.folder / "docker").mkdir()
    (kobuild.folder / "docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": PAIR}}}))
    kobuild.environ["DOCKER_CONFIG"] = str(kobuild.folder / "docker")


def by_helper(kobuild: Kobuild, host: str) -> None:
    folder = kobuild.folder / "docker"
    folder.mkdir()
    answer = json.dumps({"ServerURL": host, "Username": "<token>", "Secret": IDENTITY})
    # It takes its time, so that whoever lists processes sees it.
    (folder / "docker-credential-test").write_text(f"#!/bin/sh\ncat >/dev/null; sleep 0.1; echo '{answer}'\n")
    (folder / "docker-credential-test").chmod(0o755)
    (folder / "config.json").write_text(json.dumps({"credHelpers": {host: "test"}}))
    path = kobuild.variables()["PATH"]
    kobuild.environ.update({"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:{path}"})


def by_variables(kobuild: Kobuild, host: str) -> None:
    login = {"KOBUILD_REGISTRY": host, "KOBUILD_REGISTRY_USERNAME": USERNAME, "KOBUILD_REGISTRY_PASSWORD": PASSWORD}
    kobuild.environ.update(login)


def check(done: Done, kobuild: Kobuild, seen: set[str]) -> None:
    written = [path for root in (kobuild.folder, kobuild.cache) for path in root.rglob("*") if path.is_file()]
    ours = [path for path in written if "docker" not in path.parts]
    texts = {"output": done.out, "messages": done.err, "processes": "\n".join(seen)}
    texts |= {str(path): path.read_bytes().decode("latin-1") for path in ours}
    assert any("-m kobuild push" in line for line in seen), "the processes were seen"
    assert kobuild.folder / "kobuild.lock" in ours
    for place, text in texts.items():
        for secret in SECRETS:
            assert secret not in text, f"{secret} in {place}"


GIVERS = {"file": by_file, "helper": by_helper, "variables": by_variables}


@pytest.mark.parametrize("way", GIVERS)
def test_no_secret_is_written_shown_or_listed(way: str, kobuild: Kobuild, token_registry: DockerRegistry) -> None:
    GIVERS[way](kobuild, token_registry.host)
    (kobuild.folder / "hello").write_bytes(b"\x7fELF hello")
    base, target = (f"{token_registry.host}/{way}/{name}:1" for name in ("base", "ci"))
    table = '[tools.hello]\nsource = "path:hello"\nroot = "/opt"\n'
    kobuild.settings(f'[image]\nbase = "scratch"\ntarget = "{base}"\n{table}')
    kobuild.ok("push")
    (kobuild.folder / "kobuild.lock").unlink()
    kobuild.settings(f'[image]\nbase = "{base}"\ntarget = "{target}"\n{table}'.replace("/opt", "/srv"))
    with watched_processes(kobuild) as seen:
        done = kobuild.ok("push", "--verbose")
    assert "kobuild.transport" in done.err, "the library's log is there"
    assert way != "helper" or any("docker-credential-test" in line for line in seen)
    check(done, kobuild, seen)


def test_nor_where_it_fails(kobuild: Kobuild, token_registry: DockerRegistry, tokens: TokenServer) -> None:
    """Refused by the registry, and by a token server that quotes what it was sent."""
    by_file(kobuild, token_registry.host)
    (kobuild.folder / "hello").write_bytes(b"\x7fELF hello")
    target = f"{token_registry.host}/refused/ci:1"
    kobuild.settings(f'[image]\nbase = "scratch"\ntarget = "{target}"\n[tools.hello]\nsource = "path:hello"\n')
    allowed = tokens.allowed
    tokens.allowed = lambda _user, _name: {"pull"}
    try:
        with watched_processes(kobuild) as seen:
            done = kobuild.run("push", "--verbose")
    finally:
        tokens.allowed = allowed
    assert done.code == 1
    check(done, kobuild, seen)
    tokens.identity_tokens.clear()
    config = {"auths": {token_registry.host: {"identitytoken": IDENTITY}}}
    (kobuild.folder / "docker" / "config.json").write_text(json.dumps(config))
    with watched_processes(kobuild) as seen:
        done = kobuild.run("push", "--verbose")
    tokens.identity_tokens[IDENTITY] = USERNAME
    assert done.code == 1
    assert "refused the identity token" in done.err
    check(done, kobuild, seen)
