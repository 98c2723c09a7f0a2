"""The schema, the reference and the parser: the same keys, and the same answer wherever a schema can tell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli

from kobuild.errors import SettingsError
from kobuild.settings.images import COMPRESSIONS, IMAGE_KEYS
from kobuild.settings.parse import ROOT_KEYS, SOURCES_KEYS, parse_text
from kobuild.settings.policy import VERIFY_KEYS
from kobuild.settings.schema import load_schema
from kobuild.settings.source import COMMON_KEYS, KINDS
from kobuild.settings.tools import TOOL_KEYS

DOCS = Path(__file__).parents[3] / "docs" / "settings.md"
SCHEMA = load_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
IMAGE = SCHEMA["properties"]["image"]["properties"]
(TOOL_TABLE,) = SCHEMA["properties"]["tools"]["patternProperties"].values()
SOURCES = SCHEMA["properties"]["sources"]["properties"]
VERIFY = SCHEMA["properties"]["verify"]["properties"]

TABLES = {"[image]": IMAGE_KEYS, "[tools.NAME]": TOOL_KEYS, "[sources]": SOURCES_KEYS, "[verify]": VERIFY_KEYS}
BLOCK = re.compile(r"^```toml(?P<refused> refused)?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)

ONLY_THE_PARSER = (
    'base = "docker://',  # the grammar of references
    'platforms = ["linux/amd64", "linux/x86_64"]',  # two spellings of one platform
    "nothing lists which versions there are",
    "sh -c 'ko version\"",  # where a shell's words end
    'source = "go"\nrequire = "signature"',  # what the keys say about each other
    'identity = "https://*"',
    'license = "Apache 2.0"',  # the list of SPDX's licences
    'source = "github:example/tool"\nissuer = ',
    "attestations = false  #",
)
"""Refused examples that a schema cannot tell from good ones."""


@dataclass(frozen=True)
class Example:
    section: str
    key: str
    text: str
    is_refused: bool


def sections() -> dict[str, dict[str, str]]:
    """The reference's text by table and key."""
    found: dict[str, dict[str, str]] = {}
    for part in DOCS.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, *keys = part.split("\n### ")
        table = heading.splitlines()[0].strip("`")
        found[table] = {key.splitlines()[0].strip("`"): key for key in keys}
    return found


def whole(text: str, section: str) -> str:
    """An example of the reference as a whole file."""
    if not re.search(r"^\[", text, re.MULTILINE) and section == "[image]":
        text = f"[image]\n{text}" if text.startswith("base =") else f'[image]\nbase = "scratch"\n{text}'
    return text if "[image]" in text else f'[image]\nbase = "scratch"\n{text}'


def examples() -> list[Example]:
    """Every TOML block of the reference."""
    introduction = DOCS.read_text(encoding="utf-8").partition("\n## ")[0]
    parts = [("", "", introduction)]
    parts += [(table, key, text) for table, keys in sections().items() for key, text in keys.items()]
    return [
        Example(section, key, whole(match["text"], section), bool(match["refused"]))
        for section, key, text in parts
        for match in BLOCK.finditer(text)
    ]


EXAMPLES = examples()


def is_parsed(text: str) -> bool:
    try:
        parse_text(text.encode(), Path("kobuild.toml"))
    except SettingsError:
        return False
    return True


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_schema_and_parser_have_the_same_keys() -> None:
    assert tuple(SCHEMA["properties"]) == ROOT_KEYS
    assert tuple(IMAGE) == IMAGE_KEYS
    assert tuple(TOOL_TABLE["properties"]) == TOOL_KEYS
    assert tuple(SOURCES) == SOURCES_KEYS
    assert tuple(VERIFY) == VERIFY_KEYS


def test_reference_and_parser_have_the_same_keys() -> None:
    assert {table: tuple(keys) for table, keys in sections().items()} == TABLES


@pytest.mark.parametrize(("table", "key"), [(table, key) for table, keys in TABLES.items() for key in keys])
def test_every_key_is_read_by_the_parser(table: str, key: str) -> None:
    """A date fits no key, so each key that is read has a fault, and none is unknown."""
    header = table.replace("NAME", "t")
    text = f"{header}\n{key} = 2026-11-25\n"
    with pytest.raises(SettingsError) as caught:
        parse_text(text.encode(), Path("kobuild.toml"))
    path = f"{header.strip('[]')}.{key}"
    messages = [fault.message for fault in caught.value.faults if fault.key == path]
    assert len(messages) == 1
    assert "a date or time" in messages[0]


