"""A hundred images of shared tools, made by runners that begin with nothing: every layer is made once."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kobuild import cli
from kobuild.lock import Lock, load, save
from tests.support.archives import Entry, make_tar_gz
from tests.support.commandline import ROOT
from tests.support.registry import DockerRegistry
from tests.support.upstream import Upstream

IMAGES = 100
TOOLS = tuple(f"tool{number:02}" for number in range(12))
RUNNERS = 4
DRIVER = """
import sys
from kobuild import cli
for job in sys.argv[1:]:
    file, _, cache = job.partition("=")
    assert cli.main(["push", "-q", "--json", "--locked", "-f", file, "--cache-dir", cache]) == 0, file
"""
"""A runner: one job after another, each with a cache of its own, as new machines have. One process for all of them
saves the interpreter's start, which is not what is shown here."""


def write_fleet(folder: Path, host: str, upstream: Upstream) -> list[Path]:
    """Settings and locks of the images, each of three of the tools."""
    for tool in TOOLS:
        archive = make_tar_gz([Entry(f"bin/{tool}", f"#!{tool}\n".encode() * 3000, mode=0o755)])
        upstream.add_github_release(f"shared/{tool}", "v1.0", {f"{tool}_linux_amd64.tar.gz": archive})
    whole = write_image(folder / "whole.toml", host, TOOLS)
    assert cli.main(["resolve", "-q", "-f", str(whole)]) == 0
    lock = load(folder / "whole.lock")
    assert lock is not None
    choices = list(itertools.combinations(TOOLS, 3))
    random.Random(1).shuffle(choices)  # noqa: S311 - test data
    files = [write_image(folder / f"image{number:03}.toml", host, choices[number]) for number in range(IMAGES)]
    for file, tools in zip(files, choices, strict=False):
        save(file.with_suffix(".lock"), Lock(None, {tool: lock.tools[tool] for tool in tools}))
    return files


def write_image(file: Path, host: str, tools: tuple[str, ...]) -> Path:
    tables = "".join(f'\n[tools.{tool}]\nsource = "github:shared/{tool}"\nroot = "/opt"\n' for tool in tools)
    file.write_text(
        f'[image]\nbase = "scratch"\ntarget = "{host}/fleet/{file.stem}:1"\n{tables}'
        f'\n[sources]\nlayer-cache = "{host}/fleet/layers"\n'
    )
    return file


def run_fleet(files: list[Path], environ: dict[str, str]) -> list[dict[str, Any]]:
    """Let the runners push all images, each its share; what the pushes tell."""
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                DRIVER,
                *(f"{file}={file.with_suffix('.cache')}" for file in files[number::RUNNERS]),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(RUNNERS)
    ]
    results: list[dict[str, Any]] = []
    for process in running:
        out, err = process.communicate()
        assert process.returncode == 0, err
        decoder, text = json.JSONDecoder(), out.lstrip()
        while text:
            value, end = decoder.raw_decode(text)
            results.append(value)
            text = text[end:].lstrip()
    return results


def test_a_hundred_images_make_each_shared_layer_once(
    tmp_path: Path,
    registry: DockerRegistry,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in upstream.environ.items():
        monkeypatch.setenv(name, value)
    files = write_fleet(tmp_path, registry.host, upstream)
    upstream.requests.clear()
    registry.forget()
    began = time.monotonic()

    results = run_fleet(files, {"KOBUILD_LAYER_CACHE_KEY": "a key that nobody could guess"})

    seconds = time.monotonic() - began
    layers = [layer for result in results for layer in result["platforms"][0]["layers"]]
    made = [layer["tool"] for layer in layers if not layer["cached"]]
    assert (len(results), len(layers)) == (IMAGES, 3 * IMAGES)
    assert sorted(made) == sorted(TOOLS)
    assert sum(layer["shared"] for layer in layers) == 3 * IMAGES - len(TOOLS)
    downloads = [item.path for item in upstream.requests if item.path.startswith("/release-assets/")]
    assert len(downloads) == len(TOOLS)
    digests = {layer["digest"] for layer in layers}
    seen = registry.requests()
    sent = [target for method, target, _ in seen if method == "PUT" and target.rpartition("digest=")[2] in digests]
    assert len(sent) == len(TOOLS), "each layer goes to the registry once, and is mounted from there"
    assert not [target for method, target, _ in seen if method == "GET" and target.rpartition("/")[2] in digests]
    assert seconds < 60  # some five on two idle cores

    # What came of shared layers is what a machine makes that shares nothing.
    capsys.readouterr()
    for result, file in ((results[0], files[0]), (results[-1], files[-1])):
        alone = ["build", "-q", "--json", "-f", str(file), "--layer-cache-mode=off", "-o", f"oci:{tmp_path / 'alone'}"]
        assert cli.main(alone) == 0
        assert json.loads(capsys.readouterr().out)["digest"] == result["digest"]
