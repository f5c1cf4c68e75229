"""Metrics: every measured value, the latest of each key, and the history."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, select, text

from registry.errors import NotFound
from registry.page import Page
from registry.sql.paging import write_page_token
from registry.sql.schema import logged_models
from registry.sql.schema_tracking import latest_metrics, logged_model_metrics, metrics
from registry.tracking import Metric

LARGEST = 1.7976931348623157e308
IDS_PER_STATEMENT = 1_000

# PostgreSQL takes arrays as rows: one statement for a thousand values, which is several times as fast there.
_ROWS = {
    "sqlite": "VALUES (:run_id, :key, :value, :is_nan, :timestamp, :step)",
    "postgresql": "SELECT CAST(:run_id AS text), given.* FROM unnest(CAST(:key AS text[]), "
    "CAST(:value AS double precision[]), CAST(:is_nan AS boolean[]), CAST(:timestamp AS bigint[]), "
    "CAST(:step AS bigint[])) AS given",
}
_ADD = {
    dialect: text(
        f"INSERT INTO turnout_metrics (run_id, key, value, is_nan, timestamp, step) {rows} ON CONFLICT DO NOTHING"
    )
    for dialect, rows in _ROWS.items()
}
_RAISE_LATEST = {
    dialect: text(
        f"INSERT INTO turnout_latest_metrics AS latest (run_id, key, value, is_nan, timestamp, step) {rows} "
        "ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value, is_nan = excluded.is_nan, "
        "timestamp = excluded.timestamp, step = excluded.step "
        "WHERE (excluded.step, excluded.timestamp, excluded.value) > (latest.step, latest.timestamp, latest.value)"
    )
    for dialect, rows in _ROWS.items()
}
_ADD_TO_MODEL = text(
    "INSERT INTO turnout_logged_model_metrics "
    "(model_id, key, value, is_nan, timestamp, step, run_id, dataset_name, dataset_digest) "
    "VALUES (:model_id, :key, :value, :is_nan, :timestamp, :step, :run_id, :dataset_name, :dataset_digest) "
    "ON CONFLICT DO NOTHING"
)
_LATEST = (
    select(
        latest_metrics.c.run_id,
        latest_metrics.c.key,
        latest_metrics.c.value,
        latest_metrics.c.is_nan,
        latest_metrics.c.timestamp,
        latest_metrics.c.step,
    )
    .where(latest_metrics.c.run_id.in_(bindparam("ids", expanding=True)))
    .order_by(latest_metrics.c.run_id, latest_metrics.c.key)
)
_OF_MODELS = (
    select(logged_model_metrics)
    .where(logged_model_metrics.c.model_id.in_(bindparam("ids", expanding=True)))
    .order_by(
        logged_model_metrics.c.model_id,
        logged_model_metrics.c.key,
        logged_model_metrics.c.timestamp,
        logged_model_metrics.c.step,
    )
)
_HISTORY = (
    select(metrics.c.key, metrics.c.value, metrics.c.is_nan, metrics.c.timestamp, metrics.c.step)
    .where(metrics.c.run_id == bindparam("run_id"), metrics.c.key == bindparam("key"))
    .order_by(metrics.c.timestamp, metrics.c.step, metrics.c.value, metrics.c.is_nan)
)
_KNOWN_MODELS = select(logged_models.c.model_id).where(
    logged_models.c.model_id.in_(bindparam("ids", expanding=True)), ~logged_models.c.is_deleted
)


def add_metrics(connection: Connection, run_id: str, measured: Sequence[Metric]) -> None:
    """Keep values of one run. The same value again is not kept twice; the latest of each key is found."""
    rows = [metric_row(run_id, each) for each in measured]
    latest: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["key"] not in latest or _age(row) > _age(latest[row["key"]]):
            latest[row["key"]] = row
    of_models = [row for row in rows if row["model_id"] is not None]
    _check_known(connection, {row["model_id"] for row in of_models})
    _insert(connection, _ADD, rows)
    # In one order everywhere, so that two writers of one run never wait for each other in a circle.
    _insert(connection, _RAISE_LATEST, [latest[key] for key in sorted(latest)])
    if of_models:
        connection.execute(_ADD_TO_MODEL, of_models)


def read_latest_metrics(connection: Connection, run_ids: Sequence[str]) -> dict[str, list[Metric]]:
    """The latest value of every key, by run."""
    found: dict[str, list[Metric]] = defaultdict(list)
    for ids in chunks(run_ids):
        for run_id, key, value, is_nan, timestamp, step in connection.execute(_LATEST, {"ids": ids}):
            found[run_id].append(Metric(key, math.nan if is_nan else value, timestamp, step))
    return found


def read_metrics_of_models(connection: Connection, model_ids: Sequence[str]) -> dict[str, list[Metric]]:
    """Every value that was measured on a logged model, by model."""
    found: dict[str, list[Metric]] = defaultdict(list)
    for ids in chunks(model_ids):
        for row in connection.execute(_OF_MODELS, {"ids": ids}):
            value = math.nan if row.is_nan else row.value
            found[row.model_id].append(
                Metric(
                    key=row.key,
                    value=value,
                    timestamp=row.timestamp,
                    step=row.step,
                    model_id=row.model_id,
                    dataset_name=row.dataset_name,
                    dataset_digest=row.dataset_digest,
                    run_id=row.run_id,
                )
            )
    return found


def read_history(connection: Connection, run_id: str, key: str, limit: int | None, offset: int) -> Page[Metric]:
    """Every value of a key, oldest first. The caller has seen to it that the run exists."""
    statement = _HISTORY if limit is None else _HISTORY.limit(limit + 1)
    statement = statement.offset(offset) if offset else statement
    rows = connection.execute(statement, {"run_id": run_id, "key": key}).all()
    is_more = limit is not None and len(rows) > limit
    token = write_page_token("offset", offset + limit) if is_more and limit is not None else None
    values = [
        Metric(key, math.nan if is_nan else value, timestamp, step)
        for key, value, is_nan, timestamp, step in rows[:limit]
    ]
    return Page(values, token)


def chunks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """Parts that are short enough for one statement's parameters."""
    for start in range(0, len(ids), IDS_PER_STATEMENT):
        yield ids[start : start + IDS_PER_STATEMENT]


