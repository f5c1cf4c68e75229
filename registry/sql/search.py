"""Searches: parsed filters and orders as SQL expressions with bound parameters, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Integer, Table, bindparam, exists, select

from registry.core import ModelVersion, RegisteredModel
from registry.page import Page
from registry.sql.conditions import condition
from registry.sql.database import Database
from registry.sql.grammar import LISTED, NUMERIC, TAG, TEXTUAL, Comparison, parse_filter, parse_order
from registry.sql.paging import check_max_results, read_page_token, write_page_token
from registry.sql.prepared import Prepared
from registry.sql.rows import SELECT_MODEL, SELECT_PLAIN_VERSION, as_models, as_version
from registry.sql.schema import model_tags, models, version_tags, versions

MAX_MODELS_PAGE = 1_000
MAX_VERSIONS_PAGE = 200_000
IS_PROMPT_TAG = "mlflow.prompt.is_prompt"
KEPT_STATEMENTS = 64

Order = tuple[tuple[str, bool], ...]  # (column, descends)

# With values, or a statement with a list in it could not be compiled ahead.
_LIMIT = bindparam("limit", 0, type_=Integer)
_OFFSET = bindparam("offset", 0, type_=Integer)

_MODEL_ATTRIBUTES = {"name": LISTED}
_VERSION_ATTRIBUTES = {"name": LISTED, "run_id": LISTED, "source_path": TEXTUAL, "version_number": NUMERIC}
_MODEL_ORDER = {"name": "name", "timestamp": "updated_at", "last_updated_timestamp": "updated_at"}
_VERSION_ORDER = {
    "name": "name",
    "version_number": "number",
    "creation_timestamp": "created_at",
    "last_updated_timestamp": "updated_at",
}
_MODEL_COLUMNS: dict[str, ColumnElement[Any]] = {"name": models.c.name, "updated_at": models.c.updated_at}
_VERSION_COLUMNS: dict[str, ColumnElement[Any]] = {
    "name": models.c.name,
    "run_id": versions.c.run_id,
    "source_path": versions.c.source,
    "version_number": versions.c.number,
    "number": versions.c.number,
    "created_at": versions.c.created_at,
    "updated_at": versions.c.updated_at,
}


@dataclass(frozen=True, slots=True)
class Query:
    """One page of a search: what must hold, in which order, from where, how many."""

    comparisons: tuple[Comparison, ...]
    order: Order
    limit: int
    offset: int


def model_query(
    filter_string: str | None, max_results: int, order_by: Sequence[str] | None, page_token: str | None
) -> Query:
    return Query(
        parse_filter(filter_string, _MODEL_ATTRIBUTES),
        _with_ties(parse_order(order_by, _MODEL_ORDER), ("name", False)),
        check_max_results(max_results, MAX_MODELS_PAGE),
        read_page_token(page_token, "offset") or 0,
    )


def version_query(
    filter_string: str | None, max_results: int, order_by: Sequence[str] | None, page_token: str | None
) -> Query:
    order = parse_order(order_by, _VERSION_ORDER) or (("updated_at", True),)
    return Query(
        parse_filter(filter_string, _VERSION_ATTRIBUTES),
        _with_ties(order, ("name", False), ("number", True)),
        check_max_results(max_results, MAX_VERSIONS_PAGE),
        read_page_token(page_token, "offset") or 0,
    )


def _with_ties(order: Order, *ties: tuple[str, bool]) -> Order:
    """The order with what decides between equals, so that pages never overlap."""
    named = {column for column, _ in order}
    return order + tuple(each for each in ties if each[0] not in named)


def find_models(database: Database, query: Query) -> Page[RegisteredModel]:
    found = as_models(database.rows(_select_models(query.comparisons, query.order, database.kind), **_page_of(query)))
    return Page(found[: query.limit], _next_token(query, len(found)))


def find_versions(database: Database, query: Query) -> Page[ModelVersion]:
    rows = database.rows(_select_versions(query.comparisons, query.order, database.kind), **_page_of(query))
    return Page([as_version(row) for row in rows[: query.limit]], _next_token(query, len(rows)))


# Building a statement takes about as long as running it, and people turn pages and lists are looked at again.
@lru_cache(maxsize=KEPT_STATEMENTS)
def _select_models(comparisons: tuple[Comparison, ...], order: Order, dialect: str) -> Prepared:
    tags = model_tags, model_tags.c.model_id == models.c.id
    conditions = _conditions(comparisons, _MODEL_COLUMNS, *tags, dialect=dialect)
    by = _order(order, _MODEL_COLUMNS)
    page = select(models.c.id).where(*conditions).order_by(*by).limit(_LIMIT).offset(_OFFSET)
    return Prepared(SELECT_MODEL.where(models.c.id.in_(page)).order_by(*by, versions.c.number))


@lru_cache(maxsize=KEPT_STATEMENTS)
def _select_versions(comparisons: tuple[Comparison, ...], order: Order, dialect: str) -> Prepared:
    tags = version_tags, version_tags.c.version_id == versions.c.id
    conditions = _conditions(comparisons, _VERSION_COLUMNS, *tags, dialect=dialect)
    by = _order(order, _VERSION_COLUMNS)
    page = (
        select(versions.c.id).join_from(versions, models).where(*conditions).order_by(*by).limit(_LIMIT).offset(_OFFSET)
    )
    return Prepared(SELECT_PLAIN_VERSION.where(versions.c.id.in_(page)).order_by(*by))


def _page_of(query: Query) -> dict[str, int]:
    """One row more than the page holds tells whether there is a next one."""
    return {"limit": query.limit + 1, "offset": query.offset}


def _next_token(query: Query, found: int) -> str | None:
    return write_page_token("offset", query.offset + query.limit) if found > query.limit else None


def _order(order: Order, columns: dict[str, ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    return [columns[key].desc() if descends else columns[key].asc() for key, descends in order]


def _conditions(
    comparisons: tuple[Comparison, ...],
    columns: dict[str, ColumnElement[Any]],
    tags: Table,
    same: ColumnElement[bool],
    dialect: str,
) -> list[ColumnElement[bool]]:
    """SQL conditions; prompts share the tables and are left out unless they are asked for."""
    is_prompt = exists().where(same, tags.c.key == IS_PROMPT_TAG, tags.c.value == "true")
    conditions: list[ColumnElement[bool]] = []
    wants_prompts = False
    for each in comparisons:
        if each.entity == TAG and each.key == IS_PROMPT_TAG and each.operator in {"=", "!="}:
            wants_prompts = (each.value == "true") == (each.operator == "=")
        elif each.entity == TAG:
            conditions.append(exists().where(same, tags.c.key == each.key, condition(tags.c.value, each, dialect)))
        else:
            conditions.append(condition(columns[each.key], each, dialect))
    return [*conditions, is_prompt if wants_prompts else ~is_prompt]