def test_each_source_has_the_same_keys_in_schema_reference_and_parser() -> None:
    rules = {rule["if"]["properties"]["source"]["pattern"]: rule for rule in TOOL_TABLE["allOf"]}
    rows = re.findall(r"^\| `([a-z]+)` \| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {kind: tuple(re.findall(r"`([a-z0-9-]+)`", keys)) for kind, keys in rows if keys.startswith("`")}
    assert documented == {name: kind.keys for name, kind in KINDS.items()}
    for name, kind in KINDS.items():
        rule = rules.pop(f"^\\s*{name}(:|\\s*$)")
        assert rule["then"]["propertyNames"]["enum"] == [*COMMON_KEYS, *kind.keys]
    assert not rules


def test_the_compressions_are_the_same() -> None:
    assert tuple(IMAGE["compression"]["enum"]) == COMPRESSIONS


def test_every_key_is_described() -> None:
    for properties in (SCHEMA["properties"], IMAGE, TOOL_TABLE["properties"], SOURCES, VERIFY):
        assert all(value["description"] for value in properties.values())


@pytest.mark.parametrize("key", [key for key, value in IMAGE.items() if "examples" in value])
def test_examples_of_image_keys_in_the_schema_are_good(key: str) -> None:
    validator = jsonschema.Draft7Validator(IMAGE[key])
    assert [error.message for value in IMAGE[key]["examples"] for error in validator.iter_errors(value)] == []


@pytest.mark.parametrize("key", [key for key, value in TOOL_TABLE["properties"].items() if "examples" in value])
def test_examples_of_tool_keys_in_the_schema_are_good(key: str) -> None:
    rules: dict[str, Any] = TOOL_TABLE["properties"][key]
    validator = jsonschema.Draft7Validator(rules)
    assert [error.message for value in rules["examples"] for error in validator.iter_errors(value)] == []


def test_the_reference_has_good_and_refused_examples() -> None:
    assert len([example for example in EXAMPLES if example.is_refused]) >= 15
    assert len([example for example in EXAMPLES if not example.is_refused]) >= 25


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.section}{example.key}")
def test_parser_and_schema_agree_on_the_references_examples(example: Example) -> None:
    errors = [error.message for error in VALIDATOR.iter_errors(tomli.loads(example.text))]
    assert is_parsed(example.text) != example.is_refused
    if any(mark in example.text for mark in ONLY_THE_PARSER):
        assert errors == []
    else:
        assert bool(errors) == example.is_refused, errors


GOOD_TOOLS = [
    'source = "go"\nversion = ""\nroot = "/usr/..."',
    'source = "github:a/b"\nversion = "kustomize/v5.4.1"\nonly = ["bin/*", "..x", "a.b/.c/", "doc/"]\nmode = "755"',
    'source = "url:http://127.0.0.1:80/x"',
    'source = "url:http://[::1]/x"',
    'source = "url:http://localhost/x"',
    'source = "npm:@a/b"\nversion = ">=1, <2"',
    'source = "path:../x"\nrename = "..x"',
]
BAD_TOOLS = [
    'version = "1"',
    'source = "go"\nunknown = 1',
    'source = "go:1"',
    'source = "github:a"',
    'source = "gihub:a/b"',
    'source = "url:http://example.com"',
    'source = "url:https://a@example.com"',
    'source = "hashicorp:terraform"',
    'source = "go"\nversion = "1.2, 1.3"',
    'source = "go"\nversion = "1.*"',
    'source = "go"\nroot = "/a/.."',
    'source = "go"\nonly = ["a/../b"]',
    'source = "go"\nonly = ["./a"]',
    'source = "go"\nonly = ["a//b"]',
    'source = "go"\nonly = ["a/.."]',
    'source = "go"\nonly = ["a", "a"]',
    'source = "go"\nmode = "0o755"',
    'source = "go"\nstrip = 1.5',
    'source = "go"\nrename = "x"',
    'source = "path:x"\nrename = ".."',
    'source = "github:a/b"\nrename = "a/b"',
    'source = "github:a/b"\nasset = "{os}{goos}"',
    'source = "path:x"\nversion = "1"',
    'source = "url:https://example.com/x"\nsha256 = "12"',
    'source = "url:https://example.com/x"\nchecksums = "http://example.com/x"',
    'source = "go"\ntest = " "',
]
IMAGES = {
    'target = ["a:1", "b:1"]': True,
    'user = "a:b"': True,
    "cmd = []": True,
    'expose = [1, "65535/SCTP"]': True,
    'stop-signal = "15"': True,
    "target = 1": False,
    'target = "a@sha256:x"': False,
    "platforms = []": False,
    'platforms = "linux"': False,
    'compression = "none"': False,
    'workdir = "x"': False,
    'path = ["/a:/b"]': False,
    'env = { A = "1", PATH = "x" }': False,
    'user = "a b"': False,
    "expose = [0]": False,
    'expose = ["80/tpc"]': False,
    'volumes = ["/a/../b"]': False,
    'stop-signal = "TERM"': False,
    "labels = { a = 1 }": False,
}
POLICIES = {
    "": True,
    "require = []": True,
    'require = "provenance"\nkey = ["short"]': False,
    'require = "provenance"\nidentity = "https://github.com/a/b/*"': True,
    'require = ["provenance", "provenance"]\nidentity = "https://github.com/a/b/*"': False,
    'require = ["provenance"]\nidentity = ["https://github.com/a/b/*", "a@example.com"]': False,
    'require = "provenance"\nidentity = "a@example.com"\nissuer = "https://example.com"': True,
    'require = "provenance"\nidentity = "a b"\nissuer = "https://example.com"': False,
    'require = "provenance"\nissuer = "https://example.com"': False,
    'source = "https://example.com"': False,
    'require = "sbom"': False,
    "other = 1": False,
}


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        *((f'[image]\nbase = "scratch"\n[tools.t]\n{lines}\n', True) for lines in GOOD_TOOLS),
        *((f'[image]\nbase = "scratch"\n[tools.t]\n{lines}\n', False) for lines in BAD_TOOLS),
        *((f'[image]\nbase = "scratch"\n{line}\n', is_good) for line, is_good in IMAGES.items()),
        ('[image]\nbase = "scratch"\n[tools."a b"]\nsource = "go"\n', False),
        ('[image]\nbase = "scratch"\n[sources]\ngo = "http://example.com"\n', False),
        *((f'[image]\nbase = "scratch"\n[verify]\n{lines}\n', is_good) for lines, is_good in POLICIES.items()),
        ('[image]\nbase = "scratch"\n[other]\n', False),
        ("[image]\n", False),
        ("", False),
    ],
)
def test_parser_and_schema_agree(text: str, is_good: bool) -> None:
    errors = [error.message for error in VALIDATOR.iter_errors(tomli.loads(text))]
    assert is_parsed(text) is is_good
    assert (errors == []) is is_good, errors
