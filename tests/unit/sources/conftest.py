"""A server, a cache, and a context that points at both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kobuild.settings.model import SourcesSettings
from kobuild.sources.model import SourceContext
from kobuild.store.cache import Cache
from kobuild.transport import Transport
from tests.support.recorders import HeldClock, RecordingReporter
from tests.support.upstream import Upstream

MakeContext = Callable[..., SourceContext]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def make_context(
    upstream: Upstream, clock: HeldClock, reporter: RecordingReporter, tmp_path: Path
) -> Iterator[MakeContext]:
    opened: list[Transport] = []

    def make(*, environ: dict[str, str] | None = None, **options: Any) -> SourceContext:
        transport = Transport(reporter=reporter, clock=clock)
        opened.append(transport)
        settings = options.pop("settings", SourcesSettings())
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        return SourceContext(
            transport=transport,
            cache=Cache(tmp_path / "cache"),
            folder=folder,
            settings=settings,
            environ={**os.environ, **upstream.environ, **(environ or {})},
            reporter=reporter,
            **options,
        )

    yield make
    for transport in opened:
        transport.close()


@pytest.fixture
def context(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> SourceContext:
    for name in ("GITHUB_TOKEN", "KOBUILD_GITHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return make_context()
