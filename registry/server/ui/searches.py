"""Filters in MLflow's language for what a page asks, whatever stands in the names."""

from __future__ import annotations

import re

# An operator makes a search a filter; anything else is a part of a name.
_FILTER = re.compile(r"[=<>]|\b(I?LIKE|IN|IS)\b", re.IGNORECASE)


def quoted(text: str) -> str | None:
    """A string of the language, which has no escapes: None for a text with both quotes in it."""
    quote = '"' if "'" in text else "'"
    return None if quote in text else f"{quote}{text}{quote}"


def filter_of(search: str, attribute: str = "name") -> str | None:
    """The filter that a search means: itself, or for plain words a part of a name."""
    return search if _FILTER.search(search) else part_of(attribute, search)


def part_of(attribute: str, text: str) -> str | None:
    """Rows whose attribute has *text* in it, in any case; all of them for none."""
    if not text:
        return None
    return f"{attribute} ILIKE {quoted(f'%{text}%') or quoted('%' + text.replace(chr(34), '_') + '%')}"


def equals(attribute: str, text: str) -> str:
    """Rows whose attribute is *text*; for a text with both quotes, also some that are alike: compare what comes."""
    exact = quoted(text)
    if exact is not None:
        return f"{attribute} = {exact}"
    return f"{attribute} LIKE '{text.replace(chr(39), '_')}'"
