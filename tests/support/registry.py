"""Real registries on loopback: docker-registry with no login, htpasswd, token login or TLS, and a token server."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.certificates import Authority
from tests.support.programs import require_program
from tests.support.scripted import Reply, ScriptedServer, Seen, serve

USERNAME = "mira"
PASSWORD = "s3cret-pa55"
"""The password whose bcrypt hash stands below; no test greps for it without meaning it."""
_HTPASSWD = f"{USERNAME}:$2b$04$46g3URe9ZlEC3tj9E4Wuj.uiuzGU.Clb2gTrJ5GgO0rFT12.72O.m\n"
_START_SECONDS = 20.0
_MEMORY = Path("/dev/shm")  # noqa: S108  # the names in it are tempfile's
_MEMORY_BYTES = 2_000_000_000
"""What must be free there, with room for the largest pushes of several test workers."""
_SENT = re.compile(r'"GET (\S+) HTTP/[0-9.]+" 20[06] ([0-9]+) ')
_ACCESS = re.compile(r'"([A-Z]+) (\S+) HTTP/[0-9.]+" ([0-9]{3}) ')


@dataclass
class DockerRegistry:
    """One running docker-registry."""

    host: str
    url: str
    folder: Path
    process: subprocess.Popen[bytes]
    _mark: int = 0

    def requests(self) -> list[tuple[str, str, int]]:
        """Method, target and status of each request since the last `forget`, as its access log has them."""
        text = (self.folder / "log").read_text()[self._mark :]
        return [(method, target, int(status)) for method, target, status in _ACCESS.findall(text)]

    def sent(self, digest: str) -> int:
        """How many bytes of a blob's content it has sent since the last `forget`."""
        text = (self.folder / "log").read_text()[self._mark :]
        found = _SENT.findall(text)
        return sum(int(size) for target, size in found if target.rpartition("/")[2] == digest)

    def forget(self) -> None:
        """Start the log anew."""
        self._mark = len((self.folder / "log").read_text())

    @property
    def storage(self) -> Path:
        return self.folder / "storage" / "docker" / "registry" / "v2"

    def uploads(self, repository: str) -> list[Path]:
        """Folders of uploads that were opened and not ended."""
        return sorted((self.storage / "repositories" / repository / "_uploads").glob("*"))


