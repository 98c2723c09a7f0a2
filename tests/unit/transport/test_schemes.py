from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest
import truststore

from kobuild.errors import FetchError, UsageError
from kobuild.transport import Request, Transport, origin
from kobuild.transport.certs import certs_folders, find_host_tls
from kobuild.transport.tls import BUNDLE_VARIABLES, make_context
from tests.support.certificates import Authority, make_authority
from tests.support.recorders import HeldClock
from tests.support.scripted import Reply, replies, serve


def make_transport(**options: object) -> Transport:
    return Transport(**{"clock": HeldClock(), "certs": (), "environ": {}, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("server")


@pytest.mark.parametrize("url", ["http://registry.example/v2/", "http://10.0.0.1:5000/", "http://localhost.example/"])
def test_plain_http_is_refused(url: str) -> None:
    with pytest.raises(FetchError, match="plain HTTP is refused") as caught:
        make_transport().send(Request("GET", url))
    assert caught.value.hint is not None


@pytest.mark.parametrize("url", ["ftp://a.example/", "a.example/x", "https://", "http://[::1", "https://a:b/"])
def test_what_is_no_address_is_named(url: str) -> None:
    with pytest.raises(FetchError, match="not an"):
        make_transport().send(Request("GET", url))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("[::1]:5000", True),
        ("[::1]", True),
        ("build.localhost:1", True),
        ("Registry.Lan:5000", True),
        ("other.lan:5000", True),
        ("other.lan:5001", False),
        ("registry.example", False),
    ],
)
def test_who_may_be_spoken_to_over_plain_http(host: str, allowed: bool) -> None:
    transport = make_transport(insecure_hosts=("registry.lan", "OTHER.lan:5000"))
    assert transport.may_use_plain_http(host) is allowed


def test_proxies_of_the_environment_are_used_but_never_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = make_transport(insecure_hosts=("registry.lan",))
    with serve(replies(Reply(body=b"by proxy"))) as proxy, serve(replies(Reply(body=b"direct"))) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert transport.send(Request("GET", "http://registry.lan/v2/")).read_all(100) == b"by proxy"
        assert transport.send(Request("GET", server.url)).read_all(100) == b"direct"
    assert proxy.log[0].target == "http://registry.lan/v2/"
    transport.close()


def test_an_unknown_authority_is_refused_with_a_remedy(server_pair: tuple[Path, Path]) -> None:
    with serve(replies(Reply()), tls=server_pair) as server, pytest.raises(FetchError) as caught:
        make_transport().send(Request("GET", server.url))
    assert "certificate verify failed" in str(caught.value).lower()
    assert f"certs.d/{server.host}/ca.crt" in str(caught.value.hint)
    assert server.log == []


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_the_environment_stands_in(
    variable: str, authority: Authority, server_pair: tuple[Path, Path]
) -> None:
    transport = make_transport(environ={variable: str(authority.certificate)})
    with serve(replies(Reply(body=b"sure")), tls=server_pair) as server:
        assert transport.send(Request("GET", server.url)).read_all(100) == b"sure"
    transport.close()


