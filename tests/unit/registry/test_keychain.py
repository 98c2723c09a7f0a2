from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from kobuild.errors import UsageError
from kobuild.oci.reference import Reference, Repository
from kobuild.registry.authfiles import normalize_key
from kobuild.registry.credentials import Credential, EnvironmentKeychain, GitHubKeychain
from kobuild.registry.keychain import FileKeychain, auth_file_paths, default_keychain

SECRET = "pl4nted-s3cret"


def repository(name: str) -> Repository:
    return Reference.parse(name).repository


def auth(user: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def keychain(folder: Path, *contents: dict[str, Any], **options: Any) -> FileKeychain:
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / f"{number}.json")
        paths[-1].write_text(json.dumps(content))
    environ = {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
    return FileKeychain(environ, paths=paths, **options)


def helper(folder: Path, name: str, script: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def answering(folder: Path, name: str, user: str = "helped", secret: str = SECRET) -> None:
    answer = json.dumps({"ServerURL": "x", "Username": user, "Secret": secret})
    helper(folder, name, f"""echo "$1 $(cat)" >> {folder}/asked; echo '{answer}'""")


@pytest.mark.parametrize(
    "key",
    [
        "registry.example:5000",
        "https://registry.example:5000",
        "https://registry.example:5000/",
        "http://registry.example:5000/v2/",
        "https://registry.example:5000/v1/",
        "REGISTRY.example:5000",
    ],
)
def test_keys_may_have_scheme_version_and_slash(key: str, tmp_path: Path) -> None:
    found = keychain(tmp_path, {"auths": {key: auth("me")}}).resolve(repository("registry.example:5000/a/b"))
    assert found == Credential(str(tmp_path / "0.json"), "me", SECRET)


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io", "docker.io/library"]
)
def test_docker_hub_has_many_names(key: str, tmp_path: Path) -> None:
    found = keychain(tmp_path, {"auths": {key: auth("me")}}).resolve(repository("debian"))
    assert found is not None


def test_other_registries_and_ports_get_nothing(tmp_path: Path) -> None:
    found = keychain(tmp_path, {"auths": {"registry.example": auth("me")}})
    assert found.resolve(repository("registry.example/a")) is not None
    assert found.resolve(repository("registry.example:5000/a")) is None
    assert found.resolve(repository("sub.registry.example/a")) is None


def test_the_longest_key_wins_over_all_files(tmp_path: Path) -> None:
    docker = {"auths": {"r.example": auth("host"), "r.example/other": auth("other")}}
    podman = {"auths": {"r.example/team": auth("team"), "r.example/team/app": auth("app"), "r.example": auth("late")}}
    found = keychain(tmp_path, docker, podman)
    users = {
        name: getattr(found.resolve(repository(f"r.example/{name}")), "username", None)
        for name in ("x", "team/x", "team/app", "team/application", "other")
    }
    assert users == {"x": "host", "team/x": "team", "team/app": "app", "team/application": "team", "other": "other"}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "u", "password": "p"}, Credential("", "u", "p")),
        ({"identitytoken": "t"}, Credential("", identity_token="t")),
        ({**auth("guid", ""), "identitytoken": "t"}, Credential("", "guid", "", "t")),
        (auth("u", "with:colon"), Credential("", "u", "with:colon")),
        (auth("u", "p\0\0"), Credential("", "u", "p")),
        ({"auth": auth("user", "pass")["auth"].rstrip("=")}, Credential("", "user", "pass")),
        ({}, None),
        ({"auth": ""}, None),
        (None, None),
        ({"email": "a@b"}, None),
    ],
)
def test_forms_of_entries(entry: Any, expected: Credential | None, tmp_path: Path) -> None:
    found = keychain(tmp_path, {"auths": {"r.example": entry}}).resolve(repository("r.example/a"))
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert (found.username, found.password, found.identity_token) == (
            expected.username,
            expected.password,
            expected.identity_token,
        )


@pytest.mark.parametrize(
    "broken", [{"auth": "%%%"}, {"auth": base64.b64encode(b"no colon").decode()}, {"auth": "/w=="}]
)
def test_a_broken_entry_is_a_problem_not_a_crash(broken: dict[str, str], tmp_path: Path) -> None:
    found = keychain(tmp_path, {"auths": {"r.example": broken}})
    assert found.resolve(repository("r.example/a")) is None
    (problem,) = found.problems(repository("r.example/a"))
    assert f"{tmp_path}/0.json: auths.r.example.auth" in problem
    assert found.problems(repository("other.example/a")) == ()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"auths": "SECRET', "\xff"])
