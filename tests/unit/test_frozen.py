"""`frozen` makes what `dataclass(frozen=True, slots=True)` does."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kobuild.frozen import frozen

VALUES = st.tuples(st.integers(0, 2), st.sampled_from(["", "a"]), st.tuples(st.booleans()))


@pytest.fixture(params=["ours", "the standard library's"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Each rule here is one that both follow."""
    if request.param == "ours":
        return frozen
    return lambda *given, **options: dataclass(*given, frozen=True, slots=True, **options)


def test_a_value_has_its_fields_and_their_defaults(make: Callable[..., Any]) -> None:
    @make
    class Value:
        name: str
        size: int = 7
        notes: dict[str, str] = field(default_factory=dict)

    value_of: Any = Value
    one, other = value_of("a"), value_of(name="a", size=8)
    assert (one.name, one.size, one.notes) == ("a", 7, {})
    assert other.size == 8
    assert one.notes is not other.notes
    assert repr(one).endswith("Value(name='a', size=7, notes={})")
    assert dataclasses.replace(one, size=8) == other != one
    assert dataclasses.asdict(other) == {"name": "a", "size": 8, "notes": {}}
    with pytest.raises(TypeError, match=r"Value\.__init__\(\) missing 1 required positional argument: 'name'"):
        value_of()
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        value_of("a", other=1)


def test_nothing_of_it_can_be_changed(make: Callable[..., Any]) -> None:
    @make
    class Value:
        name: str

    value_of: Any = Value
    value = value_of("a")
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
        value.name = "b"
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'name'"):
        del value.name
    assert not hasattr(value, "__dict__")
    assert value.name == "a"


def test_fields_may_stand_apart_from_comparing_hashing_and_showing(make: Callable[..., Any]) -> None:
    @make
    class Value:
        name: str
        notes: dict[str, str] = field(default_factory=dict, hash=False)
        secret: str = field(default="", repr=False, compare=False)

    value_of: Any = Value
    one, same, other = value_of("a", {}, "x"), value_of("a", {}, "y"), value_of("a", {"b": "c"}, "x")
    assert one == same
    assert one != other
    assert hash(one) == hash(same) == hash(other)
    assert "secret" not in repr(one)


def test_the_values_of_two_classes_are_never_equal(make: Callable[..., Any]) -> None:
    @make
    class Base:
        size: int

    @make
    class Derived(Base):
        name: str = "a"

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError("negative")

    base: Any = Base
    derived: Any = Derived
    assert derived(1) == derived(1, "a")
    assert derived(1).size == 1
    assert base(1) != derived(1)
    assert base(1) != 1
    with pytest.raises(ValueError, match="negative"):
        derived(-1)


def test_without_fields_all_are_equal(make: Callable[..., Any]) -> None:
    @make
    class Nothing:
        """No fields."""

    nothing: Any = Nothing
    assert nothing() == nothing()
    assert len({nothing(), nothing()}) == 1


@frozen(order=True)
class Ours:
    number: int
    text: str
    flags: tuple[bool, ...]


@dataclass(frozen=True, slots=True, order=True)
class Theirs:
    number: int
    text: str
    flags: tuple[bool, ...]


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_a_value_can_be_copied_and_pickled(kind: Callable[..., Any]) -> None:
    value = kind(1, "a", (True,))
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own


@given(VALUES, VALUES)
def test_two_values_compare_as_the_standard_library_has_it(left: Any, right: Any) -> None:
    ours, theirs = (Ours(*left), Ours(*right)), (Theirs(*left), Theirs(*right))
    assert (ours[0] == ours[1]) == (theirs[0] == theirs[1])
    assert (hash(ours[0]) == hash(ours[1])) == (hash(theirs[0]) == hash(theirs[1]))
    assert (ours[0] < ours[1]) == (theirs[0] < theirs[1])
    assert (ours[0] <= ours[1]) == (theirs[0] <= theirs[1])
    assert (ours[0] > ours[1]) == (theirs[0] > theirs[1])
    assert (ours[0] >= ours[1]) == (theirs[0] >= theirs[1])
    assert repr(ours[0]).removeprefix("Ours") == repr(theirs[0]).removeprefix("Theirs")


def test_the_first_instance_of_a_class_may_be_made_in_many_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    for _ in range(20):

        @frozen
        class Value:
            number: int

        with ThreadPoolExecutor(8) as pool:
            assert [value.number for value in pool.map(Value, range(50))] == list(range(50))
