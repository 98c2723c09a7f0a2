"""From `kobuild.toml` to Settings: every fault of the file at once, each with its line and the nearest right key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import tomli

from kobuild.errors import Fault, SettingsError
from kobuild.settings import values
from kobuild.settings.faults import Faults, nearest
from kobuild.settings.images import IMAGE_KEYS, read_image
from kobuild.settings.locate import locate
from kobuild.settings.model import ImageSettings, Settings, SourcesSettings, VerifySettings
from kobuild.settings.policy import VERIFY_KEYS, read_verify
from kobuild.settings.table import Table
from kobuild.settings.tools import TOOL_KEYS, read_tools

ROOT_KEYS: Final = ("image", "tools", "sources", "verify")
SOURCES_KEYS: Final = (
    "go",
    "github-api",
    "github-server",
    "mirrors",
    "mirrors-only",
    "trusted-root",
    "layer-cache",
    "layer-cache-trust",
)
MAX_SIZE_BYTES: Final = 1 << 20
"""A settings file is written by hand: more than this is another file, named by mistake."""

_PLACE: Final = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_HOMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(VERIFY_KEYS, "[verify]"),
    **dict.fromkeys(TOOL_KEYS, "a table of its tool, such as [tools.go]"),
    **dict.fromkeys(SOURCES_KEYS, "[sources]"),
    **dict.fromkeys(IMAGE_KEYS, "[image]"),
}
"""Where each key belongs, for one that stands in the wrong table."""


def parse_settings(path: Path) -> Settings:
    """Read and parse a settings file; raises SettingsError with all its faults."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SIZE_BYTES + 1)
    except FileNotFoundError as error:
        raise SettingsError(
            (Fault(str(path), None, "", "there is no such file"),),
            hint="write one after README.md or examples/cloud-run/kobuild.toml, or name another with -f FILE",
        ) from error
    except OSError as error:
        raise _whole_file_fault(path, f"cannot be read: {error.strerror or error}") from error
    return parse_text(raw, path)


def parse_text(raw: bytes, path: Path) -> Settings:
    """Parse the bytes of a settings file; `path` is for messages and for what is relative to it.

    Raises SettingsError with all faults in file order.
    """
    text = _decode(raw, path)
    document = _load(text, path)
    faults = Faults(str(path), locate(text))
    root = Table(document, (), faults)
    _refuse_unknown_tables(root)
    image = _read_image(root)
    tools = root.subtable("tools")
    settings = Settings(
        path=Path(os.path.abspath(path)),
        image=image,
        tools=read_tools(tools, image.platforms, _HOMES) if tools else (),
        sources=_read_sources(root),
        verify=_read_verify(root),
    )
    faults.raise_if_any()
    return settings


def _decode(raw: bytes, path: Path) -> str:
    if len(raw) > MAX_SIZE_BYTES:
        raise _whole_file_fault(path, f"larger than {MAX_SIZE_BYTES >> 20} MiB", "is it a settings file?")
    try:
        return raw.decode("utf-8-sig")  # some editors write a byte order mark, which TOML has no place for
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fault = Fault(str(path), line, "", f"not UTF-8: byte 0x{raw[error.start]:02x}", "save the file as UTF-8")
        raise SettingsError((fault,)) from error


def _load(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise SettingsError((_syntax_fault(error, text, path),)) from error
    except RecursionError as error:
        raise _whole_file_fault(path, "nested too deeply") from error
    except ValueError as error:  # a number with more digits than Python reads
        raise _whole_file_fault(path, f"a value cannot be read: {error}") from error


def _syntax_fault(error: tomli.TOMLDecodeError, text: str, path: Path) -> Fault:
    message = str(error)
    place = _PLACE.search(message)
    if place is None:
        return Fault(str(path), None, "", f"not TOML: {message}")
    what = message[: place.start()]
    if place["line"] is None:
        return Fault(str(path), text.rstrip("\n").count("\n") + 1, "", f"not TOML: {what}, at the end of the file")
    return Fault(str(path), int(place["line"]), "", f"not TOML: {what}, at column {place['column']}")


def _refuse_unknown_tables(root: Table) -> None:
    homes = dict(_HOMES)
    for key, value in root.value.items():
        if isinstance(value, dict) and "source" in value:
            homes[key] = f"[tools.{key}]"
        elif isinstance(value, dict) and nearest(key, ROOT_KEYS):
            homes.pop(key, None)  # a table of nearly the right name is that table
    root.refuse_unknown(ROOT_KEYS, homes)


def _read_image(root: Table) -> ImageSettings:
    table = root.subtable("image")
    if table is None:
        if "image" not in root.value:
            root.fault("image", "the table is missing", 'write [image] and under it at least base = "…"')
        return ImageSettings(base="scratch")
    table.refuse_unknown(IMAGE_KEYS, _HOMES)
    return read_image(table)


def _read_sources(root: Table) -> SourcesSettings:
    table = root.subtable("sources")
    if table is None:
        return SourcesSettings()
    table.refuse_unknown(SOURCES_KEYS, _HOMES)
    return SourcesSettings(
        go=table.take("go", values.base_address, None),
        github_api=table.take("github-api", values.base_address, None),
        github_server=table.take("github-server", values.base_address, None),
        mirrors=_read_mirrors(table),
        mirrors_only=table.take("mirrors-only", values.boolean, default=False),
        trusted_root=table.take("trusted-root", values.text, None),
        layer_cache=table.take("layer-cache", values.repository, None),
        trusts_layer_cache=table.take("layer-cache-trust", values.trusts_writers, default=False),
    )


def _read_verify(root: Table) -> VerifySettings:
    table = root.subtable("verify")
    if table is None:
        return VerifySettings()
    table.refuse_unknown(VERIFY_KEYS, _HOMES)
    return read_verify(table)


def _read_mirrors(sources: Table) -> dict[str, tuple[str, ...]]:
    table = sources.subtable("mirrors")
    if table is None:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for name in table.value:
        prefix = table.check_name(name, values.registry_place)
        places = table.take_list(name, values.registry_place, or_one=True)
        if prefix is not None and places:
            found[prefix] = places
        elif places == () and table.value[name] == []:
            table.fault(name, "must not be empty", "name a mirror, or leave it out")
    return found


def _whole_file_fault(path: Path, message: str, hint: str | None = None) -> SettingsError:
    return SettingsError((Fault(str(path), None, "", message, hint),))
