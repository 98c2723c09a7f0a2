"""Those who sign releases, with real keys and real signatures: minisign's, cosign's, and a whole Sigstore of one's own.

`Sigstore` has a certificate authority, a log of certificates and a transparency log. What it signs is verified by its
`trusted_root`, the file that [sources] trusted-root names, by the same code as the public one's.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

GITHUB_ISSUER: Final = "https://token.actions.githubusercontent.com"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_FULCIO: Final = "1.3.6.1.4.1.57264.1."
_SCT_LIST: Final = "1.3.6.1.4.1.11129.2.4.2"
_SIGNED: Final = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# minisign


@dataclass(frozen=True)
class MinisignSigner:
    """A publisher with a key of minisign."""

    key_id: bytes = b"\x01\x23\x45\x67\x89\xab\xcd\xef"
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> str:
        raw = self.private.public_key().public_bytes_raw()
        return b64(b"Ed" + self.key_id + raw)

    @property
    def name(self) -> str:
        return f"{int.from_bytes(self.key_id, 'little'):X}"

    def sign(self, content: bytes, comment: str = "timestamp:1767323045\tfile:x", *, prehashed: bool = True) -> bytes:
        message = hashlib.blake2b(content).digest() if prehashed else content
        signature = self.private.sign(message)
        lines = (
            "untrusted comment: signature from minisign secret key",
            b64((b"ED" if prehashed else b"Ed") + self.key_id + signature),
            f"trusted comment: {comment}",
            b64(self.private.sign(signature + comment.encode())),
        )
        return ("\n".join(lines) + "\n").encode()


# cosign with a key


@dataclass(frozen=True)
class CosignSigner:
    """A publisher with a key of cosign."""

    private: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def der(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        der: bytes = self.private.public_key().public_bytes(serialization.Encoding.DER, form)
        return der

    @property
    def pem(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return str(self.private.public_key().public_bytes(serialization.Encoding.PEM, form).decode())

    @property
    def name(self) -> str:
        return hashlib.sha256(self.der).hexdigest()[:16].upper()

    def sign(self, content: bytes) -> bytes:
        """What `cosign sign-blob --key` prints."""
        return b64(self.private.sign(content, ec.ECDSA(hashes.SHA256()))).encode()

    def bundle(self, content: bytes) -> bytes:
        """What version 3 writes with `--bundle`."""
        message = {
            "messageDigest": {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(content).digest())},
            "signature": self.sign(content).decode(),
        }
        material = {"publicKey": {"hint": b64(hashlib.sha256(self.der).digest())}}
        return json.dumps(
            {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "messageSignature": message}
        ).encode()


# Sigstore


@dataclass(frozen=True)
class Workload:
    """Who signs without a key: what an identity token says."""

    identity: str
    issuer: str = GITHUB_ISSUER
    repository: str = ""
    """As an address; the extension is left out where it is empty."""

    @classmethod
    def of(cls, repository: str, workflow: str = "release.yml", ref: str = "refs/tags/v1") -> Workload:
        """A workflow of a repository on GitHub."""
        address = f"https://github.com/{repository}"
        return cls(f"{address}/.github/workflows/{workflow}@{ref}", repository=address)


@dataclass(frozen=True)
class Signed:
    """A signature, its certificate, and the log's entry."""

    signature: bytes
    certificate: x509.Certificate
    entry: dict[str, Any]
    """As the log's API answers it, under its UUID."""
    content: dict[str, Any]
    """The bundle's part that holds what was signed."""

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def bundle(self, *, promise: bool = True) -> dict[str, Any]:
        """Sigstore's bundle; without `promise` nothing in it says when it was signed."""
        entry, proof = self.entry, self.entry["verification"]["inclusionProof"]
        kind = json.loads(base64.b64decode(entry["body"]))
        logged = {
            "logIndex": str(entry["logIndex"]),
            "logId": {"keyId": b64(bytes.fromhex(entry["logID"]))},
            "kindVersion": {"kind": kind["kind"], "version": kind["apiVersion"]},
            "integratedTime": str(entry["integratedTime"]),
            "inclusionProof": {
                "logIndex": str(proof["logIndex"]),
                "rootHash": b64(bytes.fromhex(proof["rootHash"])),
                "treeSize": str(proof["treeSize"]),
                "hashes": [],
                "checkpoint": {"envelope": proof["checkpoint"]},
            },
            "canonicalizedBody": entry["body"],
        }
        if promise:
            logged["inclusionPromise"] = {"signedEntryTimestamp": entry["verification"]["signedEntryTimestamp"]}
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        material = {"certificate": {"rawBytes": b64(der)}, "tlogEntries": [logged]}
        return {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, **self.content}

    def json(self) -> bytes:
        return json.dumps(self.bundle()).encode()

    def old_bundle(self) -> bytes:
        """Sigstore's bundle as it was before checkpoints."""
        bundle = self.bundle()
        material = bundle["verificationMaterial"]
        material["x509CertificateChain"] = {"certificates": [material.pop("certificate")]}
        del material["tlogEntries"][0]["inclusionProof"]["checkpoint"]
        bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1"
        return json.dumps(bundle).encode()

    def cosign_bundle(self) -> bytes:
        """What `cosign sign-blob --bundle` wrote before version 3."""
        payload = {key: self.entry[key] for key in ("body", "integratedTime", "logIndex", "logID")}
        rekor = {"SignedEntryTimestamp": self.entry["verification"]["signedEntryTimestamp"], "Payload": payload}
        value = {"base64Signature": b64(self.signature), "cert": b64(self.pem), "rekorBundle": rekor}
        return json.dumps(value).encode()


