"""MLflow's filter and order_by language as values. Pure: recursive descent, linear time, no SQL text.

filter     := comparison ("AND" comparison)*
comparison := key operator (string | number | "(" string ("," string)* ")") | key "IS" ["NOT"] "NULL"
key        := [prefix "."] name; the name may be quoted. Each search has its own prefixes and attributes.
order      := key ["ASC" | "DESC"]
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
MAX_ORDER_CHARS = 400
MAX_ORDER_KEYS = 10
# Above every version number, and what a database takes.
MAX_NUMBER = 2**31 - 1

EQUAL = frozenset({"=", "!="})
TEXTUAL = EQUAL | {"LIKE", "ILIKE"}
LISTED = TEXTUAL | {"IN", "NOT IN"}
NUMERIC = EQUAL | {"<", "<=", ">", ">="}
ABSENT = frozenset({"IS NULL", "IS NOT NULL"})

ATTRIBUTE = "attribute"
TAG = "tag"
METRIC = "metric"
PARAM = "param"
DATASET = "dataset"

_SPACE = re.compile(r"\s*")
_KEY = re.compile(r"(?:([A-Za-z]+)\.)?(?:(\w[\w./:-]*)|`([^`]*)`|\"([^\"]*)\"|'([^']*)')")
_OPERATOR = re.compile(r"!=|<=|>=|=|<|>|NOT\s+IN\b|IN\b|LIKE\b|ILIKE\b|IS\s+NULL\b|IS\s+NOT\s+NULL\b", re.IGNORECASE)
# A doubled quote does not end a string, and both of its characters count, as in MLflow.
_STRING = re.compile(r"'((?:[^']|'')*)'|\"((?:[^\"]|\"\")*)\"")
_NUMBER = re.compile(r"[+-]?\d[\w.+-]*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,25}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_AND = re.compile(r"AND\b", re.IGNORECASE)
_ORDER = re.compile(r"\s*(\S+)(?:\s+(ASC|DESC))?\s*", re.IGNORECASE)
_DIRECTION = re.compile(r"ASC\b|DESC\b", re.IGNORECASE)

# What may stand before the point of a key, and the operators that such keys take.
Prefixes = Mapping[str, tuple[str, frozenset[str]]]
REGISTRY_PREFIXES: Prefixes = {"tag": (TAG, TEXTUAL), "tags": (TAG, TEXTUAL), "attribute": (ATTRIBUTE, frozenset())}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One condition: on an attribute, or on the tag, metric or param of a key."""

    entity: str
    key: str
    operator: str
    value: str | int | float | tuple[str, ...] | None


def parse_filter(
    text: str | None,
    attributes: Mapping[str, frozenset[str]],
    prefixes: Prefixes = REGISTRY_PREFIXES,
    largest: int = MAX_NUMBER,
) -> tuple[Comparison, ...]:
    """The conditions that must all hold. *attributes*: which operators each of them takes.

    Raises `InvalidParameter`, saying where the text cannot be understood.
    """
    if text is None or text == "":
        return ()
    check_text(text, "filter", MAX_FILTER_CHARS)
    return _Parser(text, attributes, prefixes, largest).filter()


def parse_order_keys(
    clauses: Sequence[str] | None, attributes: Mapping[str, frozenset[str]], prefixes: Prefixes
) -> tuple[tuple[str, str, bool], ...]:
    """(entity, key, whether it descends) for each clause, which may name metrics, params and tags."""
    if isinstance(clauses, str):
        raise InvalidParameter("order_by must be a list of clauses, such as ['metrics.accuracy DESC']")
    order: dict[tuple[str, str], bool] = {}
    for clause in clauses or ():
        check_text(clause, "order_by clause", MAX_ORDER_CHARS)
        entity, key, descends = _Parser(clause, attributes, prefixes, MAX_NUMBER).order()
        if (entity, key) in order:
            raise InvalidParameter(f"order_by names {shown(key)} twice")
        order[entity, key] = descends
    if len(order) > MAX_ORDER_KEYS:
        raise InvalidParameter(f"order_by has at most {MAX_ORDER_KEYS} clauses")
    return tuple((*key, descends) for key, descends in order.items())


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

    def __init__(self, text: str, attributes: Mapping[str, frozenset[str]], prefixes: Prefixes, largest: int) -> None:
        self._text = text
        self._at = 0
        self._attributes = attributes
        self._prefixes = prefixes
        self._largest = largest

    def filter(self) -> tuple[Comparison, ...]:
        comparisons = [self._comparison()]
        while self._take(_AND):
            comparisons.append(self._comparison())
            if len(comparisons) > MAX_COMPARISONS:
                raise InvalidParameter(f"a filter has at most {MAX_COMPARISONS} comparisons")
        if self._at < len(self._text):
            raise self._wrong("AND, or the end,")
        return tuple(comparisons)

    def order(self) -> tuple[str, str, bool]:
        entity, key, _ = self._key()
        found = self._take(_DIRECTION)
        if self._at < len(self._text):
            raise self._wrong("ASC, DESC, or the end,")
        return entity, key, found is not None and found[0].upper() == "DESC"

    def _comparison(self) -> Comparison:
        entity, key, allowed = self._key()
        found = self._take(_OPERATOR)
        if found is None:
            raise self._wrong("a comparator")
        operator = " ".join(found[0].upper().split())
        if operator not in allowed:
            raise InvalidParameter(
                f"invalid comparator {operator} for {shown(key)}: it takes {', '.join(sorted(allowed))}"
            )
        return Comparison(entity, key, operator, self._value(entity, key, operator, allowed))

    def _value(
        self, entity: str, key: str, operator: str, allowed: frozenset[str]
    ) -> str | int | float | tuple[str, ...] | None:
        if operator in ABSENT:
            return None
        if operator in {"IN", "NOT IN"}:
            return self._list()
        if entity == METRIC:
            return self._float(key)
        if allowed is NUMERIC:
            return self._integer(key)
        value = self._string(key)
        if operator in {"LIKE", "ILIKE"} and len(value) > MAX_PATTERN_CHARS:
            raise InvalidParameter(f"the pattern of {operator} has at most {MAX_PATTERN_CHARS} characters")
        return value

    def _key(self) -> tuple[str, str, frozenset[str]]:
        """The entity, its key, and the operators that it takes."""
        found = self._take(_KEY)
        if found is None:
            raise self._wrong("a key")
        prefix, key = found[1] or ATTRIBUTE, next(each for each in found.groups()[1:] if each is not None)
        entity, allowed = self._prefixes.get(prefix, ("", frozenset()))
        if entity == ATTRIBUTE and (key not in self._attributes or (found[2] is None and found[1] is None)):
            entity = ""
        if not entity:
            raise InvalidParameter(
                f"invalid attribute key {shown(found[0])}: valid keys are {', '.join(self._attributes)}, "
                f"and those that begin with {', '.join(f'{each}.' for each in self._prefixes)}"
            )
        return entity, key, self._attributes[key] if entity == ATTRIBUTE else allowed

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
        return max(-self._largest, min(self._largest, int(text)))

    def _float(self, key: str) -> float:
        found = self._take(_FLOAT)
        if found is None:
            raise self._wrong(f"a number for {shown(key)}")
        return float(found[0])

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
