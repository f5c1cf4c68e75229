"""The fields of a request: a body's, a query's, and those that stand in the path, read by MLflow's rules."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from registry.errors import InvalidParameter
from registry.names import shown

MAX_INT64 = 2**63 - 1

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_BOOLEANS = {"true": True, "false": False}
_SEE = "See the API docs for more information about request parameters."


class Fields:
    """What a request gives, by name. Unknown fields are ignored; null counts as absent.

    A field may be spelled in snake_case or in camelCase, and not in both at once. In a query, numbers and truth
    values are text, and a repeated key is a list.
    """

    __slots__ = ("_given", "_is_query", "_path")

    def __init__(
        self, given: Mapping[str, Any], *, is_query: bool = False, path: Mapping[str, str] | None = None
    ) -> None:
        """*given* of a query has a list for each key. What stands in the *path* wins over it."""
        self._given = given
        self._is_query = is_query
        self._path = path

    def raw(self, name: str) -> Any:
        """As it came: of a query's key the first value; None when absent."""
        if self._path is not None and name in self._path:
            return self._path[name]
        found = self._find(name)
        return found[0] if self._is_query and found is not None else found

    def has(self, name: str) -> bool:
        return self.raw(name) is not None

    def text(self, name: str) -> str:
        """Required, and not empty."""
        found = self.raw(name)
        if found is None or found == "":
            raise _missing(name)
        if not isinstance(found, str):
            raise _invalid(name, found)
        return found

    def optional_text(self, name: str) -> str | None:
        """None when absent; empty where it was given empty."""
        found = self.raw(name)
        if found is not None and not isinstance(found, str):
            raise _invalid(name, found)
        return found

    def integer(self, name: str, default: int | None = None) -> int | None:
        """A whole number of 64 bits, also as a string of digits, as protobuf's JSON allows."""
        found = self.raw(name)
        if found is None:
            return default
        if (isinstance(found, str) and _INTEGER.fullmatch(found)) or (isinstance(found, float) and found.is_integer()):
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, int) or not -MAX_INT64 <= found <= MAX_INT64:
            raise _invalid(name, found)
        return found

    def number(self, name: str) -> float:
        """Required; a number, its digits in a string, or one of NaN, Infinity, -Infinity."""
        found = self.raw(name)
        if found is None or found == "":
            raise _missing(name)
        if isinstance(found, str):
            return _as_number(name, found)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise _invalid(name, found)
        try:
            return float(found)
        except OverflowError:
            raise _invalid(name, found) from None

    def boolean(self, name: str, default: bool = False) -> bool:
        found = self.raw(name)
        if found is None:
            return default
        if self._is_query:
            found = _BOOLEANS.get(found.lower(), found)
        if not isinstance(found, bool):
            raise _invalid(name, found)
        return found

    def texts(self, name: str) -> list[str]:
        """A list of strings; empty when absent."""
        found = self._list(name)
        for each in found:
            if not isinstance(each, str):
                raise _invalid(name, each)
        return found

    def tags(self, name: str) -> dict[str, str]:
        """A list of {key, value}; of two with one key the last wins, and an absent value is empty."""
        return {each.text("key"): each.optional_text("value") or "" for each in self.objects(name)}

    def objects(self, name: str) -> list[Fields]:
        """A list of JSON objects; empty when absent."""
        return [_nested(name, each) for each in self._list(name)]

    def object(self, name: str) -> Fields:
        """A JSON object. Required."""
        found = self.raw(name)
        if found is None:
            raise _missing(name)
        return _nested(name, found)

    def _list(self, name: str) -> list[Any]:
        found = self._find(name)
        if found is None:
            return []
        if not isinstance(found, list):
            raise _invalid(name, found)
        return found

    def _find(self, name: str) -> Any:
        found = self._given.get(name)
        camel = _camel_case(name)
        if camel is None or camel not in self._given:
            return found
        if name in self._given:
            raise InvalidParameter(f"{name} was given twice, also as {camel}: use one spelling")
        return self._given[camel]


@cache
def _camel_case(name: str) -> str | None:
    """The other spelling, for names that have one. Called with the names that routes ask for, never a client's."""
    first, *others = name.split("_")
    return first + "".join(each.capitalize() for each in others) if others else None


def _nested(name: str, found: Any) -> Fields:
    if not isinstance(found, dict):
        raise _invalid(name, found)
    return Fields(found)


def _as_number(name: str, text: str) -> float:
    if text in _NUMBERS:
        return _NUMBERS[text]
    try:
        number = float(text)
    except ValueError:
        raise _invalid(name, text) from None
    if not math.isfinite(number):
        raise _invalid(name, text)
    return number


def _missing(name: str) -> InvalidParameter:
    return InvalidParameter(f"Missing value for required parameter '{name}'. {_SEE}")


def _invalid(name: str, found: Any) -> InvalidParameter:
    kind = type(found).__name__
    value = shown(found) if isinstance(found, str) else found if isinstance(found, bool | int | float) else f"a {kind}"
    return InvalidParameter(
        f"Invalid value {value} for parameter '{name}' supplied:  Hint: Value was of type '{kind}'. {_SEE}"
    )
