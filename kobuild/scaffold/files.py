"""The files that a project begins with, as text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from kobuild._version import __version__
from kobuild.frozen import frozen
from kobuild.oci.reference import Reference
from kobuild.settings.parse import parse_text

WORKFLOW: Final = ".github/workflows/image.yml"
NOXFILE: Final = "noxfile.py"
DEFAULT_SETTINGS: Final = "kobuild.toml"
GITHUB_REGISTRY: Final = "ghcr.io"
_INDENT: Final = " " * 10
_MARK: Final = re.compile(r"@([a-z]+)@")


@frozen
class Start:
    """What a project begins with."""

    settings: str
    """The settings file, relative to the project's folder."""
    base: str
    targets: Sequence[str]
    platforms: Sequence[str]

    def files(self) -> Mapping[str, str]:
        """Each file's text by its path in the project; raises SettingsError where the settings cannot be meant."""
        text = _fill(
            "kobuild.toml", base=_toml(self.base), target=_one_or_all(self.targets), platforms=_toml(self.platforms)
        )
        parse_text(text.encode(), Path(self.settings))
        return {self.settings: text, WORKFLOW: self._workflow(), NOXFILE: self._noxfile()}

    @property
    def needs_login(self) -> bool:
        """Whether the workflow asks for secrets: ghcr.io takes the job's token, loopback takes nothing."""
        registry = Reference.parse(self.targets[0]).registry
        return str(registry) != GITHUB_REGISTRY and not registry.is_loopback

    def _noxfile(self) -> str:
        file = "" if self.settings == DEFAULT_SETTINGS else f"file={json.dumps(self.settings)}"
        return _fill("noxfile.py", version=__version__, file=file)

    def _workflow(self) -> str:
        registry = Reference.parse(self.targets[0]).registry
        file = "" if self.settings == DEFAULT_SETTINGS else f"{_INDENT}file: {json.dumps(self.settings)}\n"
        login = (
            f"{_INDENT}registry: {registry}\n"
            f"{_INDENT}username: ${{{{ secrets.REGISTRY_USERNAME }}}}\n"
            f"{_INDENT}password: ${{{{ secrets.REGISTRY_PASSWORD }}}}\n"
        )
        permission = "" if self.needs_login else f"      packages: write # to push to {GITHUB_REGISTRY}\n"
        return _fill("image.yml", file=file, login=login if self.needs_login else "", permission=permission)


def _fill(name: str, **values: str) -> str:
    """A template with each `@name@` replaced; the values are not looked at again."""
    text = (resources.files("kobuild.resources") / "init" / f"{name}.in").read_text(encoding="utf-8")
    return _MARK.sub(lambda match: values[match[1]], text)


def _one_or_all(texts: Sequence[str]) -> str:
    return _toml(texts[0]) if len(texts) == 1 else _toml(texts)


def _toml(value: str | Sequence[str]) -> str:
    """A string or an array of strings as TOML writes them, which is as JSON does, but for the one control character."""
    return json.dumps(value if isinstance(value, str) else list(value), ensure_ascii=False).replace("\x7f", "\\u007f")
