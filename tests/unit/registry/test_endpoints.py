from __future__ import annotations

import pytest

from kobuild.errors import RegistryError
from kobuild.oci.reference import Reference
from kobuild.registry import AnonymousKeychain, RegistryClient
from kobuild.transport import Transport
from tests.support.fakeregistry import run_fake
from tests.support.images import random_image
from tests.support.recorders import HeldClock
from tests.support.scripted import Reply, replies, serve
from tests.unit.registry.conftest import make_client


def test_a_host_named_as_insecure_is_spoken_to_in_plain_text_where_it_knows_no_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = random_image(1)
    with run_fake() as fake:
        fake.add_manifest("a", "1", image.manifest.raw, image.manifest.media_type)
        # The name leads nowhere: the registry answers as the proxy for it, and passes no TLS on.
        for variable in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(variable, fake.url)
        transport = Transport(clock=HeldClock(), certs=(), insecure_hosts=("registry.lan",))
        client = RegistryClient(transport, AnonymousKeychain())
        assert client.get_manifest(Reference.parse("registry.lan/a:1")).raw == image.manifest.raw
        assert [seen.target for seen in fake.log] == ["http://registry.lan/v2/a/manifests/1"]
        with pytest.raises(RegistryError):
            client.get_manifest(Reference.parse("other.lan/a:1"))
        assert len(fake.log) == 1, "nothing goes in plain text to a host that was not named"


def test_a_registry_that_is_not_there_is_named() -> None:
    with serve(replies(Reply())) as server:
        host = server.host
    with pytest.raises(RegistryError, match=f"reach registry {host}: .*Connection refused") as caught:
        make_client(max_attempts=2).get_manifest(Reference.parse(f"{host}/a:1"))
    assert caught.value.retryable


def test_a_registry_is_asked_for_its_scheme_once() -> None:
    image = random_image(1)
    with run_fake() as fake:
        fake.add_manifest("a", "1", image.manifest.raw, image.manifest.media_type)
        client = make_client()
        for _ in range(3):
            client.get_manifest(Reference.parse(f"{fake.host}/a:1"))
        assert fake.server is not None
        assert [seen.path for seen in fake.server.log].count("/v2/") == 1
