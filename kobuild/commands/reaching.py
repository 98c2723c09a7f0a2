"""Registries for commands that need no settings; where there are some, their mirrors count here too."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kobuild.errors import SettingsError
from kobuild.image.store import ImageStore
from kobuild.oci.reference import Reference
from kobuild.progress import Reporter
from kobuild.registry import Mirrors, RegistryClient, RegistryStore
from kobuild.settings.parse import parse_settings
from kobuild.transport import Transport
from kobuild.workshop import find_mirrors

_USUAL_FILE: Final = "kobuild.toml"
"""What is read where no other file is named."""


@contextmanager
def reach(
    arguments: argparse.Namespace, folder: Path, reporter: Reporter
) -> Iterator[Callable[[Reference], ImageStore]]:
    """A way to open references, for the length of a block."""
    transport = Transport(reporter=reporter, insecure_hosts=arguments.insecure_registry)
    is_named = arguments.file != _USUAL_FILE
    client = RegistryClient(transport, mirrors=_mirrors(folder / arguments.file, reporter, is_named=is_named))
    try:
        yield lambda reference: RegistryStore(client, reference)
    finally:
        transport.close()


def _mirrors(path: Path, reporter: Reporter, *, is_named: bool) -> Mirrors:
    """Those of the settings; none where there are no settings, or broken ones, which are another command's business.

    A file that was named on the command line must be there and be whole: raises SettingsError.
    """
    if not is_named and not path.is_file():
        return Mirrors()
    try:
        return find_mirrors(parse_settings(path))
    except SettingsError:
        if is_named:
            raise
        reporter.warning(f"{path} cannot be read, so that no mirrors of its are used")
        return Mirrors()
