"""Searches among logged models: MLflow's filters and orders as SQL with bound parameters, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, or_, select

from registry.errors import InvalidParameter
from registry.names import check_text, shown
from registry.page import Page
from registry.sql.conditions import condition
from registry.sql.grammar import ATTRIBUTE, LISTED, METRIC, NUMERIC, PARAM, TAG, Comparison, parse_filter
from registry.sql.logged_models import SELECT_LOGGED_MODEL, as_logged_models
from registry.sql.paging import check_max_results, read_page_token, write_page_token
from registry.sql.schema import logged_model_tags, logged_models
from registry.sql.schema_tracking import logged_model_metrics, logged_model_params
from registry.tracking import LoggedModel

MAX_PAGE = 10_000
MAX_ORDER_KEYS = 10
MAX_TIME = 2**63 - 1

_PREFIXES = {
    "metrics": (METRIC, NUMERIC),
    "params": (PARAM, LISTED),
    "tags": (TAG, LISTED),
    "attribute": (ATTRIBUTE, LISTED),
    "attributes": (ATTRIBUTE, LISTED),
}
_CREATED = logged_models.c.created_at
_UPDATED = logged_models.c.updated_at
_COLUMNS: dict[str, ColumnElement[Any]] = {
    "name": logged_models.c.name,
    "model_id": logged_models.c.model_id,
    "model_type": logged_models.c.model_type,
    "status": logged_models.c.status,
    "source_run_id": logged_models.c.source_run_id,
    "experiment_id": logged_models.c.experiment_id,
    **dict.fromkeys(("creation_timestamp", "creation_timestamp_ms", "creation_time"), _CREATED),
    **dict.fromkeys(("last_updated_timestamp", "last_updated_timestamp_ms"), _UPDATED),
}
_NUMBERS = (_CREATED, _UPDATED, logged_models.c.experiment_id)
_ATTRIBUTES = {key: NUMERIC if any(column is each for each in _NUMBERS) else LISTED for key, column in _COLUMNS.items()}


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One thing to order by: a column, or the latest value of a metric, perhaps on one dataset."""

    key: str
    is_metric: bool
    ascending: bool
    dataset_name: str | None = None
    dataset_digest: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedModelQuery:
    """One page of a search among logged models."""

    experiment_ids: Sequence[int]
    comparisons: tuple[Comparison, ...]
    order: tuple[OrderKey, ...]
    datasets: tuple[tuple[str, str | None], ...]
    limit: int
    offset: int


def logged_model_query(
    experiment_ids: Sequence[int],
    filter_string: str | None,
    max_results: int,
    order_by: Sequence[Mapping[str, object]] | None,
    page_token: str | None,
    datasets: Sequence[Mapping[str, object]] | None = None,
) -> LoggedModelQuery:
    return LoggedModelQuery(
        experiment_ids,
        parse_filter(filter_string, _ATTRIBUTES, _PREFIXES, MAX_TIME),
        _parse_order(order_by or ()),
        tuple(_parse_dataset(each) for each in datasets or ()),
        check_max_results(max_results, MAX_PAGE),
        read_page_token(page_token, "offset") or 0,
    )


def find_logged_models(connection: Connection, query: LoggedModelQuery) -> Page[LoggedModel]:
    if not query.experiment_ids:
        return Page()
    measured_on = _on_datasets(query.datasets)
    conditions = [_condition(each, measured_on, connection.dialect.name) for each in query.comparisons]
    if query.datasets and not any(each.entity == METRIC for each in query.comparisons):
        conditions.append(exists().where(logged_model_metrics.c.model_id == logged_models.c.model_id, *measured_on))
    statement = SELECT_LOGGED_MODEL.where(
        logged_models.c.experiment_id.in_(query.experiment_ids), ~logged_models.c.is_deleted, *conditions
    )
    rows = connection.execute(_ordered(statement, query.order).limit(query.limit + 1).offset(query.offset)).all()
    token = write_page_token("offset", query.offset + query.limit) if len(rows) > query.limit else None
    return Page(as_logged_models(connection, rows[: query.limit]), token)


