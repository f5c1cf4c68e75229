"""Searches among runs: MLflow's filters and orders as SQL with bound parameters, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, or_

from registry.errors import InvalidParameter
from registry.names import shown
from registry.page import Page
from registry.sql.conditions import condition
from registry.sql.grammar import (
    ABSENT,
    ATTRIBUTE,
    DATASET,
    EQUAL,
    LISTED,
    METRIC,
    NUMERIC,
    PARAM,
    TAG,
    TEXTUAL,
    Comparison,
    parse_filter,
    parse_order_keys,
)
from registry.sql.paging import check_max_results, read_page_token, write_page_token
from registry.sql.runs import SELECT_RUN, as_runs
from registry.sql.schema_tracking import latest_metrics, params, run_datasets, run_tags, runs
from registry.tracking import Run

MAX_PAGE = 50_000
MAX_TIME = 2**63 - 1

_TEXTS = TEXTUAL | ABSENT
_PREFIXES = {
    **dict.fromkeys(("metric", "metrics"), (METRIC, NUMERIC)),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), (PARAM, _TEXTS)),
    **dict.fromkeys(("tag", "tags"), (TAG, _TEXTS)),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), (ATTRIBUTE, EQUAL)),
    **dict.fromkeys(("dataset", "datasets"), (DATASET, LISTED)),
}
_COLUMNS: dict[str, ColumnElement[Any]] = {
    "run_id": runs.c.run_id,
    "run_name": runs.c.name,
    "status": runs.c.status,
    "artifact_uri": runs.c.artifact_uri,
    "user_id": runs.c.user_id,
    "start_time": runs.c.start_time,
    "end_time": runs.c.end_time,
    # How MLflow's pages of old called them.
    **dict.fromkeys(("Run name", "run name", "Run Name"), runs.c.name),
    **dict.fromkeys(("created", "Created"), runs.c.start_time),
}
_ATTRIBUTES = {
    key: NUMERIC if column in (runs.c.start_time, runs.c.end_time) else TEXTUAL for key, column in _COLUMNS.items()
} | {"run_id": LISTED}
_DATASET_COLUMNS = {
    "name": run_datasets.c.name,
    "digest": run_datasets.c.digest,
    "context": run_datasets.c.context,
}


@dataclass(frozen=True, slots=True)
class RunQuery:
    """One page of a search among runs."""

    experiment_ids: Sequence[int]
    stages: Sequence[str]
    comparisons: tuple[Comparison, ...]
    order: tuple[tuple[str, str, bool], ...]
    limit: int
    offset: int


def run_query(
    experiment_ids: Sequence[int],
    stages: Sequence[str],
    filter_string: str | None,
    max_results: int,
    order_by: Sequence[str] | None,
    page_token: str | None,
) -> RunQuery:
    comparisons = parse_filter(filter_string, _ATTRIBUTES, _PREFIXES, MAX_TIME)
    for each in comparisons:
        if each.entity == DATASET and each.key not in _DATASET_COLUMNS:
            raise InvalidParameter(
                f"invalid dataset key {shown(each.key)}: valid keys are {', '.join(_DATASET_COLUMNS)}"
            )
    order = parse_order_keys(order_by, _ATTRIBUTES, _PREFIXES)
    if any(entity == DATASET for entity, _, _ in order):
        raise InvalidParameter("runs cannot be ordered by their datasets: order by metrics, params, tags or attributes")
    limit = check_max_results(max_results, MAX_PAGE)
    return RunQuery(experiment_ids, stages, comparisons, order, limit, read_page_token(page_token, "offset") or 0)


def find_runs(connection: Connection, query: RunQuery) -> Page[Run]:
    if not query.experiment_ids:
        return Page()
    statement = SELECT_RUN.where(
        runs.c.experiment_id.in_(query.experiment_ids),
        runs.c.lifecycle_stage.in_(query.stages),
        *(_condition(each, connection.dialect.name) for each in query.comparisons),
    )
    statement = _ordered(statement, query.order).limit(query.limit + 1).offset(query.offset)
    rows = connection.execute(statement).all()
    token = write_page_token("offset", query.offset + query.limit) if len(rows) > query.limit else None
    return Page(as_runs(connection, rows[: query.limit]), token)


def _condition(each: Comparison, dialect: str) -> ColumnElement[bool]:
    if each.entity == ATTRIBUTE:
        return condition(_COLUMNS[each.key], each, dialect)
    if each.entity == METRIC:
        return _condition_on_metric(each, dialect)
    if each.entity == DATASET:
        same = run_datasets.c.run_id == runs.c.run_id
        return exists().where(same, condition(_DATASET_COLUMNS[each.key], each, dialect))
    table = params if each.entity == PARAM else run_tags
    this = and_(table.c.run_id == runs.c.run_id, table.c.key == each.key)
    if each.operator in ABSENT:
        return exists().where(this) if each.operator == "IS NOT NULL" else ~exists().where(this)
    return exists().where(this, condition(table.c.value, each, dialect))


def _condition_on_metric(each: Comparison, dialect: str) -> ColumnElement[bool]:
    """What is not a number differs from every number, and is neither more nor less."""
    holds = condition(latest_metrics.c.value, each, dialect)
    is_nan = latest_metrics.c.is_nan
    holds = or_(holds, is_nan) if each.operator == "!=" else and_(holds, ~is_nan)
    return exists().where(latest_metrics.c.run_id == runs.c.run_id, latest_metrics.c.key == each.key, holds)


def _ordered(statement: Select[Any], order: tuple[tuple[str, str, bool], ...]) -> Select[Any]:
    """Runs without the value come last, whichever way; ties go by start time and id, so that pages never overlap."""
    clauses: list[ColumnElement[Any]] = []
    for entity, key, descends in order:
        if entity == ATTRIBUTE:
            column = _COLUMNS[key]
            clauses.append(case((column.is_(None), 1), else_=0))
        else:
            table = {METRIC: latest_metrics, PARAM: params, TAG: run_tags}[entity].alias()
            statement = statement.outerjoin(table, and_(table.c.run_id == runs.c.run_id, table.c.key == key))
            column = table.c.value
            is_nan = [(table.c.is_nan, 1)] if entity == METRIC else []
            clauses.append(case(*is_nan, (column.is_(None), 2), else_=0))
        clauses.append(column.desc() if descends else column.asc())
    if not any(_COLUMNS.get(key) is runs.c.start_time for entity, key, _ in order if entity == ATTRIBUTE):
        clauses.append(runs.c.start_time.desc())
    return statement.select_from(runs).order_by(*clauses, runs.c.run_id)
