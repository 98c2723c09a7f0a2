"""Frozen values: what `@dataclass(frozen=True, slots=True)` makes, at a seventh of its cost.

The standard library writes and compiles six functions for every class, which was a quarter of kobuild's start. Here the
fields are its own, so `replace`, `fields` and `asdict` work; the methods are closures, and `__init__` is compiled when
the first instance is made, which many classes of a run never have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, overload

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # `typing` has it from Python 3.11 on, and it only speaks to type checkers

    def dataclass_transform(**_: object) -> Callable[[T], T]:
        """Leave the decorator as it is."""
        return lambda decorator: decorator


T = TypeVar("T")

_ABSENT: Final = object()


@overload
def frozen(cls: type[T], /) -> type[T]: ...
@overload
def frozen(*, order: bool) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T] | None = None, /, *, order: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class a frozen dataclass with slots, which compares by value; with `order`, `<` and the others too.

    Two of the same class are equal where their fields are; `field(compare=…, hash=…, repr=…)` are honoured.
    """
    if cls is None:
        return _make_ordered if order else _make
    return _make(cls)


def _make(cls: type[T]) -> type[T]:
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    listed = fields(made)
    compared = _values_of([item.name for item in listed if item.compare])
    hashed = _values_of([item.name for item in listed if (item.compare if item.hash is None else item.hash)])

    def initialize(self: Any, *values: Any, **named: Any) -> None:
        made.__init__ = compiled = _compile_init(made, listed)
        compiled(self, *values, **named)

    def equals(self: Any, other: object) -> bool:
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    def represent(self: Any) -> str:
        text = ", ".join(f"{item.name}={getattr(self, item.name)!r}" for item in listed if item.repr)
        return f"{self.__class__.__qualname__}({text})"

    def restore(self: Any, state: Sequence[Any]) -> None:
        for item, value in zip(listed, state, strict=True):
            object.__setattr__(self, item.name, value)

    made.__init__ = initialize
    made.__eq__ = equals
    made.__hash__ = lambda self: hash(hashed(self))
    made.__repr__ = represent
    made.__getstate__ = lambda self: [getattr(self, item.name) for item in listed]  # for copy and pickle
    made.__setstate__ = restore
    made.__setattr__ = _refuse_to_set
    made.__delattr__ = _refuse_to_delete
    return made  # type: ignore[no-any-return]


def _make_ordered(cls: type[T]) -> type[T]:
    made: Any = _make(cls)
    values = _values_of([item.name for item in fields(made) if item.compare])

    def precedes(self: Any, other: object) -> bool:
        return values(self) < values(other) if other.__class__ is self.__class__ else NotImplemented

    def precedes_or_equals(self: Any, other: object) -> bool:
        return values(self) <= values(other) if other.__class__ is self.__class__ else NotImplemented

    made.__lt__, made.__le__ = precedes, precedes_or_equals  # Python turns them round for > and >=
    return made  # type: ignore[no-any-return]


def _values_of(names: Sequence[str]) -> Callable[[object], Any]:
    return attrgetter(*names) if names else lambda _: ()


def _compile_init(cls: type[Any], listed: Sequence[Field[Any]]) -> Callable[..., None]:
    """`__init__` with the fields as its parameters. It writes through the slots themselves: `__setattr__` refuses."""
    names: dict[str, Any] = {"_ABSENT": _ABSENT}
    parameters, lines = ["self"], []
    for number, item in enumerate(listed):
        names[f"_set{number}"] = getattr(cls, item.name).__set__
        parameter = value = item.name
        if item.default_factory is not MISSING:
            names[f"_make{number}"] = item.default_factory
            parameter, value = f"{item.name}=_ABSENT", f"_make{number}() if {item.name} is _ABSENT else {item.name}"
        elif item.default is not MISSING:
            names[f"_default{number}"] = item.default
            parameter = f"{item.name}=_default{number}"
        parameters.append(parameter)
        lines.append(f" _set{number}(self, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    exec("\n".join((f"def __init__({', '.join(parameters)}):", *(lines or [" pass"]))), names)  # noqa: S102 - our text
    compiled: Callable[..., None] = names["__init__"]
    compiled.__qualname__ = f"{cls.__qualname__}.__init__"  # for "missing 1 required positional argument"
    return compiled


def _refuse_to_set(_: object, name: str, value: object) -> NoReturn:  # noqa: ARG001 - the data model's signature
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: object, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
