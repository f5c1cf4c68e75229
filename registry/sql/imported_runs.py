"""What an import puts beside models: experiments, runs, metrics and logged models. Functions on a connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, text, update

from registry.sql.database import Transaction
from registry.sql.lineage import INPUT, OUTPUT, add_datasets
from registry.sql.metrics import add_metrics, metric_row
from registry.sql.schema import logged_models
from registry.sql.schema_tracking import experiments, runs
from registry.tracking import Experiment, LoggedModel, Metric, Run

LARGEST_ID = 2**63 - 1

_SET_PAIR = {
    table: text(
        f"INSERT INTO {table} ({owner}, key, value) VALUES (:owner, :key, :value) "
        f"ON CONFLICT ({owner}, key) DO UPDATE SET value = excluded.value"
    )
    for table, owner in (
        ("turnout_experiment_tags", "experiment_id"),
        ("turnout_run_tags", "run_id"),
        ("turnout_params", "run_id"),
        ("turnout_logged_model_tags", "model_id"),
        ("turnout_logged_model_params", "model_id"),
    )
}
# Unlike `lineage.add_links`, also to logged models that are deleted over there, and so never come here.
_SET_LINK = text(
    "INSERT INTO turnout_run_models (run_id, direction, model_id, step) "
    "VALUES (:run_id, :direction, :model_id, :step) "
    "ON CONFLICT (run_id, direction, model_id) DO UPDATE SET step = excluded.step"
)
_ADD_TO_MODEL = text(
    "INSERT INTO turnout_logged_model_metrics "
    "(model_id, key, value, is_nan, timestamp, step, run_id, dataset_name, dataset_digest) "
    "VALUES (:model_id, :key, :value, :is_nan, :timestamp, :step, :run_id, :dataset_name, :dataset_digest) "
    "ON CONFLICT DO NOTHING"
)
# PostgreSQL's own numbering does not see ids that were given.
_RAISE_SEQUENCE = text(
    "SELECT setval(pg_get_serial_sequence('turnout_experiments', 'id'), (SELECT max(id) FROM turnout_experiments))"
)
_BY_NAME = select(experiments).where(experiments.c.name == bindparam("name"))
_BY_ID = select(experiments).where(experiments.c.id == bindparam("id"))


def put_experiment(transaction: Transaction, experiment: Experiment) -> str:
    """The newer of two states stays. Gives its id here."""
    connection = transaction.connection
    found = _find(connection, experiment)
    if found is None:
        number = _add_experiment(connection, experiment)
    else:
        number = int(found.id)
        _update_experiment(connection, found, experiment)
    _set_pairs(connection, "turnout_experiment_tags", number, experiment.tags)
    return str(number)


def put_run(transaction: Transaction, run: Run) -> None:
    connection = transaction.connection
    row = {
        "experiment_id": int(run.experiment_id),
        "name": run.run_name,
        "user_id": run.user_id,
        "status": run.status,
        "start_time": run.start_time,
        "end_time": run.end_time,
        "artifact_uri": run.artifact_uri,
        "lifecycle_stage": run.lifecycle_stage,
    }
    if connection.execute(update(runs).where(runs.c.run_id == run.run_id).values(row)).rowcount == 0:
        connection.execute(insert(runs), {"run_id": run.run_id, **row})
    _set_pairs(connection, "turnout_run_tags", run.run_id, run.tags)
    _set_pairs(connection, "turnout_params", run.run_id, run.params)
    if run.dataset_inputs:
        add_datasets(connection, run.run_id, run.dataset_inputs)
    links = [
        {"run_id": run.run_id, "direction": direction, "model_id": each.model_id, "step": each.step}
        for direction, those in ((INPUT, run.model_inputs), (OUTPUT, run.model_outputs))
        for each in those
    ]
    if links:
        connection.execute(_SET_LINK, links)


def put_metrics(transaction: Transaction, run_id: str, measured: list[Metric]) -> None:
    if measured:
        add_metrics(transaction.connection, run_id, measured)


def put_logged_model(transaction: Transaction, model: LoggedModel) -> None:
    connection = transaction.connection
    row = {
        "name": model.name,
        "artifact_uri": model.artifact_uri,
        "status": model.status,
        "created_at": model.creation_timestamp,
        "updated_at": model.last_updated_timestamp,
        "source_run_id": model.source_run_id,
        "experiment_id": int(model.experiment_id),
        "model_type": model.model_type,
        "status_message": model.status_message,
    }
    this = logged_models.c.model_id == model.model_id
    if connection.execute(update(logged_models).where(this).values(row)).rowcount == 0:
        connection.execute(insert(logged_models), {"model_id": model.model_id, **row})
    _set_pairs(connection, "turnout_logged_model_tags", model.model_id, model.tags)
    _set_pairs(connection, "turnout_logged_model_params", model.model_id, model.params)
    named = {each.run_id for each in model.metrics}
    known = set(connection.execute(select(runs.c.run_id).where(runs.c.run_id.in_(named))).scalars())
    rows = [
        metric_row(each.run_id, each) | {"model_id": model.model_id}
        for each in model.metrics
        if each.run_id is not None and each.run_id in known
    ]
    if rows:
        connection.execute(_ADD_TO_MODEL, rows)


def _find(connection: Connection, experiment: Experiment) -> Any:
    """The same one, perhaps renamed since; or one of the same name."""
    number = _number(experiment)
    found = None if number is None else connection.execute(_BY_ID, {"id": number}).one_or_none()
    if found is not None and found.created_at == experiment.creation_time:
        return found
    return connection.execute(_BY_NAME, {"name": experiment.name}).one_or_none()


def _number(experiment: Experiment) -> int | None:
    text = experiment.experiment_id
    return int(text) if text.isascii() and text.isdecimal() and int(text) <= LARGEST_ID else None


def _add_experiment(connection: Connection, experiment: Experiment) -> int:
    row: dict[str, Any] = {
        "name": experiment.name,
        "artifact_location": "",
        "lifecycle_stage": experiment.lifecycle_stage,
        "created_at": experiment.creation_time,
        "updated_at": experiment.last_update_time,
    }
    number = _number(experiment)
    if number is not None and connection.execute(_BY_ID, {"id": number}).one_or_none() is None:
        row["id"] = number
    (id,) = connection.execute(insert(experiments), row).inserted_primary_key or (0,)
    if "id" in row and connection.dialect.name == "postgresql":
        connection.execute(_RAISE_SEQUENCE)
    location = {"artifact_location": f"mlflow-artifacts:/{id}"}
    connection.execute(update(experiments).where(experiments.c.id == id).values(location))
    return int(id)


def _update_experiment(connection: Connection, found: Any, experiment: Experiment) -> None:
    """Its older birth and its newer state stay: the one that every registry begins with is met here too."""
    changed: dict[str, Any] = {"created_at": min(found.created_at, experiment.creation_time)}
    if experiment.last_update_time > found.updated_at:
        changed |= {"lifecycle_stage": experiment.lifecycle_stage, "updated_at": experiment.last_update_time}
        if connection.execute(_BY_NAME, {"name": experiment.name}).one_or_none() is None:
            changed["name"] = experiment.name
    connection.execute(update(experiments).where(experiments.c.id == found.id).values(changed))


def _set_pairs(connection: Connection, table: str, owner: object, pairs: Mapping[str, str]) -> None:
    if pairs:
        rows = [{"owner": owner, "key": key, "value": pairs[key]} for key in sorted(pairs)]
        connection.execute(_SET_PAIR[table], rows)
