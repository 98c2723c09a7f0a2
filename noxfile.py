"""The project's sessions; `resolve`, `build`, `push`, `verify`, `matrix` and `index` are any project's.

nox                       lint, types and tests
nox -s build -- --locked  arguments after `--` go to the command
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent))  # this folder's kobuild, whatever else is installed
from kobuild import noxsessions

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
CONSTRAINTS = ROOT / ".github" / "constraints.txt"
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)


def requirements(*groups: str, kobuild: bool = True) -> list[str]:
    """What pip is asked for: kobuild from this folder, where it is needed, and groups of pyproject.toml."""
    own = ["-e", str(ROOT)] if kobuild else []
    return [*nox.project.dependency_groups(PYPROJECT, *groups), *own]


def is_stale(environment: Path, wanted: list[str]) -> bool:
    """Whether the environment was made for something else: pip is asked again only when pyproject.toml has changed."""
    state = hashlib.sha256(repr(wanted).encode() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = environment / "kobuild-installed"
    if stamp.is_file() and stamp.read_text() == state:
        return False
    stamp.with_suffix(".new").write_text(state)
    return True


def confirm(environment: Path) -> None:
    """Remember that the install went well."""
    stamp = environment / "kobuild-installed"
    stamp.with_suffix(".new").replace(stamp)


def install(session: nox.Session, *groups: str, kobuild: bool = True, bytecode: bool = True) -> None:
    """Install kobuild and dependency groups into the session's own environment; bytecode is for what will be run."""
    environment = Path(session.virtualenv.location)
    wanted = requirements(*groups, kobuild=kobuild)
    if is_stale(environment, wanted):
        session.install(*([] if bytecode else ["--no-compile"]), *wanted)
        confirm(environment)


def checkout_python(session: nox.Session) -> str:
    """The Python of the one environment that kobuild's sessions share, with kobuild from this folder in it."""
    environment = session.cache_dir.parent / "kobuild"
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        session.run(sys.executable, "-m", "virtualenv", "--quiet", str(environment), external=True, silent=True)
    wanted = requirements()
    if is_stale(environment, wanted):
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        session.run(*pip, *wanted, external=True, stdout=sys.stderr)
        confirm(environment)
    return str(python)


noxsessions.register(python=checkout_python)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on this Python."""
    install(session, "test")
    session.run("pytest", *(session.posargs or ["-n", "auto"]))


@nox.session(python=PYTHONS, name="tests-all")
def tests_all(session: nox.Session) -> None:
    """Run the tests on every supported Python that is installed."""
    install(session, "test")
    session.run("pytest", *(session.posargs or ["-n", "auto"]))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format with ruff, which needs nothing of kobuild's."""
    install(session, "lint", kobuild=False)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy, strictly."""
    install(session, "types", bytecode=False)
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure kobuild beside whichever peers are on PATH."""
    install(session, "test")  # the servers that it measures against are the tests' own
    session.run("python", "-m", "bench", *session.posargs)


@nox.session
def action(session: nox.Session) -> None:
    """Check action.yml, the workflows and the tables made from them."""
    install(session, "test")
    session.run("python", ".github/action_tables.py", "--check")
    session.run("pytest", "tests/action/test_workflows.py", *session.posargs)


@nox.session(reuse_venv=False)  # what is there from last time would be listed
def constraints(session: nox.Session) -> None:
    """Renew the versions that the action installs: the newest of what nox, kobuild and its extras ask for."""
    extras = sorted(PYPROJECT["project"]["optional-dependencies"])
    session.install("--upgrade", "pip", "nox", "hatchling", str(ROOT))
    kept = [pinned(line) for line in frozen(session)]
    head = "# What the action installs, at versions that were tested together; `nox -s constraints` renews it."
    CONSTRAINTS.write_text("\n".join([head, *kept, ""]))
    # All extras at once, so that each package has one version whichever of them are asked for together.
    session.install("--constraint", str(CONSTRAINTS), f"{ROOT}[{','.join(extras)}]")
    listed = Path(session.create_tmp()) / "all.txt"
    listed.write_text("\n".join([*frozen(session), ""]))
    own = {line.partition(";")[0] for line in kept}
    for extra in extras:
        more = [line for line in closure(session, extra, listed) if line not in own]
        head = f"# What the extra `{extra}` needs beside constraints.txt; `nox -s constraints` renews it."
        CONSTRAINTS.with_name(f"constraints-{extra}.txt").write_text("\n".join([head, *more, ""]))


def frozen(session: nox.Session) -> list[str]:
    """What is installed but for kobuild itself, as pip lists it."""
    said = session.run("python", "-m", "pip", "freeze", "--all", silent=True, log=False) or ""
    return [line for line in said.splitlines() if not line.lower().startswith(("kobuild", "setuptools"))]


def closure(session: nox.Session, extra: str, listed: Path) -> list[str]:
    """All that kobuild with one extra needs, at the versions of `listed`, as pip lists it."""
    report = listed.with_name(f"{extra}.json")
    options = ("--dry-run", "--ignore-installed", "--quiet", "--report", str(report), "--constraint", str(listed))
    session.run("python", "-m", "pip", "install", *options, f"{ROOT}[{extra}]", silent=True)
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    lines = [f"{item['name']}=={item['version']}" for item in found if item["name"] != "kobuild"]
    return sorted(lines, key=str.lower)


def pinned(line: str) -> str:
    """A line of pip's list, with the marker that pyproject.toml has for the package: not every Python takes each."""
    name = line.partition("==")[0].lower().replace("_", "-")
    for wanted in PYPROJECT["project"]["dependencies"]:
        head, semicolon, marker = wanted.partition(";")
        if semicolon and re.split(r"[<>=!~\[ ]", head)[0] == name:
            return f"{line};{marker}"
    return line
