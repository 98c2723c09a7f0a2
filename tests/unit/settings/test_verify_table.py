"""The `verify` table: whose signatures count."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from kobuild.signatures.keyless import GITHUB_ISSUER
from tests.support.settings import faults_of, parse
from tests.support.signers import CosignSigner

IMAGE = '[image]\nbase = "scratch"\n'
REQUIRE = f'{IMAGE}[verify]\nrequire = "provenance"\n'
WORKFLOWS = "https://github.com/a/b/.github/workflows/*"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_keys_that_sign_provenance(curve: ec.EllipticCurve) -> None:
    key = CosignSigner(ec.generate_private_key(curve)).pem
    assert parse(f'{REQUIRE}key = """{key}"""\n').verify.keys == (key.strip(),)


def test_keys_of_other_kinds() -> None:
    key = CosignSigner(rsa.generate_private_key(65537, 2048)).pem
    (fault,) = faults_of(f'{REQUIRE}key = """{key}"""\n')
    assert (fault.key, fault.message) == ("verify.key", "not a key of ECDSA")


@pytest.mark.parametrize(
    ("lines", "key", "message"),
    [
        ('identity = "https://github.com/*/ci/*"', "identity", "this identity is anybody's"),
        ('identity = "https://gitlab.com/*"\nissuer = "https://gitlab.com"', "identity", "this identity is anybody's"),
        ('identity = "a@example.com"', "identity", "nothing says who vouches"),
        (f'identity = "*@refs/heads/main"\nissuer = "{GITHUB_ISSUER}"', "identity", "this issuer, GitHub's"),
        (f'identity = ["{WORKFLOWS}", "a@example.com"]', "identity", "nothing says who vouches"),
    ],
)
def test_identities_that_say_nothing(lines: str, key: str, message: str) -> None:
    (fault,) = faults_of(f"{REQUIRE}{lines}\n")
    assert fault.key == f"verify.{key}"
    assert fault.message.startswith(message)


def test_who_may_be_named() -> None:
    policy = parse(f'{REQUIRE}identity = "{WORKFLOWS}"\nissuer = "{GITHUB_ISSUER}"\n').verify
    assert (policy.identities, policy.issuer) == ((WORKFLOWS,), GITHUB_ISSUER)
    mail = parse(f'{REQUIRE}identity = "*@example.com"\nissuer = "https://accounts.example.com"\n').verify
    assert mail.identities == ("*@example.com",)
