"""Scopes: what a token is asked to allow (distribution's token authentication specification, "Token Scope")."""

from __future__ import annotations

from collections.abc import Iterable

from kobuild.oci.reference import Repository

Scopes = tuple[str, ...]
"""`repository:PATH:ACTION,ACTION`, one a resource, in a fixed order."""


def pull_scope(repository: Repository) -> str:
    """Leave to read."""
    return f"repository:{repository.path}:pull"


def push_scope(repository: Repository) -> str:
    """Leave to read and write: a token for `push` alone cannot ask whether a blob is there."""
    return f"repository:{repository.path}:pull,push"


def join_scopes(scopes: Iterable[str]) -> Scopes:
    """One scope for each resource, with all its actions; the order of first mention is kept."""
    merged: dict[str, list[str]] = {}
    for scope in scopes:
        resource, _, actions = scope.rpartition(":")
        known = merged.setdefault(resource, [])
        known.extend(action for action in actions.split(",") if action and action not in known)
    return tuple(f"{resource}:{','.join(actions)}" for resource, actions in merged.items() if resource)
