"""Logged models: a model's files under an id, from which versions are made. Functions on a connection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from registry.errors import InvalidParameter, NotFound
from registry.names import shown
from registry.sql.database import Transaction
from registry.sql.experiments import read_active_experiment
from registry.sql.metrics import read_metrics_of_models
from registry.sql.rows import json_object
from registry.sql.run_names import make_name
from registry.sql.schema import logged_model_tags, logged_models
from registry.sql.schema_tracking import logged_model_params, runs
from registry.tracking import DEFAULT_EXPERIMENT, LoggedModel

PENDING = "LOGGED_MODEL_PENDING"
READY = "LOGGED_MODEL_READY"
FAILED = "LOGGED_MODEL_UPLOAD_FAILED"
ENDS = (READY, FAILED)
VERSIONS_TAG = "mlflow.modelVersions"

_decode_texts = msgspec.json.Decoder(dict[str, str]).decode


def _of_model(table: Any) -> Any:
    same = table.c.model_id == logged_models.c.model_id
    return select(json_object(table.c.key, table.c.value)).where(same).correlate(logged_models)


SELECT_LOGGED_MODEL = select(
    logged_models.c.model_id,
    logged_models.c.name,
    logged_models.c.artifact_uri,
    logged_models.c.status,
    logged_models.c.created_at,
    logged_models.c.updated_at,
    logged_models.c.source_run_id,
    logged_models.c.experiment_id,
    logged_models.c.model_type,
    logged_models.c.status_message,
    _of_model(logged_model_tags).scalar_subquery().label("tags"),
    _of_model(logged_model_params).scalar_subquery().label("params"),
)
_BY_ID = SELECT_LOGGED_MODEL.where(logged_models.c.model_id == bindparam("model_id"), ~logged_models.c.is_deleted)
_READY_OF_RUN = (
    SELECT_LOGGED_MODEL.where(
        logged_models.c.source_run_id == bindparam("run_id"),
        logged_models.c.name == bindparam("name"),
        logged_models.c.status == READY,
        ~logged_models.c.is_deleted,
    )
    .order_by(logged_models.c.created_at.desc(), logged_models.c.model_id)
    .limit(100)
)
_SET_TAG = text(
    "INSERT INTO turnout_logged_model_tags (model_id, key, value) VALUES (:model_id, :key, :value) "
    "ON CONFLICT (model_id, key) DO UPDATE SET value = excluded.value"
)
_ADD_PARAM = text(
    "INSERT INTO turnout_logged_model_params (model_id, key, value) VALUES (:model_id, :key, :value) "
    "ON CONFLICT DO NOTHING"
)
_PARAMS = select(logged_model_params.c.key, logged_model_params.c.value).where(
    logged_model_params.c.model_id == bindparam("model_id"),
    logged_model_params.c.key.in_(bindparam("keys", expanding=True)),
)
_VERSIONS_TAG = (
    select(logged_model_tags.c.value)
    .where(logged_model_tags.c.model_id == bindparam("model_id"), logged_model_tags.c.key == VERSIONS_TAG)
    .with_for_update()
)
_EXPERIMENT_OF_RUN = select(runs.c.experiment_id).where(runs.c.run_id == bindparam("run_id"))


def create_logged_model(
    transaction: Transaction,
    name: str | None,
    run_id: str | None,
    experiment_id: int | None,
    tags: Mapping[str, str],
    params: Mapping[str, str],
    model_type: str | None,
) -> LoggedModel:
    connection = transaction.connection
    if experiment_id is None:
        found = connection.execute(_EXPERIMENT_OF_RUN, {"run_id": run_id}).scalar()
        experiment_id = int(DEFAULT_EXPERIMENT) if found is None else int(found)
    experiment = read_active_experiment(connection, experiment_id)
    model_id = f"m-{token_hex(16)}"
    row = {
        "model_id": model_id,
        "name": name or make_name(),
        "artifact_uri": f"{experiment.artifact_location}/models/{model_id}/artifacts",
        "status": PENDING,
        "created_at": transaction.now,
        "updated_at": transaction.now,
        "source_run_id": run_id,
        "experiment_id": experiment_id,
        "model_type": model_type,
    }
    connection.execute(insert(logged_models), row)
    for table, values in ((logged_model_tags, tags), (logged_model_params, params)):
        if values:
            connection.execute(insert(table), _rows(model_id, values))
    return read_logged_model(connection, model_id)


def read_logged_model(connection: Connection, model_id: str) -> LoggedModel:
    row = connection.execute(_BY_ID, {"model_id": model_id}).one_or_none()
    if row is None:
        raise _no_such_model(model_id)
    return as_logged_models(connection, [row])[0]


def read_ready_models_of_run(connection: Connection, run_id: str, name: str) -> list[LoggedModel]:
    """What a run logged under a name, newest first."""
    rows = connection.execute(_READY_OF_RUN, {"run_id": run_id, "name": name}).all()
    return as_logged_models(connection, rows)


def as_logged_models(connection: Connection, rows: Sequence[Any]) -> list[LoggedModel]:
    """Rows of `SELECT_LOGGED_MODEL`, with everything that was measured on them."""
    measured = read_metrics_of_models(connection, [row.model_id for row in rows])
    return [
        LoggedModel(
            model_id=row.model_id,
            name=row.name,
            artifact_uri=row.artifact_uri,
            status=row.status,
            creation_timestamp=row.created_at,
            last_updated_timestamp=row.updated_at,
            source_run_id=row.source_run_id,
            tags=_decode_texts(row.tags) if row.tags else {},
            experiment_id=str(row.experiment_id),
            model_type=row.model_type,
            status_message=row.status_message,
            params=_decode_texts(row.params) if row.params else {},
            metrics=measured.get(row.model_id, ()),
        )
        for row in rows
    ]


def finalize_logged_model(transaction: Transaction, model_id: str, status: str) -> LoggedModel:
    _change(transaction, model_id, status=status, updated_at=transaction.now)
    return read_logged_model(transaction.connection, model_id)


def delete_logged_model(transaction: Transaction, model_id: str) -> None:
    """Hide it; versions that were made from it keep their files."""
    _change(transaction, model_id, is_deleted=True, updated_at=transaction.now)


def set_logged_model_tags(transaction: Transaction, model_id: str, tags: Mapping[str, str]) -> None:
    check_logged_model(transaction.connection, model_id)
    if tags:
        transaction.connection.execute(_SET_TAG, _rows(model_id, tags))


def delete_logged_model_tag(transaction: Transaction, model_id: str, key: str) -> None:
    check_logged_model(transaction.connection, model_id)
    this = (logged_model_tags.c.model_id == model_id) & (logged_model_tags.c.key == key)
    if not transaction.connection.execute(delete(logged_model_tags).where(this)).rowcount:
        raise NotFound(f"No tag with key {shown(key)} found for model with ID '{model_id}'.")


def log_logged_model_params(transaction: Transaction, model_id: str, params: Mapping[str, str]) -> None:
    """Add params; one that has another value already is refused."""
    connection = transaction.connection
    check_logged_model(connection, model_id)
    if not params:
        return
    connection.execute(_ADD_PARAM, _rows(model_id, params))
    for key, value in connection.execute(_PARAMS, {"model_id": model_id, "keys": list(params)}):
        if value != params[key]:
            raise InvalidParameter(
                f"Changing param values is not allowed. Param with key={shown(key)} was already logged with "
                f"value={shown(value)} for model ID='{model_id}'. Attempted logging new value {shown(params[key])}."
            )


def note_version(connection: Connection, model_id: str, name: str, number: int) -> None:
    """Append a version to the list in the logged model's tag, where MLflow's pages look for it."""
    before = connection.execute(_VERSIONS_TAG, {"model_id": model_id}).scalar()
    try:
        versions = json.loads(before or "[]")
    except ValueError:
        versions = []
    kept = [*(versions if isinstance(versions, list) else []), {"name": name, "version": number}]
    connection.execute(_SET_TAG, {"model_id": model_id, "key": VERSIONS_TAG, "value": json.dumps(kept)})


def check_logged_model(connection: Connection, model_id: str) -> None:
    """Raises `NotFound` unless it is there."""
    this = select(logged_models.c.model_id).where(logged_models.c.model_id == model_id, ~logged_models.c.is_deleted)
    if connection.execute(this).first() is None:
        raise _no_such_model(model_id)


def _change(transaction: Transaction, model_id: str, **values: object) -> None:
    this = update(logged_models).where(logged_models.c.model_id == model_id, ~logged_models.c.is_deleted)
    if not transaction.connection.execute(this.values(**values)).rowcount:
        raise _no_such_model(model_id)


def _rows(model_id: str, values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"model_id": model_id, "key": key, "value": values[key]} for key in sorted(values)]


def _no_such_model(model_id: str) -> NotFound:
    return NotFound(f"Logged model with ID '{model_id}' not found: log the model first.")
