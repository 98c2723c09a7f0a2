"""How `kobuild provenance` signs: with a key, or as the job that it runs in."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kobuild.errors import UsageError
from kobuild.signatures.keyless import root_file
from kobuild.signatures.signingkeys import MAX_KEY_BYTES, PASSWORD_VARIABLE, SigningKey, load_signing_key
from kobuild.streams import disk_errors
from kobuild.workshop import Workshop


def add_signing_options(parser: argparse.ArgumentParser) -> None:
    """--sign and --key."""
    group = parser.add_argument_group("signing")
    group.add_argument("--sign", action="store_true", help="sign it with Sigstore as the job that this runs in")
    group.add_argument(
        "--key", metavar="FILE", help=f"sign it with this private key, PEM or cosign's ({PASSWORD_VARIABLE} opens it)"
    )


def trust_file(workshop: Workshop) -> Path | None:
    """The file that says whom of Sigstore's to trust; None is the public Sigstore."""
    settings = workshop.settings
    return root_file(workshop.environ, settings.sources.trusted_root, settings.folder)


@contextmanager
def signing(arguments: argparse.Namespace, workshop: Workshop) -> Iterator[Callable[[bytes], bytes] | None]:
    """What signs a statement, for the length of a block; None where nothing is to be signed."""
    if arguments.sign and arguments.key is not None:
        raise UsageError("--sign and --key: one statement has one signature", hint="leave one of them out")
    with contextlib.ExitStack() as stack:
        if arguments.key is not None:
            yield _load_key(Path(arguments.key), workshop).sign_statement
        elif arguments.sign:
            if workshop.offline:
                raise UsageError("--sign: --offline forbids the network", hint="sign with --key")
            # Slow to import: nobody else pays for it.
            from kobuild.signatures.signing import keyless_signing  # noqa: PLC0415

            keyless = keyless_signing(trust_file(workshop), workshop.environ, offline=workshop.offline)
            yield stack.enter_context(keyless)
        else:
            yield None


def _load_key(path: Path, workshop: Workshop) -> SigningKey:
    with disk_errors("read the key", path), path.open("rb") as file:
        data = file.read(MAX_KEY_BYTES + 1)
    return load_signing_key(data, workshop.environ.get(PASSWORD_VARIABLE), str(path))
