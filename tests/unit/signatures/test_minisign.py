"""minisign: its own program's signatures, and everything that is none."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest

from kobuild.errors import SignatureError
from kobuild.signatures.minisign import MAX_SIGNATURE_BYTES, parse_public_key, parse_signature, verify
from kobuild.signatures.subject import Subject, mapped, subject_of_bytes
from tests.support.programs import require_program
from tests.support.signers import MinisignSigner

CONTENT = b"0123abcd  tool.tar.gz\n"
SIGNER = MinisignSigner()


def check(signature: bytes, content: bytes = CONTENT, *keys: str) -> str:
    """The trusted comment of a good signature."""
    parsed = parse_signature(signature, "SUMS.minisig")
    known = [parse_public_key(key) for key in keys or (SIGNER.public,)]
    assert verify(parsed, known, subject_of_bytes("SUMS", content), "SUMS.minisig").key_id == parsed.key_id
    return parsed.trusted_comment


@pytest.mark.parametrize("prehashed", [True, False])
def test_both_forms(prehashed: bool) -> None:
    signature = SIGNER.sign(CONTENT, "timestamp:1\tfile:dist/SUMS\thashed", prehashed=prehashed)
    assert check(signature) == "timestamp:1\tfile:dist/SUMS\thashed"
    assert check(signature.replace(b"\n", b"\r\n")).startswith("timestamp:1")
    assert check(signature, CONTENT, MinisignSigner(b"another1").public, SIGNER.public)
    assert parse_signature(signature, "").signed_name == "dist/SUMS"
    assert parse_signature(SIGNER.sign(CONTENT, "signed by hand"), "").signed_name == ""


@pytest.mark.parametrize("options", [(), ("-l",)], ids=["prehashed", "legacy"])
@pytest.mark.parametrize("content", [CONTENT, b"", b"\0" * 200_000], ids=["sums", "empty", "large"])
def test_what_the_program_itself_signs(tmp_path: Path, options: tuple[str, ...], content: bytes) -> None:
    program = require_program("minisign")
    file = tmp_path / "file.tar.gz"
    file.write_bytes(content)

    def run(*arguments: str) -> None:
        subprocess.run([program, *arguments], cwd=tmp_path, check=True, capture_output=True, input=b"\n\n")

    run("-G", "-W", "-p", "key.pub", "-s", "key")
    run("-S", *options, "-s", "key", "-m", file.name, "-t", "a trusted comment")
    key = parse_public_key((tmp_path / "key.pub").read_text())
    signature = parse_signature((tmp_path / "file.tar.gz.minisig").read_bytes(), "file.tar.gz.minisig")
    assert signature.prehashed is (not options)
    assert signature.trusted_comment == "a trusted comment"
    assert f" {key.key_id}" in (tmp_path / "key.pub").read_text().splitlines()[0]
    subject = Subject(file.name, hashlib.sha256(content).hexdigest(), lambda: mapped(file))
    assert verify(signature, [key], subject, "file.tar.gz.minisig") == key
    file.write_bytes(content + b"\0")
    with pytest.raises(SignatureError, match=rf"no signature of file\.tar\.gz by the key {key.key_id}"):
        verify(signature, [key], subject, "file.tar.gz.minisig")


def test_the_program_takes_what_tests_sign(tmp_path: Path) -> None:
    program = require_program("minisign")
    (tmp_path / "SUMS").write_bytes(CONTENT)
    for prehashed in (True, False):
        (tmp_path / "SUMS.minisig").write_bytes(SIGNER.sign(CONTENT, prehashed=prehashed))
        command = [program, "-V", "-P", SIGNER.public, "-m", "SUMS"]
        assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0


def tampered(line: int, change: bytes) -> bytes:
    lines = SIGNER.sign(CONTENT).split(b"\n")
    lines[line] = change
    return b"\n".join(lines)


def flipped(line: int, index: int) -> bytes:
    data = bytearray(base64.b64decode(SIGNER.sign(CONTENT).split(b"\n")[line]))
    data[index] ^= 1
    return tampered(line, base64.b64encode(data))


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (flipped(1, 10), "the trusted comment is not what the key EFCDAB8967452301 signed"),
        (flipped(1, 2), "signed with the key EFCDAB8967452300, and minisign-key names EFCDAB8967452301"),
        (flipped(1, 0), "of an unknown algorithm"),
        (flipped(3, 0), "the trusted comment is not what"),
        (tampered(2, b"trusted comment: timestamp:2\tfile:x"), "the trusted comment is not what"),
        (tampered(2, b"comment: x"), "its third line is no trusted comment"),
        (tampered(1, b"RU!!"), "SUMS.minisig: the signature is not base64"),
        (tampered(1, base64.b64encode(b"Ed")), "the signature has 2 bytes, not 74"),
        (tampered(3, b""), "the signature of the trusted comment has 0 bytes, not 64"),
        (tampered(0, b"-----BEGIN PGP SIGNATURE-----"), "expected four lines"),
        (b"", "expected four lines"),
        (b"\xff\xfe", "not UTF-8"),
        (SIGNER.sign(CONTENT) + b"more\n", "expected four lines"),
        (b"untrusted comment: " + b"x" * MAX_SIGNATURE_BYTES, "more than 32768 bytes cannot be a minisign signature"),
        (SIGNER.sign(b"another file"), "no signature of SUMS by the key EFCDAB8967452301"),
        (SIGNER.sign(b"another file", prehashed=False), "no signature of SUMS by the key"),
        (MinisignSigner(SIGNER.key_id).sign(CONTENT), "the trusted comment is not what"),
    ],
)
def test_what_is_no_signature_of_this(signature: bytes, message: str) -> None:
    with pytest.raises(SignatureError, match=r"^SUMS\.minisig: ") as caught:
        check(signature)
    assert message in caught.value.message


def test_a_signature_of_the_sum_is_none_of_the_content() -> None:
    """The first algorithm's name is not signed; a signed sum must not pass for a signed file of 64 bytes."""
    signature = SIGNER.sign(CONTENT).replace(b"RUQBI0", b"RWQBI0")
    assert parse_signature(signature, "").prehashed is False
    with pytest.raises(SignatureError, match="no signature of SUMS"):
        check(signature)


@pytest.mark.parametrize("text", ["", "RW", "RWé", "a\nb\nc", base64.b64encode(b"ED" + b"\0" * 40).decode()])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(SignatureError, match="minisign public key"):
        parse_public_key(text)