def test_ssl_cert_file_is_kept_to(
    authority: Authority, server_pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in BUNDLE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    transport = Transport(certs=())
    with serve(replies(Reply(body=b"sure")), tls=server_pair) as server:
        assert transport.send(Request("GET", server.url)).read_all(100) == b"sure"
    transport.close()


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    transport = make_transport(environ={"REQUESTS_CA_BUNDLE": str(tmp_path / "none.pem")})
    with pytest.raises(UsageError, match=r"read authorities from .*none\.pem"):
        transport.send(Request("GET", "https://127.0.0.1:1/"))


def test_certs_d_serves_its_own_host_only(authority: Authority, server_pair: tuple[Path, Path], tmp_path: Path) -> None:
    transport = make_transport(certs=(tmp_path / "none", tmp_path))
    with (
        serve(replies(Reply(body=b"a")), tls=server_pair) as one,
        serve(replies(Reply(body=b"b")), tls=server_pair) as two,
    ):
        folder = tmp_path / one.host
        folder.mkdir()
        (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
        assert transport.send(Request("GET", one.url)).read_all(100) == b"a"
        with pytest.raises(FetchError, match="certificate verify failed"):
            transport.send(Request("GET", two.url))
    transport.close()


def test_certs_d_shows_a_client_certificate(
    authority: Authority, server_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    client, key = authority.issue("client", extensions="extendedKeyUsage=clientAuth")
    with serve(replies(Reply(body=b"known")), tls=server_pair) as server:
        context = server.tls_context
        assert context is not None
        context.load_verify_locations(authority.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        folder = tmp_path / server.host
        folder.mkdir()
        (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
        with pytest.raises(FetchError):
            make_transport(certs=(tmp_path,)).send(Request("GET", server.url))
        (folder / "client.cert").write_bytes(client.read_bytes())
        with pytest.raises(UsageError, match=r"its key client\.key is missing"):
            make_transport(certs=(tmp_path,)).send(Request("GET", server.url))
        (folder / "client.key").write_bytes(key.read_bytes())
        transport = make_transport(certs=(tmp_path,))
        assert transport.send(Request("GET", server.url)).read_all(100) == b"known"
        transport.close()


def test_a_plain_server_spoken_to_with_tls_is_recognised() -> None:
    with serve(replies(Reply())) as server, pytest.raises(FetchError) as caught:
        make_transport(max_attempts=1).send(Request("GET", server.url.replace("http:", "https:")))
    assert "does not speak TLS" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("https://a.example/x", "https://A.example:443/y", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:444", False),
        ("https://a.example", "https://b.a.example", False),
        ("https://a@a.example", "https://a.example", True),
        ("https://a.example@b.example", "https://a.example", False),
    ],
)
def test_origins(one: str, two: str, same: bool) -> None:
    assert (origin(one) == origin(two)) is same


def test_a_system_whose_store_is_not_openssls_still_keeps_to_openssls_variables(
    authority: Authority, server_pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    context = make_context({"SSL_CERT_FILE": str(authority.certificate)})
    assert isinstance(context, truststore.SSLContext)
    transport = make_transport(environ={"SSL_CERT_FILE": str(authority.certificate)})
    with serve(replies(Reply(body=b"sure")), tls=server_pair) as server:
        assert transport.send(Request("GET", server.url)).read_all(100) == b"sure"
    transport.close()


def test_a_system_without_a_store_where_openssl_looks_is_left_to_truststore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = ssl.DefaultVerifyPaths("", str(tmp_path), "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    assert isinstance(make_context({}), truststore.SSLContext)
    (tmp_path / "5ed36f99.0").touch()
    assert not isinstance(make_context({}), truststore.SSLContext)


def test_a_folder_of_authorities_may_stand_in(tmp_path: Path) -> None:
    make_context({"REQUESTS_CA_BUNDLE": str(tmp_path)})


def test_a_client_certificate_that_is_none_is_named(authority: Authority, tmp_path: Path) -> None:
    for name in ("ca.crt", "client.cert", "client.key"):
        (tmp_path / "r.example").mkdir(exist_ok=True)
        (tmp_path / "r.example" / name).write_bytes(authority.certificate.read_bytes())
    (tmp_path / "r.example" / "client.cert").write_text("nonsense")
    found = find_host_tls("r.example", [tmp_path])
    with pytest.raises(UsageError, match=r"read client certificate .*client\.cert"):
        make_context({}, found)


def test_certs_d_of_the_user_goes_before_that_of_the_system() -> None:
    folders = [str(folder) for folder in certs_folders({"HOME": "/h"})]
    assert folders == [
        "/h/.config/containers/certs.d",
        "/h/.config/docker/certs.d",
        "/etc/containers/certs.d",
        "/etc/docker/certs.d",
    ]
    assert str(certs_folders({"HOME": "/h", "XDG_CONFIG_HOME": "/c"})[0]) == "/c/containers/certs.d"


def test_offline_nothing_is_sent() -> None:
    with serve(lambda _seen: Reply(200)) as server:
        transport = Transport(offline=True)
        with pytest.raises(FetchError, match="is needed, and --offline forbids the network"):
            transport.send(Request("GET", f"{server.url}/x"))
        transport.close()
        assert server.log == []