def _parse_order(order_by: Sequence[Mapping[str, object]]) -> tuple[OrderKey, ...]:
    if isinstance(order_by, str | Mapping) or len(order_by) > MAX_ORDER_KEYS:
        raise InvalidParameter(f"order_by must be a list of at most {MAX_ORDER_KEYS} objects with a field_name")
    return tuple(_parse_order_key(each) for each in order_by)


def _parse_order_key(given: Mapping[str, object]) -> OrderKey:
    if not isinstance(given, Mapping):
        raise InvalidParameter(f"an order_by of logged models is an object with a field_name, got {shown(given)}")
    field = check_text(given.get("field_name"), "field_name", 400)
    ascending = given.get("ascending")
    if not isinstance(ascending, bool | None):
        raise InvalidParameter(f"ascending must be true or false, got {shown(ascending)}")
    names = [
        check_text(each, "dataset of an order_by", 500) if each is not None else None
        for each in (given.get("dataset_name"), given.get("dataset_digest"))
    ]
    is_metric = field.startswith("metrics.")
    if not is_metric and field not in _COLUMNS:
        raise InvalidParameter(
            f"invalid order by field name {shown(field)}: it must be metrics.<key>, or one of {', '.join(_COLUMNS)}"
        )
    key = field.removeprefix("metrics.").strip("`") if is_metric else field
    return OrderKey(key, is_metric, ascending is not False, *names)


def _parse_dataset(given: Mapping[str, object]) -> tuple[str, str | None]:
    if not isinstance(given, Mapping) or not given.get("dataset_name"):
        raise InvalidParameter("each of the datasets of a search must have a dataset_name")
    digest = given.get("dataset_digest")
    return (
        check_text(given["dataset_name"], "dataset name", 500),
        check_text(digest, "dataset digest", 500) if digest else None,
    )


def _on_datasets(datasets: tuple[tuple[str, str | None], ...]) -> list[ColumnElement[bool]]:
    """That a metric was measured on one of them; nothing when there are none."""
    table = logged_model_metrics.c
    each = [
        table.dataset_name == name
        if digest is None
        else and_(table.dataset_name == name, table.dataset_digest == digest)
        for name, digest in datasets
    ]
    return [or_(*each)] if each else []


def _condition(each: Comparison, measured_on: Sequence[ColumnElement[bool]], dialect: str) -> ColumnElement[bool]:
    if each.entity == ATTRIBUTE:
        return condition(_COLUMNS[each.key], each, dialect)
    tables = {METRIC: logged_model_metrics, PARAM: logged_model_params, TAG: logged_model_tags}
    table = tables[each.entity]
    wanted = [table.c.model_id == logged_models.c.model_id, table.c.key == each.key]
    if each.entity == METRIC:
        wanted += [*measured_on, ~table.c.is_nan]
    return exists().where(*wanted, condition(table.c.value, each, dialect))


def _ordered(statement: Select[Any], order: tuple[OrderKey, ...]) -> Select[Any]:
    """Models without the value come last, whichever way; ties go by the newest and the id."""
    clauses: list[ColumnElement[Any]] = []
    columns: list[ColumnElement[Any]] = []
    for each in order:
        column = _latest_metric(each) if each.is_metric else _COLUMNS[each.key]
        columns.append(column)
        clauses.append(case((column.is_(None), 1), else_=0))
        clauses.append(column.asc() if each.ascending else column.desc())
    if not any(column is _CREATED for column in columns):
        clauses.append(_CREATED.desc())
    return statement.order_by(*clauses, logged_models.c.model_id)


def _latest_metric(wanted: OrderKey) -> ColumnElement[Any]:
    table = logged_model_metrics.alias()
    given = [
        column == value
        for column, value in (
            (table.c.dataset_name, wanted.dataset_name),
            (table.c.dataset_digest, wanted.dataset_digest),
        )
        if value
    ]
    return (
        select(table.c.value)
        .where(table.c.model_id == logged_models.c.model_id, table.c.key == wanted.key, ~table.c.is_nan, *given)
        .order_by(table.c.timestamp.desc(), table.c.step.desc(), table.c.run_id)
        .limit(1)
        .correlate(logged_models)
        .scalar_subquery()
    )