def test_a_broken_file_is_a_problem_that_quotes_nothing(content: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content.encode("latin-1"))
    found = FileKeychain({}, paths=[path, tmp_path / "missing.json"])
    assert found.resolve(repository("r.example/a")) is None
    (problem,) = found.problems(repository("r.example/a"))
    assert str(path) in problem
    assert "SECRET" not in problem


def test_a_helper_of_the_registry_goes_before_the_store_and_before_stored_secrets(tmp_path: Path) -> None:
    answering(tmp_path, "own", "own")
    answering(tmp_path, "all", "all")
    content = {"auths": {"a.example": auth("stored"), "b.example": {}}, "credHelpers": {"a.example": "own"}}
    found = keychain(tmp_path, {**content, "credsStore": "all"})
    users = [found.resolve(repository(f"{host}.example/x")) for host in "aabb"]
    assert [user.username for user in users if user] == ["own", "own", "all", "all"]
    assert (tmp_path / "asked").read_text() == "get a.example\nget b.example\n"


@pytest.mark.parametrize(
    ("name", "host", "user"),
    [
        ("ecr-login", "123456789012.dkr.ecr.eu-west-1.amazonaws.com", "AWS"),
        ("ecr-login", "public.ecr.aws", "AWS"),
        ("acr-env", "mine.azurecr.io", "00000000-0000-0000-0000-000000000000"),
        ("acr-login", "mine.azurecr.io", "<token>"),
        ("gcr", "europe-docker.pkg.dev", "_dcgcr_0_0_0_token"),
    ],
)
def test_the_clouds_own_helpers_are_asked_as_docker_asks_them(name: str, host: str, user: str, tmp_path: Path) -> None:
    """ACR's helpers answer with an identity token, or with a null GUID as user and a token as password."""
    answering(tmp_path, name, user)
    found = keychain(tmp_path, {"credHelpers": {host: name}}).resolve(repository(f"{host}/team/app"))
    place = f"docker-credential-{name}"
    is_token = user == "<token>"
    expected = Credential(place, identity_token=SECRET) if is_token else Credential(place, user, SECRET)
    assert found == expected
    assert (tmp_path / "asked").read_text() == f"get {host}\n"


def test_helpers_know_docker_hub_by_its_old_name(tmp_path: Path) -> None:
    answering(tmp_path, "all")
    keychain(tmp_path, {"credsStore": "all"}).resolve(repository("debian"))
    assert (tmp_path / "asked").read_text() == "get https://index.docker.io/v1/\n"


def test_the_token_user_means_an_identity_token(tmp_path: Path) -> None:
    answering(tmp_path, "all", "<token>")
    found = keychain(tmp_path, {"credsStore": "all"}).resolve(repository("r.example/a"))
    assert found == Credential("docker-credential-all", identity_token=SECRET)


@pytest.mark.parametrize(
    "words",
    [
        "credentials not found in native keychain",
        "Credentials not found for r.example",
        "no credentials stored",
        "The specified item could not be found in the keychain.",
        "Element not found.",
    ],
)
def test_not_found_in_any_wording_means_the_next_place(words: str, tmp_path: Path) -> None:
    helper(tmp_path, "all", f"cat > /dev/null; echo '{words}'; exit 1")
    content = {"credsStore": "all", "auths": {"r.example": auth("stored")}}
    found = keychain(tmp_path, content)
    assert getattr(found.resolve(repository("r.example/a")), "username", None) == "stored"
    assert found.resolve(repository("s.example/a")) is None
    assert found.problems(repository("s.example/a")) == ()


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("cat >/dev/null; echo 'vault is sealed' >&2; exit 3", "it failed (3): vault is sealed"),
        ("cat >/dev/null; exit 1", "it failed (1): no output"),
        (
            """cat >/dev/null; echo 'exec: "pass": executable file not found in $PATH'; exit 1""",
            'it failed (1): exec: "pass": executable file not found in $PATH',
        ),
        (f"cat >/dev/null; echo 'nonsense {SECRET}'", "its answer is not a credential"),
        ("""cat >/dev/null; echo '{"Username": 1, "Secret": 2}'""", "its answer is not a credential"),
        ("""cat >/dev/null; echo '{"Username": "x"}'""", "its answer is not a credential"),
    ],
)
def test_a_helper_that_fails_is_named_and_not_fatal(script: str, problem: str, tmp_path: Path) -> None:
    helper(tmp_path, "bad", script)
    found = keychain(tmp_path, {"credHelpers": {"r.example": "bad"}})
    assert found.resolve(repository("r.example/a")) is None
    assert found.problems(repository("r.example/a")) == (f"run credential helper docker-credential-bad: {problem}",)


