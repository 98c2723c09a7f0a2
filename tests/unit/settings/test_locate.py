from __future__ import annotations

import pytest

from kobuild.settings.locate import format_key, locate


def lines_of(text: str) -> dict[str, int]:
    return {format_key(path): line for path, line in locate(text).lines.items()}


def test_tables_and_dotted_keys_have_the_line_where_each_part_is_first_named() -> None:
    text = """\
# a comment with [brackets] = "and signs"
[image]
base = "scratch"

[ tools . "k.o" ]
source = "go"
a.'b c'."d" = 1
"""
    assert lines_of(text) == {
        "image": 2,
        "image.base": 3,
        "tools": 5,
        'tools."k.o"': 5,
        'tools."k.o".source': 6,
        'tools."k.o".a': 7,
        'tools."k.o".a."b c"': 7,
        'tools."k.o".a."b c".d': 7,
    }


def test_arrays_over_several_lines_locate_each_element() -> None:
    text = """\
only = [ # the first
  "a]", # ] not the end
  'b"',

  { name = "c", deep = [
    1, 1979-05-27 07:32:00,
  ] },
]
last = 1
"""
    assert lines_of(text) == {
        "only": 1,
        "only[0]": 2,
        "only[1]": 3,
        "only[2]": 5,
        "only[2].name": 5,
        "only[2].deep": 5,
        "only[2].deep[0]": 6,
        "only[2].deep[1]": 6,
        "last": 9,
    }


def test_multi_line_strings_hide_what_looks_like_keys() -> None:
    text = '''\
a = """
b = 1
\\""" [c]
""""
d = \'\'\'
[e]
\'\'\'\'
f = """"quoted"""""
g = 1
'''
    assert lines_of(text) == {"a": 1, "d": 5, "f": 8, "g": 9}


def test_arrays_of_tables_are_counted() -> None:
    text = "[[a]]\nx = 1\n[[a]]\n[a.b]\ny = 2\n[[a.c]]\n[[a.c]]\nz = 1\n"
    lines = lines_of(text)
    assert lines["a[0].x"] == 2
    assert lines["a[1].b.y"] == 5
    assert lines["a[1].c[1]"] == 7
    assert lines["a[1].c[1].z"] == 8


def test_inline_tables_may_go_over_lines() -> None:
    assert lines_of("env = {\n  A = '1', # one\n  B.c = '2',\n}\n") == {
        "env": 1,
        "env.A": 2,
        "env.B": 3,
        "env.B.c": 3,
    }


def test_escapes_in_quoted_keys_are_read() -> None:
    text = r""""a\tb" = 1
"\u00e9\U0001F600\"\\" = 2
'c\d' = 3
"\x41\q" = 4
"""
    paths = list(locate(text).lines)
    assert paths == [("a\tb",), ('é😀"\\',), ("c\\d",), ("Aq",)]


def test_windows_line_ends_count_once() -> None:
    assert lines_of("a = 1\r\n\r\nb = [\r\n1]\r\n") == {"a": 1, "b": 3, "b[0]": 4}


def test_an_unknown_path_has_its_nearest_parents_line() -> None:
    locations = locate("[image]\nonly = [1]\n")
    assert locations.line(("image", "only", 0, "x")) == 2
    assert locations.line(("image", "missing")) == 1
    assert locations.line(("elsewhere",)) is None
    assert locations.line(()) is None


def test_deep_nesting_is_no_danger() -> None:
    depth = 50_000
    assert locate("a = " + "[" * depth).line(("a", 0)) == 1
    assert locate("a = " + "{a=" * 200 + "}" * 200).line(("a",)) == 1


@pytest.mark.parametrize("text", ['a = "b\nc = 1', "a = 'b\nc = 1", 'a = """b\nc = 1', "a = '''b\nc = 1"])
def test_a_string_without_end_takes_the_rest(text: str) -> None:
    assert lines_of(text) == {"a": 1}


def test_key_paths_are_spelled_as_toml_spells_them() -> None:
    assert format_key(("tools", "k o", "only", 2)) == 'tools."k o".only[2]'
    assert format_key(("", "a\nb")) == '""."a\\nb"'
