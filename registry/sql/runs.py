"""Runs: start, read, end, hide, and what is logged to them. Functions on a connection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from registry.errors import InvalidParameter, NotFound
from registry.names import shown
from registry.page import Page
from registry.sql.database import Transaction
from registry.sql.experiments import read_active_experiment
from registry.sql.lineage import INPUT, OUTPUT, add_datasets, add_links, read_datasets, read_links
from registry.sql.metrics import add_metrics, read_history, read_latest_metrics
from registry.sql.prepared import Prepared
from registry.sql.rows import json_object
from registry.sql.run_names import make_name
from registry.sql.schema_tracking import params, run_tags, runs
from registry.tracking import ACTIVE, DatasetInput, Metric, ModelLink, Run

RUN_NAME_TAG = "mlflow.runName"
LOGGED_MODELS_TAG = "mlflow.log-model.history"

_decode_texts = msgspec.json.Decoder(dict[str, str]).decode


def _of_run(table: Any) -> Any:
    return select(json_object(table.c.key, table.c.value)).where(table.c.run_id == runs.c.run_id).correlate(runs)


SELECT_RUN = select(
    runs.c.run_id,
    runs.c.name,
    runs.c.experiment_id,
    runs.c.user_id,
    runs.c.status,
    runs.c.artifact_uri,
    runs.c.lifecycle_stage,
    runs.c.start_time,
    runs.c.end_time,
    _of_run(params).scalar_subquery().label("params"),
    _of_run(run_tags).scalar_subquery().label("tags"),
)
_BY_ID = SELECT_RUN.where(runs.c.run_id == bindparam("id"))
_PLACE = Prepared(
    select(runs.c.run_id, runs.c.artifact_uri, runs.c.lifecycle_stage, runs.c.experiment_id).where(
        runs.c.run_id == bindparam("id")
    )
)
# Two writers of one list must follow each other; SQLite's always do.
_LOCK = select(runs.c.run_id).where(runs.c.run_id == bindparam("id")).with_for_update(key_share=True)
_SET_TAG = text(
    "INSERT INTO turnout_run_tags (run_id, key, value) VALUES (:run_id, :key, :value) "
    "ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value"
)
_ADD_PARAM = text(
    "INSERT INTO turnout_params (run_id, key, value) VALUES (:run_id, :key, :value) ON CONFLICT DO NOTHING"
)
_PARAMS = select(params.c.key, params.c.value).where(
    params.c.run_id == bindparam("run_id"), params.c.key.in_(bindparam("keys", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Place:
    """What the rest of the registry needs of a run."""

    run_id: str
    artifact_uri: str
    lifecycle_stage: str
    experiment_id: int


def create_run(
    transaction: Transaction,
    experiment_id: int,
    start_time: int | None,
    tags: Mapping[str, str],
    run_name: str | None,
    user_id: str | None,
) -> Run:
    """Start one in an active experiment."""
    experiment = read_active_experiment(transaction.connection, experiment_id)
    named = tags.get(RUN_NAME_TAG)
    if run_name and named and run_name != named:
        raise InvalidParameter(
            f"Both 'run_name' argument and '{RUN_NAME_TAG}' tag are specified, but with different values "
            f"(run_name={shown(run_name)}, {RUN_NAME_TAG}={shown(named)}): give one of them."
        )
    name = run_name or named or make_name()
    run_id = uuid4().hex
    run = Run(
        run_id=run_id,
        run_name=name,
        experiment_id=str(experiment_id),
        user_id=user_id if user_id is not None else transaction.actor or "",
        status="RUNNING",
        artifact_uri=f"{experiment.artifact_location}/{run_id}/artifacts",
        lifecycle_stage=ACTIVE,
        start_time=transaction.now if start_time is None else start_time,
        tags={**tags, RUN_NAME_TAG: name},
    )
    row = {
        "run_id": run_id,
        "experiment_id": experiment_id,
        "name": name,
        "user_id": run.user_id,
        "status": run.status,
        "start_time": run.start_time,
        "artifact_uri": run.artifact_uri,
        "lifecycle_stage": ACTIVE,
    }
    transaction.connection.execute(insert(runs), row)
    transaction.connection.execute(insert(run_tags), _rows(run_id, run.tags))
    return run


def read_run(connection: Connection, run_id: str) -> Run:
    row = connection.execute(_BY_ID, {"id": run_id}).one_or_none()
    if row is None:
        raise no_such_run(run_id)
    return as_runs(connection, [row])[0]


def as_runs(connection: Connection, rows: Sequence[Any]) -> list[Run]:
    """Rows of `SELECT_RUN`, with their metrics, inputs and outputs: a fixed number of statements."""
    ids = [row[0] for row in rows]
    measured = read_latest_metrics(connection, ids)
    datasets = read_datasets(connection, ids)
    links = read_links(connection, ids)
    return [
        Run(
            run_id=row[0],
            run_name=row[1],
            experiment_id=str(row[2]),
            user_id=row[3],
            status=row[4],
            artifact_uri=row[5],
            lifecycle_stage=row[6],
            start_time=row[7],
            end_time=row[8],
            params=_decode_texts(row[9]) if row[9] else {},
            tags=_decode_texts(row[10]) if row[10] else {},
            metrics=measured.get(row[0], ()),
            dataset_inputs=datasets.get(row[0], ()),
            model_inputs=links.get((row[0], INPUT), ()),
            model_outputs=links.get((row[0], OUTPUT), ()),
        )
        for row in rows
    ]


def find_run(connection: Connection, run_id: str) -> Place:
    row = _PLACE.first(connection, id=run_id)
    if row is None:
        raise no_such_run(run_id)
    return Place(*row)


def find_active_run(connection: Connection, run_id: str) -> Place:
    """One to which something can be logged."""
    found = find_run(connection, run_id)
    if found.lifecycle_stage != ACTIVE:
        raise InvalidParameter(
            f"The run {run_id} must be in the 'active' state. Current state is {found.lifecycle_stage}: "
            "restore it first."
        )
    return found


def no_such_run(run_id: str) -> NotFound:
    return NotFound(f"Run with id={run_id} not found")


def update_run(
    transaction: Transaction, run_id: str, status: str | None, name: str | None, end_time: int | None
) -> Run:
    find_active_run(transaction.connection, run_id)
    given = {"status": status, "name": name or None, "end_time": end_time}
    changed = {key: value for key, value in given.items() if value is not None}
    if changed:
        transaction.connection.execute(update(runs).where(runs.c.run_id == run_id).values(changed))
    if name:
        transaction.connection.execute(_SET_TAG, {"run_id": run_id, "key": RUN_NAME_TAG, "value": name})
    return read_run(transaction.connection, run_id)


def move_run(transaction: Transaction, run_id: str, stage: str) -> None:
    """Delete it, or bring it back; twice is the same as once."""
    this = update(runs).where(runs.c.run_id == run_id).values(lifecycle_stage=stage)
    if not transaction.connection.execute(this).rowcount:
        raise no_such_run(run_id)


def log_batch(
    transaction: Transaction,
    run_id: str,
    measured: Sequence[Metric],
    given_params: Mapping[str, str],
    tags: Mapping[str, str],
) -> None:
    connection = transaction.connection
    find_active_run(connection, run_id)
    if given_params:
        _add_params(connection, run_id, given_params)
    if measured:
        add_metrics(connection, run_id, measured)
    if tags:
        connection.execute(_SET_TAG, _rows(run_id, tags))
    if name := tags.get(RUN_NAME_TAG):
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(name=name))


def delete_tag(transaction: Transaction, run_id: str, key: str) -> None:
    find_active_run(transaction.connection, run_id)
    this = (run_tags.c.run_id == run_id) & (run_tags.c.key == key)
    if not transaction.connection.execute(delete(run_tags).where(this)).rowcount:
        raise NotFound(f"No tag with name: {key} in run with id {run_id}")


def read_metric_history(connection: Connection, run_id: str, key: str, limit: int | None, offset: int) -> Page[Metric]:
    find_run(connection, run_id)
    return read_history(connection, run_id, key, limit, offset)


def log_inputs(
    transaction: Transaction, run_id: str, datasets: Sequence[DatasetInput], models: Sequence[ModelLink]
) -> None:
    connection = transaction.connection
    find_active_run(connection, run_id)
    if datasets:
        add_datasets(connection, run_id, datasets)
    if models:
        add_links(connection, run_id, INPUT, models)


def log_outputs(transaction: Transaction, run_id: str, models: Sequence[ModelLink]) -> None:
    find_active_run(transaction.connection, run_id)
    if models:
        add_links(transaction.connection, run_id, OUTPUT, models)


def record_logged_model(transaction: Transaction, run_id: str, model: Mapping[str, Any]) -> None:
    """Append to the list in the run's tag. A tag that somebody wrote and that is no list is replaced."""
    connection = transaction.connection
    connection.execute(_LOCK, {"id": run_id})
    find_active_run(connection, run_id)
    this = (run_tags.c.run_id == run_id) & (run_tags.c.key == LOGGED_MODELS_TAG)
    before = connection.execute(select(run_tags.c.value).where(this)).scalar()
    try:
        models = json.loads(before or "[]")
    except ValueError:
        models = []
    kept = [*(models if isinstance(models, list) else []), model]
    connection.execute(_SET_TAG, {"run_id": run_id, "key": LOGGED_MODELS_TAG, "value": json.dumps(kept)})


def _add_params(connection: Connection, run_id: str, given: Mapping[str, str]) -> None:
    """Insert those that are not there, then see whether all are what was asked for: no writer can slip in between."""
    connection.execute(_ADD_PARAM, _rows(run_id, given))
    kept = connection.execute(_PARAMS, {"run_id": run_id, "keys": list(given)})
    for key, value in kept:
        if value != given[key]:
            raise InvalidParameter(
                f"Changing param values is not allowed. Param with key={shown(key)} was already logged with "
                f"value={shown(value)} for run ID='{run_id}'. Attempted logging new value {shown(given[key])}."
            )


def _rows(run_id: str, values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"run_id": run_id, "key": key, "value": values[key]} for key in sorted(values)]
