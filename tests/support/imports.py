"""What the modules of a package import and print, read from their source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import of one module, wherever in the file it stands."""

    path: Path
    line: int
    room: str
    """The first part of the importing module's name below its package; empty for the package itself."""
    target: str
    """The full name of what is imported."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: imports {self.target}"


def source_files(package: Path) -> list[Path]:
    """Every Python file of a package."""
    return sorted(package.rglob("*.py"))


def room_of(path: Path, package: Path) -> str:
    """The room that a file belongs to: its folder under the package, or else its own name."""
    first = path.relative_to(package).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports_of(package: Path) -> Iterator[Import]:
    """Every import in the package, absolute or relative, at the top or inside a function."""
    for path in source_files(package):
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            for target in _targets(node, path, package):
                yield Import(path, getattr(node, "lineno", 0), room_of(path, package), target)


def inner_room(target: str, package: Path) -> str | None:
    """The room of this package that an imported name belongs to; None for what is not of this package."""
    parts = target.split(".")
    if parts[0] != package.name:
        return None
    name = parts[1] if len(parts) > 1 else ""
    return name if (package / name).is_dir() or (package / f"{name}.py").is_file() else ""


def closure(direct: Mapping[str, tuple[str, ...]]) -> dict[str, frozenset[str]]:
    """All that each room stands on, directly or through others; raises ValueError for a circle."""
    whole: dict[str, frozenset[str]] = {}

    def below(room: str, above: tuple[str, ...]) -> frozenset[str]:
        if room in above:
            raise ValueError(f"a circle: {' -> '.join((*above, room))}")
        if room not in whole:
            found = (below(lower, (*above, room)) | {lower} for lower in direct[room])
            whole[room] = frozenset().union(*found)
        return whole[room]

    for room in direct:
        below(room, ())
    return whole


def calls_of(package: Path, name: str) -> Iterator[tuple[Path, int]]:
    """Every call of the bare name `name`, by file and line."""
    for path in source_files(package):
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield path, node.lineno


def _targets(node: ast.AST, path: Path, package: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    module = node.module or ""
    if node.level:
        folder = path.relative_to(package.parent).parts[: -node.level]
        module = ".".join((*folder, module)).rstrip(".")
    return [f"{module}.{alias.name}" for alias in node.names]
