"""Edits of the environment."""

from __future__ import annotations

from kobuild.image.environment import DEFAULT_PATH, get_variable, prepend_path, set_variables


def test_a_variable_is_replaced_where_it_stands() -> None:
    env = ["A=1", "PATH=/bin", "B=x=y"]
    assert set_variables(env, {"PATH": "/opt", "C": "3"}) == ("A=1", "PATH=/opt", "B=x=y", "C=3")


def test_a_variable_that_the_base_sets_twice_is_set_once() -> None:
    assert set_variables(["A=1", "B=2", "A=3"], {"A": "9"}) == ("A=9", "B=2")


def test_names_are_compared_whole_and_by_case() -> None:
    assert set_variables(["AB=1", "a=2"], {"A": "3"}) == ("AB=1", "a=2", "A=3")


def test_a_value_may_hold_anything() -> None:
    assert set_variables([], {"A": "x=y z\n"}) == ("A=x=y z\n",)
    assert get_variable(["A=1", "A=x=y"], "A") == "x=y"
    assert get_variable(["AB=1"], "A") is None


def test_path_is_prepended_in_order() -> None:
    assert prepend_path(["PATH=/usr/bin:/bin"], ["/go/bin", "/ko"]) == ("PATH=/go/bin:/ko:/usr/bin:/bin",)


def test_a_directory_moves_to_the_front() -> None:
    assert prepend_path(["PATH=/usr/bin:/go/bin:/bin"], ["/go/bin"]) == ("PATH=/go/bin:/usr/bin:/bin",)


def test_a_base_without_path_gets_the_runtimes_default() -> None:
    assert prepend_path(["A=1"], ["/go/bin"]) == ("A=1", f"PATH=/go/bin:{DEFAULT_PATH}")
    assert prepend_path(["PATH="], ["/go/bin"]) == (f"PATH=/go/bin:{DEFAULT_PATH}",)


def test_no_directories_change_nothing() -> None:
    assert prepend_path(["A=1"], []) == ("A=1",)
