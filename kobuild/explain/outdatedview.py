"""What could move, as a person reads it and as JSON."""

from __future__ import annotations

from typing import Any

from kobuild.explain.entries import printable
from kobuild.explain.outdated import BaseNews, Candidate, News, ToolNews
from kobuild.oci.digest import Digest
from kobuild.report import format_table


def news_text(news: News) -> str:
    """A table of what could move; one line where nothing could."""
    rows = [_tool_row(tool) for tool in news.tools if tool.can_move or tool.beyond is not None or tool.note]
    rows += [_base_row(news.base)] if news.base is not None and news.base.has_moved else []
    if not rows:
        return "nothing could move"
    shown = [tuple(map(printable, row)) for row in rows]
    return format_table(("", "locked", "within the pin", "beyond it", "about"), shown)


def _tool_row(tool: ToolNews) -> tuple[str, ...]:
    within = _words(tool.within)
    if tool.replaced:
        within = f"{tool.locked}, published anew for {', '.join(map(str, tool.replaced))}"
    about = next((item.page for item in (tool.within, tool.beyond) if item is not None), "")
    return (tool.name, tool.locked, within, _words(tool.beyond), about or tool.note)


def _words(candidate: Candidate | None) -> str:
    if candidate is None:
        return ""
    date = candidate.published.partition("T")[0]
    return f"{candidate.version} ({date})" if date else candidate.version


def _base_row(base: BaseNews) -> tuple[str, ...]:
    about = "" if base.platforms else "only platforms that are not built have changed"
    return (f"base {base.name}", Digest.parse(base.locked).short, Digest.parse(base.current).short, "", about)


def news_json(news: News) -> dict[str, Any]:
    """What could move, for machines."""
    return {
        "can_move": news.can_move,
        "goes_beyond": news.goes_beyond,
        "base": _base_json(news.base) if news.base is not None else None,
        "tools": [_tool_json(tool) for tool in news.tools],
    }


def _base_json(base: BaseNews) -> dict[str, Any]:
    return {
        "name": base.name,
        "locked": base.locked,
        "current": base.current,
        "moved": base.has_moved,
        "platforms": [str(platform) for platform in base.platforms],
    }


def _tool_json(tool: ToolNews) -> dict[str, Any]:
    return {
        "name": tool.name,
        "source": tool.source,
        "pin": tool.requirement,
        "locked": tool.locked,
        "within": _candidate_json(tool.within),
        "beyond": _candidate_json(tool.beyond),
        "published_anew": [str(platform) for platform in tool.replaced],
        "note": tool.note or None,
    }


def _candidate_json(candidate: Candidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    return {
        "version": candidate.version,
        "tag": candidate.tag,
        "page": candidate.page or None,
        "published": candidate.published or None,
    }
