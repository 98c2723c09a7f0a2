"""What a push costs in requests, connections, tokens and memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kobuild.image.blobs import Layer
from kobuild.image.mutate import gather
from kobuild.oci.reference import Reference
from kobuild.registry import RegistrySource
from kobuild.registry.parallel import WORKERS
from tests.support.faultproxy import FaultProxy, run_proxy
from tests.support.images import ARM64, make_image, random_image
from tests.support.registry import DockerRegistry, TokenServer
from tests.unit.registry.conftest import make_client
from tests.unit.registry.test_login import logged_in

DELAY_SECONDS = 0.02
"""Stands for a link of 100 ms; the counts do not depend on it."""
LAYERS = 20


@pytest.fixture(scope="module")
def proxy(plain_server: DockerRegistry) -> Iterator[FaultProxy]:
    with run_proxy(plain_server.host) as running:
        running.delay_seconds = DELAY_SECONDS
        yield running


def targets(host: str, name: str, *tags: str) -> list[Reference]:
    return [Reference.parse(f"{host}/{name}:{tag}") for tag in tags or ("1",)]


def test_a_first_push_takes_three_requests_a_blob(proxy: FaultProxy, name: str) -> None:
    proxy.restart()
    make_client().push(gather([random_image(1, count=LAYERS)]), targets(proxy.host, name, "1", "2"))
    blobs = LAYERS + 1
    # The look at the API, one at each tag, for each blob a look, an opening and the bytes, and a manifest for each tag.
    assert len(proxy.lines) == 1 + 2 + 3 * blobs + 2
    assert proxy.connections <= WORKERS + 1
    assert proxy.most_at_once >= 4, "they go side by side, as far as a busy machine keeps up"


def test_a_push_that_changes_one_layer_asks_once_a_blob(proxy: FaultProxy, name: str) -> None:
    old = random_image(2, count=LAYERS)
    make_client().push(gather([old]), targets(proxy.host, name))
    proxy.restart()
    changed = make_image([*old.layers[:-1], random_image(3, count=1).layers[0]])
    make_client().push(gather([changed]), targets(proxy.host, name))
    # Two blobs are new, the layer and the config, and take two requests more.
    assert len(proxy.lines) == 1 + 1 + (LAYERS + 1) + 2 * 2 + 1


def test_a_push_that_changes_nothing_takes_one_look_a_tag(proxy: FaultProxy, name: str) -> None:
    images = gather([random_image(4), random_image(5, platform=ARM64)])
    make_client().push(images, targets(proxy.host, name, "1", "2", "3"))
    proxy.restart()
    make_client().push(images, targets(proxy.host, name, "1", "2", "3"))
    assert proxy.lines == ["GET /v2/", *(f"HEAD /v2/{name}/manifests/{tag}" for tag in "123")]


def test_mounting_takes_one_request_a_layer(proxy: FaultProxy, name: str) -> None:
    base = random_image(6, count=LAYERS)
    (place,) = targets(proxy.host, f"{name}/base")
    client = make_client()
    client.push(gather([base]), [place])
    proxy.restart()
    layers = [
        Layer(layer.descriptor, RegistrySource(client, place.repository, layer.descriptor), layer.diff_id)
        for layer in base.layers
    ]
    client.push(gather([make_image(layers, config={"Env": ["A=b"]})]), targets(proxy.host, name))
    assert len(proxy.lines) == 1 + LAYERS + 3 + 1


def test_a_push_with_a_login_takes_one_token(
    token_registry: DockerRegistry, token_server: TokenServer, name: str, tmp_path: Path
) -> None:
    token_server.log.clear()
    token_registry.forget()
    client = make_client(logged_in(tmp_path, token_registry))
    client.push(gather([random_image(7, count=LAYERS)]), targets(token_registry.host, name, "1", "2"))
    assert len(token_server.log) == 1
    statuses = [status for _, _, status in token_registry.requests()]
    assert statuses.count(401) == 1, "only the first look is not known to need a token"
    assert len(statuses) == 1 + 2 + 3 * (LAYERS + 1) + 2


def test_20_layers_over_a_link_of_100_ms_wait_about_ten_times(plain_server: DockerRegistry, name: str) -> None:
    images = gather([random_image(8, count=LAYERS)])
    with run_proxy(plain_server.host) as slow:
        slow.delay_seconds = 0.1
        began = time.monotonic()
        make_client().push(images, targets(slow.host, name))
        seconds = time.monotonic() - began
        requests, connections = len(slow.lines), slow.connections
        slow.restart()
        began = time.monotonic()
        make_client().push(images, targets(slow.host, name))
        again = time.monotonic() - began
    assert requests == 1 + 1 + 3 * (LAYERS + 1) + 1
    assert connections <= WORKERS + 1, "each connection is used again and again"
    # One after another they would take 6.6 s. Side by side there are nine waits: the look at the API and at the tag,
    # two rounds of three for 21 blobs, the manifest. A busy machine may take its time between them.
    assert 0.9 <= seconds < 3.3
    assert again < 1.0, "two requests"
