"""Pure edits of a config's `Env` list: `NAME=value` strings, in an order that people see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What container runtimes take for PATH where an image sets none (moby, `system.DefaultPathEnvUnix`)."""


def get_variable(env: Sequence[str], name: str) -> str | None:
    """The value of `name`; of several the last, as Docker reads them."""
    prefix = f"{name}="
    return next((item[len(prefix) :] for item in reversed(env) if item.startswith(prefix)), None)


def set_variables(env: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """`env` with each of `values` set: replaced where it stands, appended where it is new, once each."""
    pending = {name: f"{name}={value}" for name, value in values.items()}
    result = []
    for item in env:
        name = item.partition("=")[0]
        if name not in values:
            result.append(item)
        elif name in pending:
            result.append(pending.pop(name))
    return (*result, *pending.values())


def prepend_path(env: Sequence[str], directories: Iterable[str]) -> tuple[str, ...]:
    """`env` with `directories` first on PATH, in their order, and no longer at later places.

    Doing it twice changes nothing. Where `env` has no PATH or an empty one, the runtimes' default follows: a PATH of
    only the new directories would hide the shell.
    """
    first = tuple(dict.fromkeys(directories))
    if not first:
        return tuple(env)
    rest = (get_variable(env, "PATH") or DEFAULT_PATH).split(":")
    joined = ":".join((*first, *(item for item in rest if item not in first)))
    return set_variables(env, {"PATH": joined})
