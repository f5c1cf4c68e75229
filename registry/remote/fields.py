"""What is sent to a registry server: fields of the right kind, so that a mistake is told here and not as bad JSON.

Limits and spellings are the server's business: a stock one takes more than ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from registry.errors import InvalidParameter
from registry.names import (
    MAX_TAG_VALUE_CHARS,
    MAX_VERSION,
    check_alias,
    check_model_name,
    check_text,
    check_version,
    shown,
)

Fields = dict[str, Any]

MAX_CHARS = 1 << 20


def text(value: object, what: str) -> str:
    return check_text(value, what, MAX_CHARS)


def optional_text(value: object, what: str) -> str | None:
    return None if value is None else text(value, what)


def texts(values: object, what: str, each_is: str) -> list[str] | None:
    if values is None:
        return None
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise InvalidParameter(f"{what} must be a list of strings, got {shown(values)}")
    return [text(each, each_is) for each in values]


def objects(values: object, what: str) -> list[Fields] | None:
    if values is None:
        return None
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise InvalidParameter(f"{what} must be a list of mappings, got {shown(values)}")
    if not all(isinstance(each, Mapping) for each in values):
        raise InvalidParameter(f"{what} must be a list of mappings, got {shown(values)}")
    return [dict(each) for each in values]


def model_name(name: object) -> str:
    return text(name, "model name")


def version_place(name: object, version: object) -> Fields:
    return {"name": model_name(name), "version": str(check_version(version))}


def tag_pairs(tags: object) -> list[Fields] | None:
    if tags is None:
        return None
    if not isinstance(tags, Mapping):
        raise InvalidParameter(f"tags must be a mapping from keys to values, got {shown(tags)}")
    return [{"key": text(key, "tag key"), "value": tag_value(value)} for key, value in tags.items()]


def tag_value(value: object) -> str:
    return check_text(str(value), "tag value", MAX_TAG_VALUE_CHARS)


def page_limit(max_results: object) -> int:
    if not isinstance(max_results, int) or isinstance(max_results, bool):
        raise InvalidParameter(f"max_results must be a whole number, got {max_results!r}"[:200])
    return max_results


def search_fields(filter_string: object, max_results: object, order_by: object, page_token: object) -> Fields:
    return {
        "filter": optional_text(filter_string, "filter"),
        "max_results": page_limit(max_results),
        "order_by": texts(order_by, "order_by", "order_by clause"),
        "page_token": optional_text(page_token, "page token"),
    }


def alias_terms(expected_version: object, reason: object) -> Fields:
    """The terms that were given, under the names that the server knows them by."""
    terms: Fields = {}
    if expected_version is not None:
        try:
            terms["expected_version"] = check_version(expected_version)
        except InvalidParameter:
            raise InvalidParameter(
                f"expected_version must be a whole number between 1 and {MAX_VERSION}, or 0 for an alias that must not "
                f"be set yet, got {shown(expected_version)}"
            ) from None
    if reason is not None:
        terms["reason"] = text(reason, "reason")
    return terms


def model_route(name: object) -> str:
    return f"registered-models/{quote(check_model_name(name), safe='')}"


def alias_route(name: object, alias: object) -> str:
    return f"{model_route(name)}/aliases/{quote(check_alias(alias), safe='')}"
