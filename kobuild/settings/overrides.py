"""What a command line changes in the settings, checked by the same rules as the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from kobuild.errors import UsageError
from kobuild.settings import images, values
from kobuild.settings.faults import Unfit, did_you_mean, quoted
from kobuild.settings.model import ImageSettings, Settings, ToolSettings
from kobuild.settings.tools import check_tool

T = TypeVar("T")


def with_overrides(
    settings: Settings,
    *,
    targets: Sequence[str] = (),
    platforms: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
    compression: str | None = None,
    base: str | None = None,
    layer_cache: str | None = None,
) -> Settings:
    """The settings with some values replaced; what is empty or None stays as the file has it.

    `platforms` may hold several in one string, separated by commas; `versions` maps a tool's name to its pin. A value
    that comes twice counts once. Raises UsageError.
    """
    image = _image(settings.image, targets, platforms, compression, base)
    tools = _tools(settings.tools, versions or {})
    for tool in tools:
        for key, unfit in check_tool(tool, image.platforms):
            raise UsageError(f"tools.{tool.name}.{key}: {unfit.message}", hint=unfit.hint) from unfit
    sources = settings.sources
    if layer_cache is not None:
        sources = replace(sources, layer_cache=_fit("layer-cache", values.repository, layer_cache))
    return replace(settings, image=image, tools=tools, sources=sources)


def _image(
    image: ImageSettings,
    targets: Sequence[str],
    platforms: Sequence[str],
    compression: str | None,
    base: str | None,
) -> ImageSettings:
    listed = [part for text in platforms for part in text.split(",")]
    return replace(
        image,
        targets=_each("target", images.target, targets) or image.targets,
        platforms=_each("platform", images.platform, listed) or image.platforms,
        compression=image.compression if compression is None else _fit("compression", images.compression, compression),
        base=image.base if base is None else _fit("base", images.base, base),
    )


def _tools(tools: tuple[ToolSettings, ...], versions: Mapping[str, str]) -> tuple[ToolSettings, ...]:
    names = [tool.name for tool in tools]
    for name in versions:
        if name not in names:
            raise UsageError(f"there is no tool {quoted(name)} in the settings", hint=_tool_hint(name, names))
    pins = {name: _fit(f"version of {name}", values.pin, text) for name, text in versions.items()}
    return tuple(replace(tool, version=pins.get(tool.name, tool.version)) for tool in tools)


def _tool_hint(name: str, names: Iterable[str]) -> str | None:
    known = list(names)
    return did_you_mean(name, known) if known else "the settings have no tools"


def _each(what: str, check: Callable[[object], T], texts: Iterable[str]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(_fit(what, check, text) for text in texts))


def _fit(what: str, check: Callable[[object], T], text: str) -> T:
    try:
        return check(text)
    except Unfit as unfit:
        raise UsageError(f"{what}: {unfit.message}", hint=unfit.hint) from unfit
