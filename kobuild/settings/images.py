"""The `image` table: its keys, and the checks that only they need."""

from __future__ import annotations

import re
from typing import Final

from kobuild.errors import InvalidReference, MalformedDocument
from kobuild.oci.mediatypes import Compression
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.settings import values
from kobuild.settings.faults import Unfit, did_you_mean, nearest, quoted
from kobuild.settings.model import ImageSettings
from kobuild.settings.table import Table, kind_of

IMAGE_KEYS: Final = (
    "base",
    "target",
    "platforms",
    "other-platforms",
    "base-annotations",
    "compression",
    "workdir",
    "path",
    "env",
    "entrypoint",
    "cmd",
    "user",
    "expose",
    "volumes",
    "stop-signal",
    "labels",
    "annotations",
    "prioritized",
)
COMPRESSIONS: Final = tuple(kind.value for kind in Compression if kind is not Compression.NONE)
BASE_LOCATIONS: Final = ("oci", "oci-archive", "docker-archive")
"""Places other than registries that a base may be read from."""
FATES: Final = ("drop", "keep")
"""What may become of a part of the base's index."""

_OTHER_WORDS: Final = {
    "gz": "gzip",
    "stargz": "estargz",
    "e-stargz": "estargz",
    "zst": "zstd",
    "zstandard": "zstd",
    "zstd-chunked": "zstd:chunked",
    "chunked": "zstd:chunked",
}
_TRANSPORT: Final = re.compile(r"(?:docker|docker-archive|docker-daemon|containers-storage|dir|oci|oci-archive):.*")
_SYSTEMS: Final = ("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "illumos", "aix", "wasip1")
_ARCHITECTURES: Final = (
    *("amd64", "arm64", "arm", "386", "ppc64le", "ppc64", "s390x", "riscv64", "loong64"),
    *("mips", "mipsle", "mips64", "mips64le", "wasm"),
)
_PORT: Final = re.compile(r"(?P<port>[0-9]{1,5})(?:/(?P<protocol>[a-z]+))?")
_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_MAX_PORT: Final = 65535
_SIGNAL: Final = re.compile(r"SIG[A-Z0-9]+(?:[+-][0-9]{1,2})?|[1-9][0-9]?")
_DEFAULTS: Final = ImageSettings(base="scratch")


def read_image(table: Table) -> ImageSettings:
    """The image table's values; what is wrong is noted, and left at its default."""
    if "base" not in table.value:
        table.fault("base", "the base image is missing", 'write base = "scratch" to start from nothing')
    return ImageSettings(
        base=table.take("base", base, _DEFAULTS.base),
        targets=table.take_list("target", target, or_one=True) or (),
        platforms=_platforms(table),
        keeps_other_platforms=table.take("other-platforms", is_kept, default=False),
        keeps_base_annotations=table.take("base-annotations", is_kept, default=False),
        compression=table.take("compression", compression, _DEFAULTS.compression),
        workdir=table.take("workdir", values.image_path, None),
        path=table.take_list("path", values.path_entry) or (),
        env=table.take_map("env", env_name, values.string),
        entrypoint=_command(table, "entrypoint"),
        cmd=_command(table, "cmd"),
        user=table.take("user", user, None),
        expose=table.take_list("expose", port) or (),
        volumes=table.take_list("volumes", values.image_path) or (),
        stop_signal=table.take("stop-signal", signal, None),
        labels=table.take_map("labels", values.text, values.string),
        annotations=table.take_map("annotations", values.text, values.string),
        prioritized=table.take_list("prioritized", values.image_path) or (),
    )


def base(value: object) -> str:
    """`scratch`, an image reference, or one of BASE_LOCATIONS with its path; kept as written."""
    wanted = values.text(value).strip()
    kind, _, rest = wanted.partition(":")
    if wanted == "scratch":
        return wanted
    if kind in BASE_LOCATIONS:
        if not rest:
            raise Unfit(f"expected a path after {kind}:", "it is relative to this file")
        return wanted
    if _TRANSPORT.fullmatch(wanted):
        places = ", ".join(f"{place}:" for place in BASE_LOCATIONS)
        hint = f"write {rest.lstrip('/')}" if kind == "docker" else f"expected scratch, a reference, {places}"
        raise Unfit(f"a base cannot be read from {kind}:", hint)
    _reference(wanted)
    return wanted


def target(value: object) -> Reference:
    """A reference by tag, which a push can move."""
    wanted = values.text(value).strip()
    if _TRANSPORT.fullmatch(wanted):
        raise Unfit(f"a target is a registry's reference, got {quoted(wanted)}", "kobuild build --output writes files")
    reference = _reference(wanted)
    if reference.digest is not None:
        raise Unfit(f"a push cannot choose its digest: {quoted(wanted)}", "name a tag only")
    return reference


def platform(value: object) -> Platform:
    """`os/architecture[/variant]` in Go's words, normalised."""
    try:
        parsed = Platform.parse(values.text(value))
    except MalformedDocument as error:
        near = nearest(str(value), [f"linux/{name}" for name in _ARCHITECTURES])
        raise Unfit(error.message, f"did you mean {near}?" if near else None) from error
    if parsed.os not in _SYSTEMS:
        raise Unfit(f"unknown operating system {quoted(parsed.os)}", did_you_mean(parsed.os, _SYSTEMS))
    if parsed.architecture not in _ARCHITECTURES:
        raise Unfit(
            f"unknown architecture {quoted(parsed.architecture)}",
            did_you_mean(parsed.architecture, _ARCHITECTURES),
        )
    return parsed


def compression(value: object) -> Compression:
    """One of the formats that layers are written in."""
    wanted = values.string(value)
    if wanted in COMPRESSIONS:
        return Compression(wanted)
    meant = _OTHER_WORDS.get(wanted.lower().replace("_", "-"))
    hint = f"did you mean {meant}?" if meant else did_you_mean(wanted, COMPRESSIONS)
    raise Unfit(f"unknown compression {quoted(wanted)}", hint)


def is_kept(value: object) -> bool:
    """Whether the word is `keep`, and not `drop`."""
    wanted = values.string(value)
    if wanted not in FATES:
        raise Unfit(f"expected {' or '.join(FATES)}, got {quoted(wanted)}", did_you_mean(wanted, FATES))
    return wanted == "keep"


def env_name(value: object) -> str:
    """The name of an environment variable other than PATH."""
    name = values.text(value)
    if "=" in name:
        raise Unfit("the name of a variable has no `=`")
    if name == "PATH":
        raise Unfit("PATH is not set here", 'image.path puts directories before the base\'s: path = ["/opt/tool/bin"]')
    return name


def user(value: object) -> str:
    """`user`, `uid`, `user:group` and so on."""
    name = values.text(value)
    if re.search(r"\s", name) or name.count(":") > 1:
        raise Unfit(f"expected USER or USER:GROUP, got {quoted(name)}", 'such as "1000:1000" or "nobody"')
    return name


def port(value: object) -> str:
    """A port with its protocol, from a number or `8080/tcp`."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Unfit(f"expected a port, got {kind_of(value)}", 'such as 8080 or "8080/udp"')
    match = _PORT.fullmatch(str(value).lower())
    if match is None or not 1 <= int(match["port"]) <= _MAX_PORT:
        raise Unfit(f"expected a port from 1 to {_MAX_PORT}, got {quoted(str(value))}", 'such as 8080 or "8080/udp"')
    protocol = match["protocol"] or "tcp"
    if protocol not in _PROTOCOLS:
        raise Unfit(f"unknown protocol {quoted(protocol)}", did_you_mean(protocol, _PROTOCOLS))
    return f"{int(match['port'])}/{protocol}"


def signal(value: object) -> str:
    """A signal's name with SIG, or its number as a string."""
    name = values.text(value)
    if not _SIGNAL.fullmatch(name):
        raise Unfit(f"expected a signal, got {quoted(name)}", 'such as "SIGTERM", "SIGRTMIN+3" or "15"')
    return name


def _platforms(table: Table) -> tuple[Platform, ...]:
    taken = table.take_list("platforms", platform, or_one=True)
    if taken == () and table.value["platforms"] == []:
        table.fault("platforms", "must not be empty", "leave the key out for linux/amd64")
    return taken or _DEFAULTS.platforms


def _command(table: Table, key: str) -> tuple[str, ...] | None:
    return table.take_list(key, values.string, unique=False)


def _reference(text: str) -> Reference:
    if "://" in text:
        raise Unfit(f"an image reference has no scheme: {quoted(text)}", f"write {text.partition('://')[2]}")
    try:
        return Reference.parse(text)
    except InvalidReference as error:
        raise Unfit(error.message, error.hint) from error
