"""Logged models in the database: a model's files under an id, from which versions are made."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex

from sqlalchemy import Connection, bindparam, insert, select, update

from registry.errors import InvalidParameter, NotFound
from registry.names import (
    MAX_NAME_CHARS,
    MAX_RUN_ID_CHARS,
    check_model_id,
    check_optional_text,
    check_tags,
    check_text,
    shown,
)
from registry.sql.database import Database, Transaction
from registry.sql.schema import logged_model_tags, logged_models
from registry.tracking import LoggedModel

PENDING = "LOGGED_MODEL_PENDING"
READY = "LOGGED_MODEL_READY"
FAILED = "LOGGED_MODEL_UPLOAD_FAILED"

_FORBIDDEN = "/:.%\"'"
_BY_ID = select(logged_models).where(logged_models.c.model_id == bindparam("model_id"))
_TAGS_BY_ID = select(logged_model_tags.c.key, logged_model_tags.c.value).where(
    logged_model_tags.c.model_id == bindparam("model_id")
)


class SqlTracking:
    """`Tracking` in the registry's own database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create_logged_model(
        self, name: str, source_run_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> LoggedModel:
        check_text(name, "logged model name", MAX_NAME_CHARS)
        if not name.strip() or any(each in _FORBIDDEN for each in name):
            raise InvalidParameter(f"invalid logged model name {shown(name)}: not blank, and none of {_FORBIDDEN}")
        run_id = check_optional_text(source_run_id, "run id", MAX_RUN_ID_CHARS)
        return self._database.write(_create, name, run_id, check_tags(tags))

    def finalize_logged_model(self, model_id: str, status: str = READY) -> LoggedModel:
        if status not in {READY, FAILED}:
            raise InvalidParameter(f"a logged model ends as {READY} or {FAILED}, not as {shown(status)}")
        return self._database.write(_finalize, check_model_id(model_id), status)

    def get_logged_model(self, model_id: str) -> LoggedModel:
        return self._database.snapshot(read_logged_model, check_model_id(model_id))


def read_logged_model(connection: Connection, model_id: str) -> LoggedModel:
    row = connection.execute(_BY_ID, {"model_id": model_id}).one_or_none()
    if row is None:
        raise NotFound(f"logged model {model_id} not found: log the model first")
    return LoggedModel(
        model_id=row.model_id,
        name=row.name,
        artifact_uri=row.artifact_uri,
        status=row.status,
        creation_timestamp=row.created_at,
        last_updated_timestamp=row.updated_at,
        source_run_id=row.source_run_id,
        tags={row.key: row.value for row in connection.execute(_TAGS_BY_ID, {"model_id": model_id})},
    )


def _create(transaction: Transaction, name: str, run_id: str | None, tags: Mapping[str, str]) -> LoggedModel:
    model_id = f"m-{token_hex(16)}"
    row = {
        "model_id": model_id,
        "name": name,
        "artifact_uri": f"mlflow-artifacts:/models/{model_id}/artifacts",
        "status": PENDING,
        "created_at": transaction.now,
        "updated_at": transaction.now,
        "source_run_id": run_id,
    }
    transaction.connection.execute(insert(logged_models), row)
    if tags:
        rows = [{"model_id": model_id, "key": key, "value": value} for key, value in tags.items()]
        transaction.connection.execute(insert(logged_model_tags), rows)
    return read_logged_model(transaction.connection, model_id)


def _finalize(transaction: Transaction, model_id: str, status: str) -> LoggedModel:
    this = update(logged_models).where(logged_models.c.model_id == model_id)
    transaction.connection.execute(this.values(status=status, updated_at=transaction.now))
    return read_logged_model(transaction.connection, model_id)
