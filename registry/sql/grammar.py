"""MLflow's filter and order_by language as values. Pure: recursive descent, linear time, no SQL text.

filter     := comparison ("AND" comparison)*
comparison := key operator (string | number | "(" string ("," string)* ")")
key        := ["tag." | "tags." | "attribute."] name; a tag's name may be quoted
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.errors import InvalidParameter
from registry.names import check_text, shown

MAX_FILTER_CHARS = 100_000
MAX_COMPARISONS = 100
MAX_LIST = 1_000
MAX_PATTERN_CHARS = 10_000
# Above every version number, and what a database takes.
MAX_NUMBER = 2**31 - 1

EQUAL = frozenset({"=", "!="})
TEXTUAL = EQUAL | {"LIKE", "ILIKE"}
LISTED = TEXTUAL | {"IN", "NOT IN"}
NUMERIC = EQUAL | {"<", "<=", ">", ">="}

_SPACE = re.compile(r"\s*")
_KEY = re.compile(r"(?:(tags?|attributes?)\.)?(?:(\w[\w./:-]*)|`([^`]*)`|\"([^\"]*)\"|'([^']*)')")
_OPERATOR = re.compile(r"!=|<=|>=|=|<|>|NOT\s+IN\b|IN\b|LIKE\b|ILIKE\b", re.IGNORECASE)
# A doubled quote does not end a string, and both of its characters count, as in MLflow.
_STRING = re.compile(r"'((?:[^']|'')*)'|\"((?:[^\"]|\"\")*)\"")
_NUMBER = re.compile(r"[+-]?\d[\w.+-]*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,25}")
_AND = re.compile(r"AND\b", re.IGNORECASE)
_ORDER = re.compile(r"\s*(\S+)(?:\s+(ASC|DESC))?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One condition: on an attribute, or on the tag of a key."""

    key: str
    is_tag: bool
    operator: str
    value: str | int | tuple[str, ...]


def parse_filter(text: str | None, attributes: Mapping[str, frozenset[str]]) -> tuple[Comparison, ...]:
    """The conditions that must all hold. *attributes*: which operators each of them takes.

    Raises `InvalidParameter`, saying where the text cannot be understood.
    """
    if text is None or text == "":
        return ()
    check_text(text, "filter", MAX_FILTER_CHARS)
    return _Parser(text, attributes).filter()


def parse_order(clauses: Sequence[str] | None, keys: Mapping[str, str]) -> tuple[tuple[str, bool], ...]:
    """(column, whether it descends) for each clause. *keys*: the column that each word stands for."""
    if isinstance(clauses, str):
        raise InvalidParameter("order_by must be a list of clauses, such as ['name DESC']")
    order: dict[str, bool] = {}
    for clause in clauses or ():
        found = _ORDER.fullmatch(check_text(clause, "order_by clause", 200))
        if found is None or found[1] not in keys:
            raise InvalidParameter(
                f"invalid order_by clause {shown(clause)}: give one of {', '.join(keys)}, then ASC or DESC"
            )
        if keys[found[1]] in order:
            raise InvalidParameter(f"order_by names {shown(found[1])} twice")
        order[keys[found[1]]] = (found[2] or "").upper() == "DESC"
    return tuple(order.items())


class _Parser:
    """Reads one filter from left to right; `_at` is the position of the next unread character."""

    def __init__(self, text: str, attributes: Mapping[str, frozenset[str]]) -> None:
        self._text = text
        self._at = 0
        self._attributes = attributes

    def filter(self) -> tuple[Comparison, ...]:
        comparisons = [self._comparison()]
        while self._take(_AND):
            comparisons.append(self._comparison())
            if len(comparisons) > MAX_COMPARISONS:
                raise InvalidParameter(f"a filter has at most {MAX_COMPARISONS} comparisons")
        if self._at < len(self._text):
            raise self._wrong("AND, or the end,")
        return tuple(comparisons)

    def _comparison(self) -> Comparison:
        key, is_tag = self._key()
        found = self._take(_OPERATOR)
        if found is None:
            raise self._wrong("a comparator")
        operator = " ".join(found[0].upper().split())
        allowed = TEXTUAL if is_tag else self._attributes[key]
        if operator not in allowed:
            raise InvalidParameter(
                f"invalid comparator {operator} for {shown(key)}: it takes {', '.join(sorted(allowed))}"
            )
        if operator in {"IN", "NOT IN"}:
            return Comparison(key, is_tag, operator, self._list())
        if allowed is NUMERIC:
            return Comparison(key, is_tag, operator, self._integer(key))
        value = self._string(key)
        if operator in {"LIKE", "ILIKE"} and len(value) > MAX_PATTERN_CHARS:
            raise InvalidParameter(f"the pattern of {operator} has at most {MAX_PATTERN_CHARS} characters")
        return Comparison(key, is_tag, operator, value)

    def _key(self) -> tuple[str, bool]:
        found = self._take(_KEY)
        if found is None:
            raise self._wrong("a key")
        prefix, bare = found[1], found[2]
        if prefix in {"tag", "tags"}:
            return next(each for each in found.groups()[1:] if each is not None), True
        if prefix == "attributes" or bare is None or bare not in self._attributes:
            raise InvalidParameter(
                f"invalid attribute key {shown(found[0])}: valid keys are {', '.join(self._attributes)}, and tags.<key>"
            )
        return bare, False

    def _string(self, key: str) -> str:
        found = self._take(_STRING)
        if found is None:
            raise self._wrong(f"a quoted string value for {shown(key)}")
        return found[1] if found[1] is not None else found[2]

    def _integer(self, key: str) -> int:
        found = self._take(_STRING)
        text = (found[1] if found[1] is not None else found[2]) if found else self._number()
        if not _INTEGER.fullmatch(text):
            raise InvalidParameter(f"invalid value {shown(text)} for {shown(key)}: it must be a whole number")
        return max(-MAX_NUMBER, min(MAX_NUMBER, int(text)))

    def _number(self) -> str:
        found = self._take(_NUMBER)
        if found is None:
            raise self._wrong("a whole number")
        return found[0]

    def _list(self) -> tuple[str, ...]:
        self._expect("(")
        values = [self._string("IN")]
        while self._takes(","):
            values.append(self._string("IN"))
            if len(values) > MAX_LIST:
                raise InvalidParameter(f"IN takes at most {MAX_LIST} values")
        self._expect(")")
        return tuple(values)

    def _expect(self, character: str) -> None:
        if not self._takes(character):
            raise self._wrong(f"'{character}'")

    def _takes(self, character: str) -> bool:
        self._skip_space()
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        self._skip_space()
        return True

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._skip_space()
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
            self._skip_space()
        return found

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _wrong(self, expected: str) -> InvalidParameter:
        rest = self._text[self._at :]
        found = shown(rest) if rest else "its end"
        return InvalidParameter(
            f"invalid clause in filter string: expected {expected} at character {self._at + 1}, found {found}"
        )