class Sigstore:
    """Its authority and its logs."""

    def __init__(self, rekor_url: str = "https://rekor.example.test") -> None:
        self.rekor_url = rekor_url
        self._root, self._certificates, self._log = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kobuild's test authority")])
        usage = x509.KeyUsage(*(index in (5, 6) for index in range(9)))  # certificates and their revocations
        self._authority = (
            x509.CertificateBuilder(name, name, self._root.public_key(), x509.random_serial_number())
            .not_valid_before(_SIGNED - dt.timedelta(days=365))
            .not_valid_after(_SIGNED + dt.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._root.public_key()), critical=False)
            .sign(self._root, hashes.SHA256())
        )

    def sign(self, content: bytes, who: Workload, *, logged: dt.timedelta = dt.timedelta(minutes=1)) -> Signed:
        """Sign a file; `logged` is how long after the certificate's start the log saw it."""
        key, certificate = self._issue(who)
        digest = hashlib.sha256(content).digest()
        signature = key.sign(content, ec.ECDSA(hashes.SHA256()))
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        spec = {
            "signature": {"content": b64(signature), "publicKey": {"content": b64(pem)}},
            "data": {"hash": {"algorithm": "sha256", "value": digest.hex()}},
        }
        message = {"messageDigest": {"algorithm": "SHA2_256", "digest": b64(digest)}, "signature": b64(signature)}
        entry = self._enter("hashedrekord", spec, logged)
        return Signed(signature, certificate, entry, {"messageSignature": message})

    def attest(self, sha256: str, who: Workload, *, predicate: str = PROVENANCE) -> Signed:
        """State how the file of that sum was built, as GitHub's action does."""
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "tool", "digest": {"sha256": sha256}}],
            "predicateType": predicate,
            "predicate": {"buildDefinition": {"buildType": "https://actions.github.io/buildtypes/workflow/v1"}},
        }
        return self.envelop(json.dumps(statement).encode(), "application/vnd.in-toto+json", who)

    def envelop(self, payload: bytes, kind: str, who: Workload) -> Signed:
        """Sign any payload in an envelope (DSSE)."""
        key, certificate = self._issue(who)
        encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
        signature = key.sign(encoded, ec.ECDSA(hashes.SHA256()))
        envelope = {"payload": b64(payload), "payloadType": kind, "signatures": [{"sig": b64(signature)}]}
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(json.dumps(envelope).encode()).hexdigest()},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "signatures": [{"signature": b64(signature), "verifier": b64(pem)}],
        }
        entry = self._enter("dsse", spec, dt.timedelta(minutes=1))
        return Signed(signature, certificate, entry, {"dsseEnvelope": envelope})

    def write_trusted_root(self, path: Path) -> Path:
        """The file that says to trust this one."""
        path.write_text(json.dumps(self.trusted_root()))
        return path

    def trusted_root(self) -> dict[str, Any]:
        period = {"start": (_SIGNED - dt.timedelta(days=365)).isoformat().replace("+00:00", "Z")}
        chain = {"certificates": [{"rawBytes": b64(self._authority.public_bytes(serialization.Encoding.DER))}]}
        authority = {
            "subject": {"organization": "example", "commonName": "kobuild's test authority"},
            "uri": "https://fulcio.example.test",
            "certChain": chain,
            "validFor": period,
        }

        def log(url: str, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            public = {"rawBytes": b64(_der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": period}
            return {
                "baseUrl": url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": public,
                "logId": {"keyId": b64(_key_id(key))},
            }

        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.rekor_url, self._log)],
            "certificateAuthorities": [authority],
            "ctlogs": [log("https://ctfe.example.test", self._certificates)],
            "timestampAuthorities": [],
        }

    def _issue(self, who: Workload) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        """A certificate for ten minutes, noted in the log of certificates (RFC 6962, 3.3)."""
        key = ec.generate_private_key(ec.SECP256R1())
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.KeyUsage(*(index == 0 for index in range(9))), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._root.public_key()), False),
        ]
        if who.identity:
            name = (x509.UniformResourceIdentifier if "://" in who.identity else x509.RFC822Name)(who.identity)
            extensions.append((x509.SubjectAlternativeName([name]), True))
        if who.issuer:
            extensions += [
                (_extension("1", who.issuer.encode()), False),
                (_extension("8", _utf8_string(who.issuer)), False),
            ]
        if who.repository:
            extensions.append((_extension("12", _utf8_string(who.repository)), False))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_SIGNED)
            .not_valid_after(_SIGNED + dt.timedelta(minutes=10))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        draft = builder.sign(self._root, hashes.SHA256())
        listed = x509.UnrecognizedExtension(x509.ObjectIdentifier(_SCT_LIST), self._note(draft))
        return key, builder.add_extension(listed, critical=False).sign(self._root, hashes.SHA256())

    def _note(self, draft: x509.Certificate) -> bytes:
        """The log's promise on a certificate, as its extension holds it."""
        when, certificate = int(_SIGNED.timestamp() * 1000), draft.tbs_certificate_bytes
        entry = hashlib.sha256(_der(self._root)).digest() + struct.pack("!I", len(certificate))[1:] + certificate
        signed = struct.pack("!BBQH", 0, 0, when, 1) + entry + struct.pack("!H", 0)
        signature = self._certificates.sign(signed, ec.ECDSA(hashes.SHA256()))
        promise = b"\0" + _key_id(self._certificates) + struct.pack("!QH", when, 0)
        promise += b"\x04\x03" + struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!HH", len(promise) + 2, len(promise)) + promise
        return b"\x04" + _length(len(listed)) + listed

    def _enter(self, kind: str, spec: dict[str, Any], logged: dt.timedelta) -> dict[str, Any]:
        """An entry in a log of one entry, with its proofs."""
        body = rfc8785.dumps({"apiVersion": "0.0.1", "kind": kind, "spec": spec})
        log_id, when = _key_id(self._log), int((_SIGNED + logged).timestamp())
        promise = rfc8785.dumps({"body": b64(body), "integratedTime": when, "logID": log_id.hex(), "logIndex": 0})
        sign = functools.partial(self._log.sign, signature_algorithm=ec.ECDSA(hashes.SHA256()))
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"rekor.example.test - 1\n1\n{b64(root)}\n"
        checkpoint = f"{note}\n\u2014 rekor.example.test {b64(log_id[:4] + sign(note.encode()))}\n"
        proof = {"logIndex": 0, "treeSize": 1, "rootHash": root.hex(), "hashes": [], "checkpoint": checkpoint}
        return {
            "body": b64(body),
            "integratedTime": when,
            "logID": log_id.hex(),
            "logIndex": 0,
            "verification": {"inclusionProof": proof, "signedEntryTimestamp": b64(sign(promise))},
        }


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def _key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_der(key)).digest()


def _extension(number: str, value: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(_FULCIO + number), value)


def _utf8_string(text: str) -> bytes:
    data = text.encode()
    return b"\x0c" + _length(len(data)) + data


def _length(size: int) -> bytes:
    """A length in DER (X.690, 8.1.3), below 64 KiB."""
    if size < 0x80:
        return bytes([size])
    return bytes([0x81, size]) if size < 0x100 else b"\x82" + struct.pack("!H", size)
