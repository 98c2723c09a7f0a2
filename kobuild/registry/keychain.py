"""The usual keychain: what `docker login` and `podman login` left behind, and what a workflow sets for its jobs."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from kobuild.errors import KobuildError, ProgramError
from kobuild.oci.reference import Repository
from kobuild.registry.authfiles import AuthFile, AuthFileError, helper_server, keys_for
from kobuild.registry.credentials import (
    ChainKeychain,
    Credential,
    EnvironmentKeychain,
    GitHubKeychain,
    Keychain,
)
from kobuild.registry.googlecloud import GoogleKeychain
from kobuild.registry.helpers import HELPER_SECONDS, ask_helper


def default_keychain(environ: Mapping[str, str] | None = None) -> Keychain:
    """The environment's credentials, then the files', then what a workflow or Google gives; raises UsageError."""
    found = os.environ if environ is None else environ
    last = (GitHubKeychain(found), GoogleKeychain(found))
    return ChainKeychain([EnvironmentKeychain(found), FileKeychain(found), *last])


def auth_file_paths(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where credential files may be, the one that is named outright first.

    `REGISTRY_AUTH_FILE` stands alone, as it does for Podman.
    """
    named = environ.get("REGISTRY_AUTH_FILE")
    if named:
        return (Path(named),)
    home = Path(environ.get("HOME") or Path.home())
    docker = Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    runtime = environ.get("XDG_RUNTIME_DIR")
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    podman = [Path(runtime) / "containers" / "auth.json"] if runtime else []
    return (docker, *podman, config / "containers" / "auth.json")


class FileKeychain:
    """Docker's and Podman's files.

    The longest key wins, over all files; for a host, a helper goes before a stored secret, as Docker has it, and an
    earlier file before a later one. Answers are kept, since helpers are slow.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        paths: Sequence[Path] | None = None,
        helper_seconds: float = HELPER_SECONDS,
    ) -> None:
        """Make a keychain; files are read when first needed. `paths` None means the usual ones."""
        self._environ = environ
        self._paths = auth_file_paths(environ) if paths is None else tuple(paths)
        self._helper_seconds = helper_seconds
        self._files: list[AuthFile] | None = None
        self._file_problems: list[str] = []
        self._found: dict[Repository, Credential | None] = {}
        self._answers: dict[tuple[str, str], Credential | None] = {}
        self._problems: dict[str, list[str]] = {}
        self._lock = threading.RLock()

    def resolve(self, repository: Repository) -> Credential | None:
        """The credential for a repository; None for anonymous."""
        with self._lock:
            if repository not in self._found:
                self._found[repository] = self._search(repository)
            return self._found[repository]

    def problems(self, repository: Repository) -> Sequence[str]:
        """Files that cannot be read, and helpers of the repository's registry that failed."""
        with self._lock:
            self._load()
            return (*self._file_problems, *self._problems.get(repository.registry.host, ()))

    def _search(self, repository: Repository) -> Credential | None:
        files = self._load()
        *paths, host = keys_for(repository)
        for key in paths:
            for file in files:
                found = self._entry(file, key, repository)
                if found is not None:
                    return found
        for file in files:
            found = self._helper(file, host, repository) or self._entry(file, host, repository)
            if found is not None:
                return found
        return None

    def _helper(self, file: AuthFile, host: str, repository: Repository) -> Credential | None:
        name = file.helpers.get(host, file.store)
        if not name:
            return None
        server = helper_server(repository)
        if (name, server) not in self._answers:
            try:
                answer = ask_helper(name, server, self._environ, seconds=self._helper_seconds)
            except ProgramError as error:
                answer = None
                self._note(repository, error)
            self._answers[name, server] = answer
        return self._answers[name, server]

    def _entry(self, file: AuthFile, key: str, repository: Repository) -> Credential | None:
        try:
            return file.entry(key)
        except AuthFileError as error:
            self._note(repository, error)
            return None

    def _note(self, repository: Repository, error: KobuildError) -> None:
        texts = self._problems.setdefault(repository.registry.host, [])
        if error.message not in texts:
            texts.append(error.message)

    def _load(self) -> list[AuthFile]:
        if self._files is None:
            self._files = [file for file in (self._read_variable(), *map(self._read, self._paths)) if file]
        return self._files

    def _read(self, path: Path) -> AuthFile | None:
        try:
            return AuthFile.load(path)
        except AuthFileError as error:
            self._file_problems.append(error.message)
            return None

    def _read_variable(self) -> AuthFile | None:
        """`DOCKER_AUTH_CONFIG` holds a file's whole content, as CI systems set it."""
        raw = self._environ.get("DOCKER_AUTH_CONFIG")
        try:
            return AuthFile.parse(raw, "the environment (DOCKER_AUTH_CONFIG)") if raw else None
        except AuthFileError as error:
            self._file_problems.append(error.message)
            return None
