"""Image configs: image-spec, config.md. Unknown members of the base's config survive every change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

from kobuild.errors import MalformedDocument
from kobuild.frozen import frozen
from kobuild.oci import jsonio
from kobuild.oci.digest import Digest
from kobuild.oci.platforms import Platform

_FRACTION: Final = re.compile(r"\.(\d+)")


@frozen
class ImageConfig:
    """One image config; `raw` holds the bytes exactly as stored, received or about to be stored."""

    raw: bytes

    @classmethod
    def from_bytes(cls, raw: bytes, what: str = "image config") -> ImageConfig:
        """Check the members that kobuild reads; raises MalformedDocument."""
        config = cls(raw)
        value = jsonio.parse_object(raw, what)
        runtime = jsonio.get_object(value, "config", what)
        for key in ("Env", "Entrypoint", "Cmd"):
            jsonio.get_strings(runtime, key, f"{what}: config")
        for key in ("Labels",):
            jsonio.get_string_map(runtime, key, f"{what}: config")
        for text in jsonio.get_strings(jsonio.get_object(value, "rootfs", what), "diff_ids", f"{what}: rootfs"):
            Digest.parse(text)
        jsonio.get_objects(value, "history", what)
        return config

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> ImageConfig:
        """Write a config in canonical form."""
        return cls.from_bytes(jsonio.canonical(value))

    @classmethod
    def empty(cls, platform: Platform) -> ImageConfig:
        """The config of an image with no layers, for `scratch`."""
        value: dict[str, Any] = platform.to_json()
        return cls.from_value({**value, "config": {}, "rootfs": {"type": "layers", "diff_ids": []}, "history": []})

    def value(self) -> dict[str, Any]:
        """A fresh copy of the whole document."""
        return jsonio.parse_object(self.raw, "image config")

    @property
    def digest(self) -> Digest:
        """The image ID: the digest of the raw bytes."""
        return Digest.of(self.raw)

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        return Platform.from_json(self.value())

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The digest of each layer's uncompressed tar, the base's first."""
        rootfs = jsonio.get_object(self.value(), "rootfs", "image config")
        return tuple(Digest.parse(text) for text in jsonio.get_strings(rootfs, "diff_ids", "image config"))

    @property
    def history(self) -> tuple[dict[str, Any], ...]:
        """History entries, oldest first."""
        return jsonio.get_objects(self.value(), "history", "image config")

    @property
    def runtime(self) -> dict[str, Any]:
        """The `config` member: Env, Entrypoint, Cmd and the rest."""
        return jsonio.get_object(self.value(), "config", "image config")

    @property
    def env(self) -> tuple[str, ...]:
        """`NAME=value` in the config's order."""
        return jsonio.get_strings(self.runtime, "Env", "image config")

    @property
    def created(self) -> datetime | None:
        """When the image says it was made, in UTC; None where it says nothing, or the zero time."""
        text = self.value().get("created")
        return parse_time(text) if isinstance(text, str) else None


def parse_time(text: str) -> datetime | None:
    """Parse an RFC 3339 time to UTC; None for the zero time `0001-01-01`, which means "not set".

    Raises MalformedDocument where the text is no time.
    """
    cut = _FRACTION.sub(lambda match: "." + match.group(1)[:6].ljust(6, "0"), text.strip())
    try:
        parsed = datetime.fromisoformat(cut.replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError as error:
        raise MalformedDocument(f"image config: created: not an RFC 3339 time: {text!r}") from error
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)
    if aware.year <= 1:
        return None
    try:
        return aware.astimezone(timezone.utc)
    except OverflowError as error:
        raise MalformedDocument(f"image config: created: beyond the year 9999: {text!r}") from error


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, such as `2026-11-25T09:00:00Z`."""
    # Not strftime: its %Y does not pad years before 1000 on every system.
    return moment.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