@contextlib.contextmanager
def run_registry(
    folder: Path,
    *,
    htpasswd: bool = False,
    tls: tuple[Path, Path] | None = None,
    token: TokenServer | None = None,
    extra: Mapping[str, Any] | None = None,
    port: int | None = None,
    on_disk: bool = False,
) -> Iterator[DockerRegistry]:
    """A docker-registry for the length of a block, with its storage under `folder`; deletion is on."""
    program = require_program("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    if port is None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
    config = _config(folder, port, htpasswd=htpasswd, tls=tls, token=token)
    (folder / "config.yml").write_text(json.dumps({**config, **(extra or {})}))
    host = f"127.0.0.1:{port}"
    with contextlib.nullcontext() if on_disk else _storage(folder / "storage"):
        with (folder / "log").open("wb") as log:
            command = [program, "serve", str(folder / "config.yml")]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        registry = DockerRegistry(host, f"{'https' if tls else 'http'}://{host}", folder, process)
        try:
            _wait_for(registry)
            registry.forget()
            yield registry
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    """A folder of that name, in memory where there is room: on a disk the registry waits for each small file."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _MEMORY_BYTES:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="kobuild-registry-", dir=_MEMORY) as folder:
        path.symlink_to(folder)
        yield


def _config(
    folder: Path, port: int, *, htpasswd: bool, tls: tuple[Path, Path] | None, token: TokenServer | None
) -> dict[str, Any]:
    """JSON is YAML too."""
    http: dict[str, Any] = {"addr": f"127.0.0.1:{port}", "secret": "for tests"}
    if tls is not None:
        http["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "storage")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": http,
        # Foreign layers' addresses are refused unless they are allowed.
        "validation": {"manifests": {"urls": {"allow": ["^https?://"]}}},
    }
    if htpasswd:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    if token is not None:
        config["auth"] = {
            "token": {
                "realm": token.realm,
                "service": token.service,
                "issuer": token.issuer,
                "rootcertbundle": str(token.authority.certificate),
            }
        }
    return config


def _wait_for(registry: DockerRegistry) -> None:
    deadline = time.monotonic() + _START_SECONDS
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    while time.monotonic() < deadline and registry.process.poll() is None:
        if _answers(opener, f"{registry.url}/v2/"):
            return
        time.sleep(0.02)
    raise RuntimeError(f"docker-registry did not start:\n{(registry.folder / 'log').read_text()}")


def _answers(opener: urllib.request.OpenerDirector, url: str) -> bool:
    try:
        opener.open(url, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError as error:
        return "_ALERT_" in str(error)  # it wants a client certificate, so it is there
    return True


def _users_may_all(user: str | None, _: str) -> set[str]:
    return {"pull", "push"} if user else set()


@dataclass
class TokenServer:
    """Gives tokens as distribution's token specification says, signed with the authority's key (RS256).

    `allowed` says which actions a user (None for anonymous) has on a repository; identity tokens are exchanged too.
    """

    authority: Authority
    service: str = "registry.test"
    issuer: str = "tests"
    expires_in: int | None = 300
    allowed: Callable[[str | None, str], set[str]] = _users_may_all
    identity_tokens: dict[str, str] = field(default_factory=dict)
    """Identity token to user name."""
    realm: str = ""
    server: ScriptedServer | None = None

    @property
    def log(self) -> list[Seen]:
        assert self.server is not None
        return self.server.log

    def respond(self, seen: Seen) -> Reply:
        """Answer one request for a token."""
        form = parse_qs(seen.body.decode() if seen.method == "POST" else urlsplit(seen.target).query)
        if seen.method == "POST":
            user = self.identity_tokens.get(form.get("refresh_token", [""])[0])
            if user is None:
                return _json(401, {"details": f"unknown refresh token {form.get('refresh_token')}"})
        else:
            header = seen.headers.get("authorization")
            user = None
            if header is not None:
                user, _, password = base64.b64decode(header.partition(" ")[2]).decode().partition(":")
                if (user, password) != (USERNAME, PASSWORD):
                    return _json(401, {"details": f"incorrect username or password {password}"})
        scopes = [scope for value in form.get("scope", []) for scope in value.split()]
        token = self._sign(user, scopes)
        life = {} if self.expires_in is None else {"expires_in": self.expires_in}
        return _json(200, {"access_token" if seen.method == "POST" else "token": token, **life})

    def _sign(self, user: str | None, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted = sorted(self.allowed(user, name) & set(actions.split(",")))
            access.append({"type": kind, "name": name, "actions": granted})
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": user or "",
            "aud": self.service,
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": str(time.monotonic_ns()),
            "access": access,
        }
        der = ssl.PEM_cert_to_DER_cert(self.authority.certificate.read_text())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        payload = f"{_b64url(json.dumps(header).encode())}.{_b64url(json.dumps(claims).encode())}"
        command = [require_program("openssl"), "dgst", "-sha256", "-sign", str(self.authority.key)]
        signature = subprocess.run(command, input=payload.encode(), capture_output=True, check=True).stdout
        return f"{payload}.{_b64url(signature)}"


@contextlib.contextmanager
def run_token_server(authority: Authority, **options: Any) -> Iterator[TokenServer]:
    """A token server for the length of a block."""
    tokens = TokenServer(authority, **options)
    with serve(tokens.respond) as server:
        tokens.server = server
        tokens.realm = f"{server.url}/token"
        yield tokens


def skopeo(*arguments: str) -> str:
    """Run skopeo without TLS checks; returns its output."""
    command = [require_program("skopeo"), "--override-os", "linux", "--insecure-policy", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _json(status: int, value: Mapping[str, Any]) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})
