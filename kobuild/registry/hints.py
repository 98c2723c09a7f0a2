"""What to do about a refusal, for each registry that words it in its own way."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from kobuild.oci.reference import DOCKER_HUB, Repository

_ECR: Final = re.compile(r"[0-9]+\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?\Z")


def hint_for(repository: Repository, status: int | None) -> str | None:
    """The likely cause and the remedy for an HTTP status; None where there is nothing to say."""
    host = repository.registry.host.partition(":")[0]
    if status not in (401, 403, 404, 405, 429):
        return None
    for fits, hint in _REGISTRIES:
        if fits(host):
            return hint(repository, status)
    return _generic(repository, status)


def _generic(repository: Repository, status: int) -> str | None:
    host = repository.registry.host
    if status == 401:
        return f"log in with `docker login {host}` or `podman login {host}`, or check the credentials in use"
    if status == 403:
        return f"check that the account may do this in {repository}"
    if status == 404:
        return "check the name; some registries answer so to those who may not see the repository"
    return "the registry limits requests: wait, or log in for a higher limit" if status == 429 else None


def _docker_hub(_: Repository, status: int) -> str | None:
    if status == 429:
        return "Docker Hub limits pulls: log in with `docker login` for a higher limit, or wait"
    if status == 404:
        return "Docker Hub hides private repositories: check the name, and log in with `docker login`"
    return "log in with `docker login`; pushing needs an access token with Write, and a name USER/REPOSITORY of yours"


def _google(repository: Repository, status: int) -> str | None:
    host = repository.registry.host
    if status == 404:
        return (
            "Artifact Registry makes no repository on push: create it with `gcloud artifacts repositories create`, "
            "and write the name as REGION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE"
        )
    return (
        f"log in with `gcloud auth configure-docker {host}`; pushing needs the role Artifact Registry Writer "
        "(roles/artifactregistry.writer), pulling Artifact Registry Reader"
    )


def _amazon(repository: Repository, status: int) -> str | None:
    if status in (404, 405):
        return f"ECR makes no repository on push: `aws ecr create-repository --repository-name {repository.path}`"
    found = _ECR.match(repository.registry.host)
    region = found[1] if found else "REGION"
    return (
        f"ECR's tokens last 12 hours: log in again with `aws ecr get-login-password --region {region}` piped into "
        f"`docker login -u AWS --password-stdin {repository.registry.host}`, or set up docker-credential-ecr-login"
    )


def _azure(repository: Repository, status: int) -> str | None:
    if status == 404:
        return None
    name = repository.registry.host.partition(".")[0]
    return (
        f"log in with `az acr login --name {name}` (with a bare token the user name is "
        "00000000-0000-0000-0000-000000000000); pushing needs the role AcrPush"
    )


def _github(_: Repository, status: int) -> str | None:
    if status == 404:
        return "check the name; ghcr.io also answers so where the token may not see the package"
    return (
        "in a workflow give the job `permissions: packages: write` and GITHUB_TOKEN, and link an existing package to "
        "the repository in its settings; elsewhere log in with a classic token that has write:packages"
    )


def _gitlab(_: Repository, status: int) -> str | None:
    if status == 404:
        return "check that the project exists, and that its container registry is switched on"
    return (
        "in a job log in as gitlab-ci-token with CI_JOB_TOKEN; elsewhere use a deploy or access token with "
        "read_registry and write_registry"
    )


def _quay(_: Repository, status: int) -> str | None:
    if status == 404:
        return None
    return "a robot's user name is NAMESPACE+ROBOT, whole; give it Write on the repository"


def is_google(host: str) -> bool:
    """Whether a host is one of Google's registries."""
    return host == "gcr.io" or host.endswith((".gcr.io", "-docker.pkg.dev"))


def _is_gitlab(host: str) -> bool:
    return "gitlab" in host.split(".")


_REGISTRIES: Final[tuple[tuple[Callable[[str], bool], Callable[[Repository, int], str | None]], ...]] = (
    (lambda host: host == DOCKER_HUB, _docker_hub),
    (is_google, _google),
    (lambda host: bool(_ECR.match(host)), _amazon),
    (lambda host: host.endswith(".azurecr.io"), _azure),
    (lambda host: host == "ghcr.io", _github),
    (_is_gitlab, _gitlab),
    (lambda host: host == "quay.io", _quay),
)