@pytest.mark.parametrize(("name", "problem"), [("nowhere", "not found on PATH"), ("../x", "not a program's name")])
def test_a_missing_helper_is_named(name: str, problem: str, tmp_path: Path) -> None:
    found = keychain(tmp_path, {"credsStore": name})
    assert found.resolve(repository("r.example/a")) is None
    (text,) = found.problems(repository("r.example/a"))
    assert f"docker-credential-{name}" in text
    assert problem in text


def test_a_helper_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    helper(tmp_path, "slow", "sleep 600 & sleep 600")
    found = keychain(tmp_path, {"credsStore": "slow"}, helper_seconds=0.2)
    started = time.monotonic()
    assert found.resolve(repository("r.example/a")) is None
    assert time.monotonic() - started < 10
    assert "no answer within" in found.problems(repository("r.example/a"))[0]


def test_where_files_are_looked_for() -> None:
    usual = auth_file_paths({"HOME": "/h", "XDG_RUNTIME_DIR": "/run/me"})
    assert list(map(str, usual)) == [
        "/h/.docker/config.json",
        "/run/me/containers/auth.json",
        "/h/.config/containers/auth.json",
    ]
    moved = auth_file_paths({"HOME": "/h", "DOCKER_CONFIG": "/d", "XDG_CONFIG_HOME": "/c"})
    assert list(map(str, moved)) == ["/d/config.json", "/c/containers/auth.json"]
    assert list(map(str, auth_file_paths({"REGISTRY_AUTH_FILE": "/one.json", "DOCKER_CONFIG": "/d"}))) == ["/one.json"]


def test_a_whole_file_may_stand_in_a_variable() -> None:
    environ = {"DOCKER_AUTH_CONFIG": json.dumps({"auths": {"r.example": auth("ci")}})}
    found = FileKeychain(environ, paths=()).resolve(repository("r.example/a"))
    assert found == Credential("the environment (DOCKER_AUTH_CONFIG)", "ci", SECRET)
    (problem,) = FileKeychain({"DOCKER_AUTH_CONFIG": "{"}, paths=()).problems(repository("r.example/a"))
    assert "DOCKER_AUTH_CONFIG" in problem


def test_environment_credentials_go_to_the_named_registry_only() -> None:
    environ = {"KOBUILD_REGISTRY": "r.example", "KOBUILD_REGISTRY_USERNAME": "u", "KOBUILD_REGISTRY_PASSWORD": SECRET}
    found = EnvironmentKeychain(environ)
    credential = found.resolve(repository("r.example/a"))
    assert credential is not None
    assert (credential.username, credential.password) == ("u", SECRET)
    assert SECRET not in repr(credential)
    assert found.resolve(repository("other.example/a")) is None
    with pytest.raises(UsageError, match="KOBUILD_REGISTRY not set"):
        EnvironmentKeychain({**environ, "KOBUILD_REGISTRY": ""})
    assert EnvironmentKeychain({"KOBUILD_REGISTRY": "r.example"}).resolve(repository("r.example/a")) is None


def test_github_token_is_for_ghcr_alone_and_comes_last(tmp_path: Path) -> None:
    found = GitHubKeychain({"GITHUB_TOKEN": SECRET, "GITHUB_ACTOR": "octo"})
    assert found.resolve(repository("ghcr.io/a/b")) == Credential("the environment (GITHUB_TOKEN)", "octo", SECRET)
    assert found.resolve(repository("docker.io/a/b")) is None
    assert GitHubKeychain({}).resolve(repository("ghcr.io/a/b")) is None
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"ghcr.io": auth("stored")}}))
    chain = default_keychain({"GITHUB_TOKEN": SECRET, "DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)})
    credential = chain.resolve(repository("ghcr.io/a/b"))
    assert credential is not None
    assert credential.username == "stored"


@pytest.mark.parametrize(
    ("key", "normal"), [("https://a/v1/repo", "a/v1/repo"), ("a", "a"), ("", ""), ("https://gcr.io", "gcr.io")]
)
def test_keys_are_normalised(key: str, normal: str) -> None:
    assert normalize_key(key) == normal


@pytest.mark.parametrize(
    "answer",
    [
        f'{{"Username": "u", "Secret": "{SECRET}"}}',
        f'{{\n  "Username": "u",\n  "Secret":\n    "{SECRET}"\n}}',
        f'answer: {{"Username": "u", "Secret": "{SECRET}"}}',
    ],
)
def test_a_helper_that_answers_and_fails_shows_nothing_of_its_answer(tmp_path: Path, answer: str) -> None:
    helper(tmp_path, "all", f"echo '{answer}'; echo broken >&2; exit 3")
    found = keychain(tmp_path, {"credsStore": "all"})
    assert found.resolve(repository("r.example/a")) is None
    (problem,) = found.problems(repository("r.example/a"))
    assert "it failed (3): broken" in problem
    assert SECRET not in problem
