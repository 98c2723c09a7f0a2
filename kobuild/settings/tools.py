"""The tables under `tools`: their keys, and what the keys of one tool say about each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from kobuild.oci.platforms import Platform
from kobuild.settings import proofs, values
from kobuild.settings.faults import Unfit, quoted
from kobuild.settings.model import SourceSpec, ToolSettings
from kobuild.settings.source import KINDS, URL_PLACEHOLDERS, keys_of, kinds_with, parse_source
from kobuild.settings.table import Table

TOOL_KEYS: Final = (
    "source",
    "version",
    "root",
    "only",
    "strip",
    "mode",
    "asset",
    "rename",
    "versions",
    "checksums",
    "sha256",
    *proofs.SIGNATURE_KEYS,
    "attestations",
    "license",
    "test",
    "devices",
    "whiteouts",
    "max-members",
    "max-size",
    "max-ratio",
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ANY_VERSION: Final = ("{version}", "{tag}")
_ANY_PLATFORM: Final = ("{os}", "{arch}")


def read_tools(table: Table, platforms: tuple[Platform, ...], elsewhere: Mapping[str, str]) -> tuple[ToolSettings, ...]:
    """All tools in file order; what is wrong is noted, and a tool without a usable source is left out."""
    tools = (_read_named(table, name, platforms, elsewhere) for name in table.value)
    return tuple(tool for tool in tools if tool is not None)


def check_tool(tool: ToolSettings, platforms: tuple[Platform, ...]) -> Iterator[tuple[str, Unfit]]:
    """What does not go together in one tool: the key at fault, and why."""
    if tool.source.kind == "path" and tool.version:
        yield "version", _foreign("version", "path")
    if tool.source.kind == "url":
        yield from _check_url_version(tool)
        yield from _check_url_sum(tool, platforms)
    yield from proofs.check_proofs(tool)


def _read_named(
    table: Table,
    name: str,
    platforms: tuple[Platform, ...],
    elsewhere: Mapping[str, str],
) -> ToolSettings | None:
    if not isinstance(table.value[name], dict):
        hint = "a tool is a table with a name, such as [tools.go]" if name in TOOL_KEYS else None
        table.fault(name, "expected a table that describes a tool", hint)
        return None
    if not _NAME.fullmatch(name):
        table.fault(name, f"not a tool's name: {quoted(name)}", "letters, digits, . _ and - only")
    tool_table = table.subtable(name)
    if tool_table is None:
        return None
    faults_before = len(table.faults.found)
    tool_table.refuse_unknown(TOOL_KEYS, elsewhere)
    if "source" not in tool_table.value:
        examples = ", ".join(kind.example for kind in KINDS.values())
        tool_table.fault("source", "the source is missing", f"one of: {examples}")
    source = tool_table.take("source", parse_source, None)
    tool = _read_tool(tool_table, name, source or SourceSpec("path", "unknown"))
    if source is None:
        return None
    _refuse_foreign(tool_table, source)
    if len(table.faults.found) == faults_before:  # else one mistake would be told twice
        for key, unfit in check_tool(tool, platforms):
            table.faults.add_unfit((*tool_table.path, key), unfit)
    return tool


def _read_tool(table: Table, name: str, source: SourceSpec) -> ToolSettings:
    return ToolSettings(
        name=name,
        source=source,
        version=table.take("version", values.pin, ""),
        root=table.take("root", values.image_path, "/"),
        only=table.take_list("only", values.member_glob) or (),
        strip=table.take("strip", values.natural, 0),
        mode=table.take("mode", values.mode, None),
        asset=table.take("asset", values.asset, ""),
        rename=table.take("rename", values.file_name, ""),
        versions=table.take("versions", values.address, ""),
        checksums=table.take("checksums", _sums_address, ""),
        sha256=table.take("sha256", values.sha256, ""),
        require=table.take("require", proofs.requirement, ""),
        minisign_keys=table.take_list("minisign-key", proofs.minisign_key, or_one=True) or (),
        cosign_key=table.take("cosign-key", proofs.cosign_key, ""),
        identity=table.take("identity", proofs.identity, ""),
        issuer=table.take("issuer", values.base_address, ""),
        attestations=table.take("attestations", values.boolean, None),
        test=table.take("test", values.command, ""),
        license=table.take("license", values.license_expression, ""),
        devices=table.take("devices", values.boolean, False),
        whiteouts=table.take("whiteouts", values.boolean, False),
        max_members=table.take("max-members", values.positive, None),
        max_size=table.take("max-size", values.size, None),
        max_ratio=table.take("max-ratio", values.positive, None),
    )


def _refuse_foreign(table: Table, source: SourceSpec) -> None:
    for key in table.value:
        if key in TOOL_KEYS and key not in keys_of(source.kind):
            table.faults.add_unfit((*table.path, key), _foreign(key, source.kind))


def _foreign(key: str, kind: str) -> Unfit:
    kinds = kinds_with(key)
    return Unfit(
        f"{key} makes no sense for a {kind} source",
        f"it is for {', '.join(kinds)} sources; leave it out",
    )


def _check_url_version(tool: ToolSettings) -> Iterator[tuple[str, Unfit]]:
    is_open = any(mark in tool.source.argument for mark in _ANY_VERSION)
    is_exact = values.is_exact(tool.version)
    if is_open and not is_exact and not tool.versions:
        yield (
            "version",
            Unfit(
                "the address has a {version} and nothing lists which there are",
                'name one version, such as version = "1.7.1", or say in versions where they are listed',
            ),
        )
    if not is_open and tool.versions:
        yield "versions", Unfit("the address has no {version} to fill in", "leave versions out")
    if not is_open and tool.version and not is_exact:
        yield (
            "version",
            Unfit("a range needs a {version} in the address", "put {version} there, or name the one version it has"),
        )


def _check_url_sum(tool: ToolSettings, platforms: tuple[Platform, ...]) -> Iterator[tuple[str, Unfit]]:
    if not tool.sha256:
        return
    if tool.checksums:
        yield "sha256", Unfit("checksums says the sum already", "leave one of the two out")
    if tool.versions and not values.is_exact(tool.version):
        yield "sha256", Unfit("one sum cannot fit every version of a range", "name one version, or use checksums")
    if len(platforms) > 1 and any(mark in tool.source.argument for mark in _ANY_PLATFORM):
        yield "sha256", Unfit(f"one sum cannot fit {len(platforms)} platforms", "use checksums instead")


def _sums_address(value: object) -> str:
    return values.address(value, URL_PLACEHOLDERS)
