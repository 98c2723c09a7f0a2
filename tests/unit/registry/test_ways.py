"""Ways to a registry: through a proxy, by any name of this machine, with the files that other tools leave."""

from __future__ import annotations

import contextlib
import http.server
import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kobuild.errors import AuthError, RegistryError
from kobuild.image.mutate import gather
from kobuild.oci.reference import Reference
from kobuild.registry import RegistryClient, default_keychain
from tests.support.certificates import Authority
from tests.support.images import random_image
from tests.support.programs import require_program
from tests.support.registry import PASSWORD, USERNAME, DockerRegistry, run_registry
from tests.unit.registry.conftest import make_client

OUTSIDE = "registry.kobuild.test"
"""A host that only the proxy knows."""


class ConnectProxy(http.server.ThreadingHTTPServer):
    """Tunnels every CONNECT to one place, and remembers what it was asked for."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self.upstream = (host, int(port))
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), _Tunnel)


class _Tunnel(http.server.BaseHTTPRequestHandler):
    server: ConnectProxy

    def do_CONNECT(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Proxy-Authorization")))
        with socket.create_connection(self.server.upstream) as upstream:
            self.send_response(200)
            self.end_headers()
            sides = [self.connection, upstream]
            while True:
                for side in select.select(sides, [], [])[0]:
                    data = side.recv(65536)
                    if not data:
                        return
                    sides[1 - sides.index(side)].sendall(data)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@contextlib.contextmanager
def run_connect_proxy(upstream: str) -> Iterator[ConnectProxy]:
    with ConnectProxy(upstream) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[DockerRegistry]:
    """A registry with TLS for a name that this machine cannot resolve."""
    pair = authority.issue("outside", extensions=f"subjectAltName=IP:127.0.0.1,DNS:{OUTSIDE}")
    with run_registry(tmp_path_factory.mktemp("outside"), tls=pair) as registry:
        yield registry


@pytest.mark.parametrize("trust", ["variable", "certs.d"])
def test_a_registry_behind_a_proxy_is_spoken_to_by_tls_to_its_end(
    trust: str,
    outside: DockerRegistry,
    authority: Authority,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if trust == "variable":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        client = make_client(environ={})
    else:
        (tmp_path / "certs.d" / OUTSIDE).mkdir(parents=True)
        (tmp_path / "certs.d" / OUTSIDE / "ca.crt").write_bytes(authority.certificate.read_bytes())
        client = make_client(environ={}, certs=(tmp_path / "certs.d",))
    images, target = gather([random_image(1)]), Reference.parse(f"{OUTSIDE}/{name}:1")
    with run_connect_proxy(outside.host) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://proxy-user:proxy-pass@127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("NO_PROXY", "elsewhere.example")
        client.push(images, [target])
        assert client.head_manifest(target) == images.root.descriptor
        assert {place for place, _ in proxy.asked} == {f"{OUTSIDE}:443"}
        assert all(login is not None and login.startswith("Basic ") for _, login in proxy.asked)


def test_no_proxy_is_kept_to(
    outside: DockerRegistry, authority: Authority, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    client = make_client(environ={})
    with run_connect_proxy(outside.host) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        client.push(gather([random_image(1)]), [Reference.parse(f"{outside.host}/{name}:1")])
        assert proxy.asked == [], "this machine is never reached through a proxy"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[DockerRegistry]:
    """A registry that lets in only who shows a client certificate."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    certificate, key = map(str, authority.issue("guarded"))
    tls = {"certificate": certificate, "key": key, "clientcas": [str(authority.certificate)]}
    http_settings = {"addr": f"127.0.0.1:{port}", "secret": "for tests", "tls": tls}
    folder = tmp_path_factory.mktemp("guarded")
    with run_registry(folder, tls=(Path(certificate), Path(key)), extra={"http": http_settings}, port=port) as registry:
        yield registry


def test_docker_registry_is_shown_the_client_certificate_of_certs_d(
    guarded: DockerRegistry, authority: Authority, name: str, tmp_path: Path
) -> None:
    folder = tmp_path / guarded.host
    folder.mkdir()
    (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
    images, target = gather([random_image(1)]), Reference.parse(f"{guarded.host}/{name}:1")
    with pytest.raises(RegistryError, match="certificate"):
        make_client(environ={}, certs=(tmp_path,)).push(images, [target])
    certificate, key = authority.issue("mira", extensions="extendedKeyUsage=clientAuth")
    (folder / "client.cert").write_bytes(certificate.read_bytes())
    (folder / "client.key").write_bytes(key.read_bytes())
    client = make_client(environ={}, certs=(tmp_path,))
    client.push(images, [target])
    assert client.head_manifest(target) == images.root.descriptor


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry that listens on IPv6's loopback too."""
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as probe:
            port = probe.getsockname()[1]
        extra = {"http": {"addr": f":{port}", "secret": "for tests"}}
        with run_registry(tmp_path_factory.mktemp("everywhere"), extra=extra, port=port) as registry:
            yield registry
        return
    pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_every_name_of_this_machine_is_spoken_to_in_plain_text(
    host: str, everywhere: DockerRegistry, name: str, client: RegistryClient
) -> None:
    images, target = gather([random_image(1)]), Reference.parse(f"{host}:{everywhere.host.rpartition(':')[2]}/{name}:1")
    client.push(images, [target])
    assert client.head_manifest(target) == images.root.descriptor


def log_in(program: str, host: str, file: Path) -> None:
    """Log in as a person does."""
    words = ["login", f"--authfile={file}", "--tls-verify=false", f"--username={USERNAME}", "--password-stdin", host]
    environ = {key: value for key, value in os.environ.items() if key != "DOCKER_CONFIG"}
    command = [require_program(program), *words]
    done = subprocess.run(command, input=PASSWORD, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", ["skopeo", "buildah", "podman"])
@pytest.mark.parametrize("scope", ["", "/team"], ids=["a registry", "a path in it"])
def test_what_other_tools_log_in_with_is_used(
    program: str, scope: str, htpasswd_server: DockerRegistry, name: str, tmp_path: Path
) -> None:
    log_in(program, f"{htpasswd_server.host}{scope}", tmp_path / "auth.json")
    client = make_client(default_keychain({"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}))
    images = gather([random_image(1)])
    client.push(images, [Reference.parse(f"{htpasswd_server.host}/{name}:1")])
    if scope:
        with pytest.raises(AuthError):
            client.push(images, [Reference.parse(f"{htpasswd_server.host}/other/app:1")])