def _insert(connection: Connection, statements: Mapping[str, TextClause], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows of one run."""
    statement = statements[connection.dialect.name]
    if connection.dialect.name == "sqlite":
        connection.execute(statement, rows)
        return
    columns = {name: [row[name] for row in rows] for name in ("key", "value", "is_nan", "timestamp", "step")}
    connection.execute(statement, {"run_id": rows[0]["run_id"], **columns})


def _check_known(connection: Connection, model_ids: set[str]) -> None:
    if not model_ids:
        return
    known = set(connection.execute(_KNOWN_MODELS, {"ids": list(model_ids)}).scalars())
    if unknown := model_ids - known:
        raise NotFound(f"Logged model with ID '{min(unknown)}' not found: log it before its metrics.")


def metric_row(run_id: str, metric: Metric) -> dict[str, Any]:
    """Databases hold no NaN beside numbers and no infinity: zero and a mark, and the largest double, stand for them."""
    is_nan = math.isnan(metric.value)
    return {
        "run_id": run_id,
        "key": metric.key,
        "value": 0.0 if is_nan else max(-LARGEST, min(LARGEST, metric.value)),
        "is_nan": is_nan,
        "timestamp": metric.timestamp,
        "step": metric.step,
        "model_id": metric.model_id,
        "dataset_name": metric.dataset_name,
        "dataset_digest": metric.dataset_digest,
    }


def _age(row: dict[str, Any]) -> tuple[int, int, float]:
    return row["step"], row["timestamp"], row["value"]
