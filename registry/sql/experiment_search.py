"""Searches among experiments: MLflow's filters and orders as SQL with bound parameters, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists

from registry.page import Page
from registry.sql.conditions import condition
from registry.sql.experiments import SELECT_EXPERIMENT, as_experiment
from registry.sql.grammar import (
    ABSENT,
    ATTRIBUTE,
    NUMERIC,
    TAG,
    TEXTUAL,
    Comparison,
    parse_filter,
    parse_order_keys,
)
from registry.sql.paging import check_max_results, read_page_token, write_page_token
from registry.sql.schema_tracking import experiment_tags, experiments
from registry.tracking import Experiment

MAX_PAGE = 50_000
MAX_TIME = 2**63 - 1

_TEXTS = TEXTUAL | ABSENT
_PREFIXES = {
    **dict.fromkeys(("tag", "tags"), (TAG, _TEXTS)),
    **dict.fromkeys(("attribute", "attributes"), (ATTRIBUTE, TEXTUAL)),
}
_ORDER_PREFIXES = {"attribute": (ATTRIBUTE, TEXTUAL), "attributes": (ATTRIBUTE, TEXTUAL)}
_COLUMNS: dict[str, ColumnElement[Any]] = {
    "name": experiments.c.name,
    "creation_time": experiments.c.created_at,
    "last_update_time": experiments.c.updated_at,
    "experiment_id": experiments.c.id,
}
_ATTRIBUTES = {"name": TEXTUAL, "creation_time": NUMERIC, "last_update_time": NUMERIC}
_ORDER_KEYS = {**_ATTRIBUTES, "experiment_id": NUMERIC}


@dataclass(frozen=True, slots=True)
class ExperimentQuery:
    """One page of a search among experiments."""

    stages: Sequence[str]
    comparisons: tuple[Comparison, ...]
    order: tuple[tuple[str, str, bool], ...]
    limit: int
    offset: int


def experiment_query(
    stages: Sequence[str],
    max_results: int,
    filter_string: str | None,
    order_by: Sequence[str] | None,
    page_token: str | None,
) -> ExperimentQuery:
    order = parse_order_keys(order_by, _ORDER_KEYS, _ORDER_PREFIXES) or ((ATTRIBUTE, "creation_time", True),)
    # What decides between equals, so that pages never overlap: as MLflow, the other way round when an order is given.
    if not any(key == "experiment_id" for _, key, _ in order):
        order = (*order, (ATTRIBUTE, "experiment_id", bool(order_by)))
    return ExperimentQuery(
        stages,
        parse_filter(filter_string, _ATTRIBUTES, _PREFIXES, MAX_TIME),
        order,
        check_max_results(max_results, MAX_PAGE),
        read_page_token(page_token, "offset") or 0,
    )


def find_experiments(connection: Connection, query: ExperimentQuery) -> Page[Experiment]:
    statement = (
        SELECT_EXPERIMENT.where(
            experiments.c.lifecycle_stage.in_(query.stages),
            *(_condition(each, connection.dialect.name) for each in query.comparisons),
        )
        .order_by(*(_COLUMNS[key].desc() if descends else _COLUMNS[key].asc() for _, key, descends in query.order))
        .limit(query.limit + 1)
        .offset(query.offset)
    )
    rows = connection.execute(statement).all()
    token = write_page_token("offset", query.offset + query.limit) if len(rows) > query.limit else None
    return Page([as_experiment(row) for row in rows[: query.limit]], token)


def _condition(each: Comparison, dialect: str) -> ColumnElement[bool]:
    if each.entity == ATTRIBUTE:
        return condition(_COLUMNS[each.key], each, dialect)
    this = and_(experiment_tags.c.experiment_id == experiments.c.id, experiment_tags.c.key == each.key)
    if each.operator in ABSENT:
        return exists().where(this) if each.operator == "IS NOT NULL" else ~exists().where(this)
    return exists().where(this, condition(experiment_tags.c.value, each, dialect))
