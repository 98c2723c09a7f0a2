"""Sigstore on loopback: a certificate authority with its log, a transparency log, a clock, and GitHub's tokens.

Everything is really signed and can be verified by any client of Sigstore that is given the trusted root; only the names
are made up, and who asks for a certificate is believed. https://docs.sigstore.dev/about/overview/.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.support.certificates import make_authority
from tests.support.programs import require_program
from tests.support.scripted import Reply, ScriptedServer, Seen

WORKFLOW = "https://github.com/team/ci/.github/workflows/image.yml@refs/heads/main"
GITHUB = "https://token.actions.githubusercontent.com"
REPOSITORY = "https://github.com/team/ci"
_SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_FULCIO = "1.3.6.1.4.1.57264.1"
_SHA256_ECDSA = b"\x04\x03"
"""RFC 5246, 7.4.1.4.1."""
_TSA = """
[tsa]
default_tsa = stamp
[stamp]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


class LogKey:
    """A log's key, and the ID that is made of it."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.public = spki(self.key.public_key())
        self.log_id = hashlib.sha256(self.public).digest()

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def trusted(self, url: str) -> dict[str, Any]:
        """The log as a trusted root lists it."""
        return {
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {"rawBytes": b64(self.public), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": SINCE},
            "logId": {"keyId": b64(self.log_id)},
        }


class LocalSigstore:
    """All services on one port; `folder` keeps keys and certificates of the clock, which the openssl program runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca = make_root(self._ca_key)
        self._ct, self.rekor = LogKey(), LogKey()
        self._leaves: list[bytes] = [b"an entry of somebody else"] * 5
        self._logged: list[dict[str, Any]] = []
        self._clock = make_authority(folder)
        self._stamp = self._clock.issue("tsa", extensions=TIME_STAMPING)
        (folder / "tsa.cnf").write_text(_TSA.format(folder=folder))
        (folder / "serial").write_text("01\n")
        self.claims: dict[str, Any] = {}
        """Of the token that GitHub's service hands out, beside the usual."""
        self.refuses: dict[str, Reply] = {}
        """Answers by path, instead of the service's own."""
        self.server = ScriptedServer(self._respond)

    def close(self) -> None:
        """Stop serving."""
        self.server.close()

    def token(self, **claims: Any) -> str:
        """An identity token of a workflow on GitHub, or of whatever the claims say."""
        now = int(time.time())
        usual = {"iss": GITHUB, "sub": "repo:team/ci:ref:refs/heads/main", "aud": "sigstore", "iat": now}
        workflow = {
            "exp": now + 600,
            "ref": "refs/heads/main",
            "job_workflow_ref": WORKFLOW.removeprefix("https://github.com/"),
        }
        return jwt.encode({**usual, **workflow, "repository": "team/ci", **claims}, "k" * 32, "HS256")

    @property
    def actions(self) -> dict[str, str]:
        """The variables by which a job on GitHub finds its token."""
        return {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.server.url}/token?api-version=2",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "the-job's-own-bearer",
        }

    @property
    def trusted_root(self) -> dict[str, Any]:
        """What is trusted: the certificates of the authorities and the keys of the logs."""
        stamp = [load_der(path) for path in (self._stamp[0], self._clock.certificate)]
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.rekor.trusted(self.server.url)],
            "certificateAuthorities": [authority(self.server.url, [self._ca.public_bytes(DER)])],
            "ctlogs": [self._ct.trusted(f"{self.server.url}/ct")],
            "timestampAuthorities": [authority(f"{self.server.url}/timestamp", stamp)],
        }

    def write_trusted_root(self, path: Path) -> Path:
        """Write what is trusted."""
        path.write_text(json.dumps(self.trusted_root))
        return path

    def trust_config(self, path: Path) -> Path:
        """Write a whole client's configuration: the trusted root, and where the services are."""
        kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        value = {"mediaType": kind, "trustedRoot": self.trusted_root, "signingConfig": self._signing}
        path.write_text(json.dumps(value))
        return path

    def signing_config(self, path: Path) -> Path:
        """Write where the services are, alone."""
        path.write_text(json.dumps(self._signing))
        return path

    @property
    def _signing(self) -> dict[str, Any]:
        def service(place: str) -> dict[str, Any]:
            return {"url": self.server.url + place, "majorApiVersion": 1, "validFor": SINCE, "operator": "test"}

        return {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [service("")],
            "oidcUrls": [service("/auth")],
            "rekorTlogUrls": [service("")],
            "tsaUrls": [service("/timestamp")],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        }

    def _respond(self, seen: Seen) -> Reply:
        services: dict[str, Callable[[Seen], Reply]] = {
            "/api/v2/signingCert": self._issue,
            "/api/v1/log/entries": self._enter,
            "/api/v1/log/entries/retrieve": self._retrieve,
            "/timestamp": self._stamp_time,
            "/token": lambda _: as_json({"value": self.token(**self.claims)}, 200),
        }
        if seen.path in self.refuses:
            return self.refuses[seen.path]
        return services[seen.path](seen) if seen.path in services else Reply(404)

    def _issue(self, seen: Seen) -> Reply:
        """A certificate for ten minutes, with the proof that it is in the certificates' log."""
        key = requested_key(json.loads(seen.body))
        token = seen.headers["authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, options={"verify_signature": False})
        builder = certificate_for(key, claims, self._ca)
        unlogged = builder.sign(self._ca_key, hashes.SHA256())
        proof = x509.UnrecognizedExtension(_SCT_LIST, self._promise(unlogged.tbs_certificate_bytes))
        certificate = builder.add_extension(proof, critical=False).sign(self._ca_key, hashes.SHA256())
        chain = [item.public_bytes(serialization.Encoding.PEM).decode() for item in (certificate, self._ca)]
        return as_json({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}, 200)

    def _promise(self, certificate: bytes) -> bytes:
        """The list with one signed certificate timestamp: RFC 6962, 3.2 and 3.3."""
        stamp = int(time.time() * 1000)
        issuer = hashlib.sha256(spki(self._ca_key.public_key())).digest()
        entry = issuer + struct.pack("!I", len(certificate))[1:] + certificate
        signed = struct.pack("!BBQH", 0, 0, stamp, 1) + entry + struct.pack("!H", 0)
        signature = self._ct.sign(signed)
        promise = b"\0" + self._ct.log_id + struct.pack("!QH", stamp, 0) + _SHA256_ECDSA
        promise += struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!HH", len(promise) + 2, len(promise)) + promise
        return (b"\x04" + bytes([len(listed)]) if len(listed) < 128 else b"\x04\x81" + bytes([len(listed)])) + listed

    def _enter(self, seen: Seen) -> Reply:
        """Put a signature into the log, and prove that it is there."""
        canonical = compact(entered(json.loads(seen.body)))
        self._leaves.append(canonical)
        index, stamp, log_id = len(self._leaves) - 1, int(time.time()), self.rekor.log_id.hex()
        entry = {"body": b64(canonical), "integratedTime": stamp, "logID": log_id, "logIndex": index}
        promise = b64(self.rekor.sign(compact(entry)))
        verification = {"signedEntryTimestamp": promise, "inclusionProof": self._prove(index)}
        name = hashlib.sha256(b"\0" + canonical).hexdigest()
        self._logged.append({name: {**entry, "verification": verification}})
        reply = as_json(self._logged[-1])
        return replace(reply, headers={**reply.headers, "ETag": name, "Location": f"{seen.path}/{name}"})

    def _retrieve(self, seen: Seen) -> Reply:
        """The entries that are like those that are asked for."""
        asked = [entry["spec"] for entry in json.loads(seen.body)["entries"]]
        bodies = [json.loads(base64.b64decode(entry["body"])) for group in self._logged for entry in group.values()]
        found = [group for group, body in zip(self._logged, bodies, strict=True) if body["spec"] in asked]
        return Reply(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _prove(self, index: int) -> dict[str, Any]:
        root = tree_hash(self._leaves)
        note = f"{self.server.host} - 1\n{len(self._leaves)}\n{b64(root)}\n"
        signature = b64(self.rekor.log_id[:4] + self.rekor.sign(note.encode()))
        return {
            "logIndex": index,
            "rootHash": root.hex(),
            "treeSize": len(self._leaves),
            "hashes": [item.hex() for item in path_to(index, self._leaves)],
            "checkpoint": f"{note}\n\u2014 {self.server.host} {signature}\n",
        }

    def _stamp_time(self, seen: Seen) -> Reply:
        with tempfile.TemporaryDirectory() as name:
            query, answer = Path(name) / "query", Path(name) / "answer"
            query.write_bytes(seen.body)
            signer = ["-signer", self._stamp[0], "-inkey", self._stamp[1]]
            words = ["ts", "-reply", "-config", self._folder / "tsa.cnf", "-queryfile", query, *signer, "-out", answer]
            subprocess.run([require_program("openssl"), *map(str, words)], check=True, capture_output=True)
            return Reply(201, answer.read_bytes(), {"Content-Type": "application/timestamp-reply"})


SINCE = {"start": "2020-01-01T00:00:00Z"}
DER = serialization.Encoding.DER
TIME_STAMPING = "extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature"


def make_root(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """The authority's own certificate."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kobuild test fulcio")])
    usage = x509.KeyUsage(*[item in (5, 6) for item in range(9)])  # keyCertSign, cRLSign
    now = dt.datetime.now(dt.timezone.utc)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def requested_key(asked: Mapping[str, Any]) -> ec.EllipticCurvePublicKey:
    """The key to certify: in a signing request, as sigstore-python sends it, or bare, as cosign does."""
    if "certificateSigningRequest" in asked:
        request = x509.load_pem_x509_csr(base64.b64decode(asked["certificateSigningRequest"]))
        return cast("ec.EllipticCurvePublicKey", request.public_key())
    key = serialization.load_pem_public_key(asked["publicKeyRequest"]["publicKey"]["content"].encode())
    return cast("ec.EllipticCurvePublicKey", key)


def entered(proposed: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the log keeps of a proposed entry: a file's signature as it is, and of a statement only sums."""
    if proposed["kind"] == "hashedrekord":
        return proposed
    content = proposed["spec"]["proposedContent"]
    envelope = json.loads(content["envelope"])
    spec = {
        "envelopeHash": hash_of(content["envelope"].encode()),
        "payloadHash": hash_of(base64.b64decode(envelope["payload"])),
        "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": content["verifiers"][0]}],
    }
    return {"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}


def certificate_for(
    key: ec.EllipticCurvePublicKey, claims: Mapping[str, Any], issuer: x509.Certificate
) -> x509.CertificateBuilder:
    """Who a token says that its bearer is: https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md."""
    now = dt.datetime.now(dt.timezone.utc)
    name: x509.GeneralName = (
        x509.RFC822Name(claims["email"])
        if "email" in claims
        else x509.UniformResourceIdentifier(f"https://github.com/{claims['job_workflow_ref']}")
    )
    repository = f"https://github.com/{claims.get('repository', '')}"
    extensions = {"8": claims["iss"], "12": repository, "14": str(claims.get("ref", ""))}
    issuer_key = cast("ec.EllipticCurvePublicKey", issuer.public_key())
    builder = (
        x509.CertificateBuilder(issuer.subject, x509.Name([]), key, x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(seconds=5))
        .not_valid_after(now + dt.timedelta(minutes=10))
        .add_extension(x509.KeyUsage(*[item == 0 for item in range(9)]), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        .add_extension(x509.SubjectAlternativeName([name]), critical=True)
    )
    for number, text in extensions.items():
        value = b"\x0c" + bytes([len(text)]) + text.encode()
        extension = x509.UnrecognizedExtension(ObjectIdentifier(f"{_FULCIO}.{number}"), value)
        builder = builder.add_extension(extension, critical=False)
    issuer_alone = x509.UnrecognizedExtension(ObjectIdentifier(f"{_FULCIO}.1"), claims["iss"].encode())
    return builder.add_extension(issuer_alone, critical=False)


def authority(url: str, chain: list[bytes]) -> dict[str, Any]:
    """An authority as a trusted root lists it."""
    return {
        "subject": {"organization": "test", "commonName": "test"},
        "uri": url,
        "certChain": {"certificates": [{"rawBytes": b64(item)} for item in chain]},
        "validFor": SINCE,
    }


def tree_hash(leaves: list[bytes]) -> bytes:
    """The root of the tree over the leaves: RFC 6962, 2.1."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_hash(leaves[:half]) + tree_hash(leaves[half:])).digest()


def path_to(index: int, leaves: list[bytes]) -> list[bytes]:
    """The audit path of a leaf: RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if index < half:
        return [*path_to(index, leaves[:half]), tree_hash(leaves[half:])]
    return [*path_to(index - half, leaves[half:]), tree_hash(leaves[:half])]


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as DER."""
    return key.public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_der(path: Path) -> bytes:
    """A PEM certificate as DER."""
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(DER)


def hash_of(data: bytes) -> dict[str, str]:
    """A sum as the log writes it."""
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def compact(value: Mapping[str, Any]) -> bytes:
    """Canonical JSON (RFC 8785) of what is plain ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def b64(data: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(data).decode()


def as_json(value: Mapping[str, Any], status: int = 201) -> Reply:
    """An answer of JSON."""
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})
