"""One parsed comparison as a SQL condition that means the same on both databases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, collate, func, literal
from sqlalchemy.types import Text

from registry.sql.grammar import Comparison


def condition(column: ColumnElement[Any], each: Comparison, dialect: str) -> ColumnElement[bool]:
    """The comparison as SQL on *column*; its value is a bound parameter."""
    if isinstance(each.value, tuple):
        return column.in_(each.value) if each.operator == "IN" else column.not_in(each.value)
    if each.operator == "LIKE":
        return _like(column, str(each.value), dialect)
    if each.operator == "ILIKE":
        return _ilike(column, str(each.value), dialect)
    return column.op({"=": "=", "!=": "<>"}.get(each.operator, each.operator), is_comparison=True)(each.value)


def _like(column: ColumnElement[Any], pattern: str, dialect: str) -> ColumnElement[bool]:
    """Case-sensitive: SQLite's LIKE is not, its GLOB is."""
    if dialect != "sqlite":
        return column.like(pattern, escape="")
    quoted = "".join(f"[{each}]" if each in "[*?" else each for each in pattern)
    return column.op("GLOB", is_comparison=True)(quoted.replace("%", "*").replace("_", "?"))


def _ilike(column: ColumnElement[Any], pattern: str, dialect: str) -> ColumnElement[bool]:
    """Folds the case of ASCII letters only, on both databases."""
    if dialect == "sqlite":
        return column.like(pattern)
    return func.lower(column).like(func.lower(collate(literal(pattern, Text()), "C")), escape="")
