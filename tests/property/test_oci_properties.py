"""Laws of the OCI values and of the edits of configs."""

from __future__ import annotations

import contextlib
import io
import json
import string
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kobuild.errors import InvalidReference, MalformedDocument
from kobuild.image.environment import get_variable, prepend_path, set_variables
from kobuild.image.mutate import ConfigEdits, with_config
from kobuild.oci import jsonio
from kobuild.oci.digest import Digest
from kobuild.oci.manifest import Manifest
from kobuild.oci.platforms import Platform
from kobuild.oci.reference import Reference
from kobuild.streams import VerifyingReader
from tests.support.images import make_image

settings.register_profile("quick", max_examples=60, deadline=None, database=None)
settings.load_profile("quick")

part = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4})?", fullmatch=True)
host = st.from_regex(r"[a-z0-9]{1,8}\.[a-z]{2,3}(:[0-9]{2,5})?|localhost(:[0-9]{2,5})?|\[::1\]:5000", fullmatch=True)
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digest = st.binary(max_size=8).map(Digest.of)


@st.composite
def references(draw: st.DrawFn) -> str:
    name = "/".join(draw(st.lists(part, min_size=1, max_size=3)))
    prefix = draw(st.one_of(st.just(""), host.map(lambda text: f"{text}/")))
    suffix = draw(st.one_of(st.just(""), tag.map(lambda text: f":{text}")))
    pinned = draw(st.one_of(st.just(""), digest.map(lambda item: f"@{item}")))
    return f"{prefix}{name}{suffix}{pinned}"


@given(references())
def test_a_reference_survives_printing(text: str) -> None:
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert str(Reference.parse(str(reference))) == str(reference)


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_a_clear_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference


platforms = st.builds(
    Platform,
    st.sampled_from(["linux", "windows", "macos", "Linux"]),
    st.sampled_from(["amd64", "x86_64", "arm64", "aarch64", "arm", "armhf", "armel", "386", "s390x", "ARM64"]),
    st.sampled_from(["", "v1", "v2", "v5", "v6", "v7", "v8", "8", "7"]),
)


@given(platforms)
def test_normalising_twice_is_normalising_once(platform: Platform) -> None:
    once = platform.normalized()
    assert once.normalized() == once
    assert Platform.parse(str(once)) == once
    assert once.runnable[0] == once
    assert len(set(once.runnable)) == len(once.runnable)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
documents = st.dictionaries(st.text(), values, max_size=5)


@given(documents)
def test_canonical_json_is_stable_and_says_the_same(value: dict[str, Any]) -> None:
    raw = jsonio.canonical(value)
    assert jsonio.parse_object(raw, "x") == value
    assert jsonio.canonical(jsonio.parse_object(raw, "x")) == raw


@given(st.binary(max_size=60))
def test_any_bytes_are_a_manifest_or_a_clear_error(raw: bytes) -> None:
    with contextlib.suppress(MalformedDocument):
        Manifest.from_bytes(raw)


unknown = st.dictionaries(st.text(min_size=1), values, max_size=4).map(
    lambda found: {key: item for key, item in found.items() if key not in ("os", "architecture", "variant", "config")}
)
RUNTIME = {"Env", "Cmd", "Entrypoint", "Labels", "WorkingDir", "User", "StopSignal", "ExposedPorts", "Volumes"}


@given(unknown, unknown)
def test_what_is_unknown_in_a_config_survives_every_edit(members: dict[str, Any], runtime: dict[str, Any]) -> None:
    members = {key: item for key, item in members.items() if key not in ("rootfs", "history", "created")}
    runtime = {key: item for key, item in runtime.items() if key not in RUNTIME}
    edits = ConfigEdits(env={"A": "1"}, path=("/x",), workdir="/w", labels={"a": "b"}, entrypoint=("/e",))
    image = with_config(make_image(config=runtime, members=members), edits)
    value = json.loads(image.config.raw)
    assert {key: value[key] for key in members} == members
    assert {key: value["config"][key] for key in runtime} == runtime


name = st.text(string.ascii_uppercase + "_", min_size=1, max_size=4)
env = st.lists(st.tuples(name, st.text(max_size=5)).map("=".join), max_size=6)
directory = st.text(string.ascii_lowercase + "/", min_size=1, max_size=6).map(lambda text: f"/{text}")


@given(env, st.lists(directory, max_size=4))
def test_prepending_to_path_twice_is_prepending_once(variables: list[str], directories: list[str]) -> None:
    once = prepend_path(variables, directories)
    assert prepend_path(once, directories) == once
    path = get_variable(once, "PATH")
    if directories:
        assert path is not None
        wanted = list(dict.fromkeys(directories))
        assert path.split(":")[: len(wanted)] == wanted


@given(env, st.dictionaries(name, st.text(max_size=5), max_size=4))
def test_set_variables_are_set_and_the_others_stay(variables: list[str], changes: dict[str, str]) -> None:
    result = set_variables(variables, changes)
    assert set_variables(result, changes) == result
    assert all(get_variable(result, key) == value for key, value in changes.items())
    others = [item for item in variables if item.partition("=")[0] not in changes]
    assert [item for item in result if item.partition("=")[0] not in changes] == others


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1, max_size=5), st.booleans())
def test_a_verified_stream_is_whole_or_an_error(data: bytes, steps: list[int], sized: bool) -> None:
    size = len(data) if sized else None
    reader = VerifyingReader(io.BytesIO(data), digest=Digest.of(data), size=size, place="here")
    parts, number = [], 0
    while part_read := reader.read(steps[number % len(steps)]):
        parts.append(part_read)
        number += 1
    assert b"".join(parts) == data
