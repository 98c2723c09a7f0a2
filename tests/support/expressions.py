"""GitHub's expressions, as far as an action's steps use them: contexts, literals, operators, `cancelled()`.

https://docs.github.com/actions/reference/workflows-and-actions/expressions
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w.-]*)|(?P<sign>&&|\|\||==|!=|!|\(|\)))")
_INSERT = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}


def interpolate(text: str, contexts: Mapping[str, Any]) -> str:
    """Text with each `${{ … }}` replaced by its value; what a value holds is not looked at again."""
    return _INSERT.sub(lambda match: as_text(evaluate(match[1], contexts)), text)


def condition(text: str, contexts: Mapping[str, Any]) -> bool:
    """The value of an `if:`, with or without its braces."""
    match = _INSERT.fullmatch(text.strip())
    return bool(evaluate(match[1] if match else text, contexts))


def evaluate(text: str, contexts: Mapping[str, Any]) -> Any:
    """The value of one expression; raises ValueError for what this does not know."""
    parser = _Parser(text, contexts)
    value = parser.either()
    if parser.rest.strip():
        raise ValueError(f"cannot read the rest of {text!r}: {parser.rest!r}")
    return value


def as_text(value: Any) -> str:
    """A value of YAML or of an expression as the runner writes it into text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


class _Parser:
    def __init__(self, text: str, contexts: Mapping[str, Any]) -> None:
        self.rest = text
        self._contexts = contexts

    def either(self) -> Any:
        return self._chain("||", self._both, lambda left, right: left or right)

    def _both(self) -> Any:
        return self._chain("&&", self._comparison, lambda left, right: left and right)

    def _comparison(self) -> Any:
        left = self._single()
        for sign in ("==", "!="):
            if self._take(sign):
                return (as_text(left).lower() == as_text(self._single()).lower()) is (sign == "==")
        return left

    def _chain(self, sign: str, part: Callable[[], Any], join: Callable[[Any, Any], Any]) -> Any:
        value = part()
        while self._take(sign):
            value = join(value, part())
        return value

    def _single(self) -> Any:
        if self._take("!"):
            return not self._single()
        if self._take("("):
            value = self.either()
            if not self._take(")"):
                raise ValueError(f"a parenthesis is not closed before {self.rest!r}")
            return value
        match = _TOKEN.match(self.rest)
        if match is None or match["sign"]:
            raise ValueError(f"not an expression: {self.rest!r}")
        self.rest = self.rest[match.end() :]
        if match["string"]:
            return match["string"][1:-1].replace("''", "'")
        if match["name"] == "cancelled" and self._take("(") and self._take(")"):
            return False  # nobody cancels here
        return _WORDS[match["name"]] if match["name"] in _WORDS else self._look_up(match["name"])

    def _look_up(self, name: str) -> Any:
        """A context's value; what is missing below a known context is nothing, as on GitHub."""
        first, *parts = name.split(".")
        if first not in self._contexts:
            raise ValueError(f"there is no context {first!r}")
        value: Any = self._contexts[first]
        for part in parts:
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def _take(self, sign: str) -> bool:
        match = _TOKEN.match(self.rest)
        if match is None or match["sign"] != sign:
            return False
        self.rest = self.rest[match.end() :]
        return True
